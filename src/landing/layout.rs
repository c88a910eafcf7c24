//! How records become rows and where rows go: the configured layout, or the one that a checkpoint
//! pinned for a range that was begun.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit as ArrowTimeUnit};
use serde::{Deserialize, Serialize};

use crate::config::{Column, ColumnType, Config, PartitionTime, PartitionUnit, ScalarType};

/// The columns that every data file ends with.
pub const KAFKA_COLUMNS: [&str; 3] = ["kafka_partition", "kafka_offset", "kafka_timestamp"];
/// The column that keeps what no other names.
pub const EXTRA_COLUMN: &str = "_extra";

/// Columns and folders. Its JSON form is part of the bucket's format: checkpoints and footers
/// hold it, so that a replay under whatever configuration repeats it exactly.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Layout {
    /// The declared columns in the order of the files.
    pub columns: Vec<Column>,
    /// Whether `_extra` is kept.
    pub extra: bool,
    /// Hive folders, from the outermost.
    pub partition_by: Vec<PartitionUnit>,
    /// Which time the folders are made from.
    pub partition_time: PartitionTime,
}

impl Layout {
    /// The layout of a configuration.
    pub fn of(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            columns: config.table.columns.clone(),
            extra: config.table.extra,
            partition_by: config.files.partition_by.clone(),
            partition_time: config.files.partition_time.clone(),
        })
    }

    /// The schema of its data files: the declared columns, `_extra` if kept, then partition,
    /// offset and timestamp of Kafka. Every instant is in microseconds, UTC.
    pub fn schema(&self) -> SchemaRef {
        let mut fields: Vec<Field> = self
            .columns
            .iter()
            .map(|column| Field::new(&column.name, data_type(column.kind), column.nullable))
            .collect();
        if self.extra {
            fields.push(Field::new(EXTRA_COLUMN, DataType::Utf8, true));
        }
        fields.push(Field::new(KAFKA_COLUMNS[0], DataType::Int32, false));
        fields.push(Field::new(KAFKA_COLUMNS[1], DataType::Int64, false));
        fields.push(Field::new(KAFKA_COLUMNS[2], instant(), true));
        Arc::new(Schema::new(fields))
    }

    /// Position of the column `kafka_offset` in [`Layout::schema`].
    pub fn offset_column(&self) -> usize {
        self.columns.len() + usize::from(self.extra) + 1
    }

    /// Position of the column that the folders are made from.
    pub fn partition_time_column(&self) -> usize {
        match &self.partition_time {
            PartitionTime::KafkaTimestamp => self.offset_column() + 1,
            PartitionTime::Column(name) => self
                .columns
                .iter()
                .position(|column| &column.name == name)
                .unwrap_or(self.offset_column() + 1),
        }
    }
}

/// The Arrow type of a column.
pub fn data_type(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::String | ColumnType::Json => DataType::Utf8,
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Int64 => DataType::Int64,
        ColumnType::Float64 => DataType::Float64,
        ColumnType::Timestamp(_) => instant(),
        ColumnType::Binary => DataType::Binary,
        ColumnType::List(scalar) => {
            DataType::List(Arc::new(Field::new("element", scalar_type(scalar), true)))
        }
    }
}

fn scalar_type(scalar: ScalarType) -> DataType {
    match scalar {
        ScalarType::String | ScalarType::Json => DataType::Utf8,
        ScalarType::Bool => DataType::Boolean,
        ScalarType::Int64 => DataType::Int64,
        ScalarType::Float64 => DataType::Float64,
        ScalarType::Timestamp(_) => instant(),
    }
}

/// The one type that all readers take for a time.
pub fn instant() -> DataType {
    DataType::Timestamp(ArrowTimeUnit::Microsecond, Some("UTC".into()))
}
