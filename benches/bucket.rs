//! Writes a bucket of so many files, as the service would have landed them: what `groundtrack
//! verify` is measured on.
//!
//!     cargo run --release --example bucket -- FILE.toml [FILES] [ROWS] [PARTITIONS]
//!
//! The files go where the configuration FILE.toml says; the checkpoints are written last.

use std::error::Error;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::DataType;
use futures_util::{StreamExt, TryStreamExt, stream};
use groundtrack::config::{Config, Sources};
use groundtrack::landing::layout::Layout;
use groundtrack::landing::ledger::encode;
use groundtrack::landing::offsets::OffsetSet;
use groundtrack::landing::parquet_file::{Codec, FileWriter, fingerprint};
use groundtrack::landing::protocol::batch::column_records;
use groundtrack::landing::protocol::checkpoint::{Checkpoint, FORMAT, Root};
use groundtrack::landing::protocol::footer::{
    BatchFooter, FOOTER_FORMAT, FileFooter, Footer, Identity,
};
use groundtrack::landing::protocol::keys::Names;
use groundtrack::store::{SharedStore, open};

/// Puts at once.
const WRITERS: usize = 16;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("which configuration?")?;
    let mut number = |default: i64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (files, rows, partitions) = (number(10_000)?, number(1_000)?, number(4)? as i32);
    let sources = Sources::of_process(Some(file.into()), Vec::new());
    let config = Config::load(&sources).map_err(|mistakes| format!("{mistakes:?}"))?;
    let store = open(&config.store, None)?;
    let batches = files / i64::from(partitions);
    let all =
        (0..partitions).flat_map(|partition| (0..batches).map(move |batch| (partition, batch)));
    stream::iter(all)
        .map(|(partition, batch)| put(&config, &store, partition, batch * rows, (batch + 1) * rows))
        .buffer_unordered(WRITERS)
        .try_collect::<()>()
        .await?;
    for partition in 0..partitions {
        let body = encode(&checkpoint(&config, partition, partitions, batches * rows));
        store
            .put(&Names::of(&config).checkpoint(partition), body, None)
            .await?;
    }
    println!(
        "{} files of {rows} rows in {}",
        batches * i64::from(partitions),
        store.location()
    );
    Ok(())
}

async fn put(
    config: &Config,
    store: &SharedStore,
    partition: i32,
    start: i64,
    end: i64,
) -> Result<(), Box<dyn Error>> {
    let (names, layout) = (Names::of(config), Layout::of(config));
    let key = names.data_file("date=2026-01-01/", partition, start, end);
    let offsets = OffsetSet::from_range(start, end).digest();
    let footer = Footer {
        format: FOOTER_FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        identity: Identity {
            cluster_id: String::new(),
            topic_id: String::new(),
            topic: names.topic.clone(),
            partition,
            group: names.group.clone(),
        },
        fingerprint: fingerprint(&layout.schema()),
        file: FileFooter {
            offsets,
            rejects: 0,
            gap: None,
        },
        batch: BatchFooter {
            start,
            end,
            keys: vec![key.clone(), names.dead_letters_file(partition, start, end)],
            layout: (*layout).clone(),
            offsets,
        },
    };
    let mut writer = FileWriter::new(
        layout.schema(),
        layout.offset_column(),
        Codec::of(&config.files),
    )?;
    writer.push(rows(&layout, partition, start, end)?)?;
    store.put(&key, writer.finish(&footer)?, None).await?;
    Ok(())
}

fn rows(
    layout: &Layout,
    partition: i32,
    start: i64,
    end: i64,
) -> Result<RecordBatch, Box<dyn Error>> {
    let count = (end - start) as usize;
    let offset_column = layout.offset_column();
    let schema = layout.schema();
    let columns = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(index, field)| -> ArrayRef {
            match field.data_type() {
                DataType::Int64 if index == offset_column => {
                    Arc::new(Int64Array::from_iter_values(start..end))
                }
                DataType::Int32 => {
                    Arc::new(Int32Array::from_iter_values((0..count).map(|_| partition)))
                }
                DataType::Timestamp(..) => {
                    let times = (start..end).map(|offset| 1_767_225_600_000_000 + offset * 1000);
                    Arc::new(
                        TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"),
                    )
                }
                DataType::Float64 => {
                    let values = (start..end).map(|offset| (offset as f64 * 0.618).sin() * 90.0);
                    Arc::new(Float64Array::from_iter_values(values))
                }
                DataType::Utf8 if !field.is_nullable() => {
                    Arc::new(StringArray::from_iter_values((0..count).map(|_| "success")))
                }
                kind => new_null_array(kind, count),
            }
        });
    Ok(RecordBatch::try_new(schema.clone(), columns.collect())?)
}

fn checkpoint(config: &Config, partition: i32, partitions: i32, next_offset: i64) -> Checkpoint {
    Checkpoint {
        format: FORMAT,
        revision: 1,
        epoch: 1,
        writer: format!("bucket-{partition}"),
        time: "2026-01-01T00:00:00.000Z".to_owned(),
        cluster_id: String::new(),
        topic_id: String::new(),
        first_offset: 0,
        next_offset,
        holes_to: next_offset,
        last: None,
        pending: None,
        partitions,
        started_ms: 0,
        columns: column_records(&Layout::of(config)),
        roots: vec![Root {
            from_offset: 0,
            data: config.store.data.clone(),
            dead_letters: config.store.dead_letters.clone(),
            columns: Vec::new(),
        }],
        stopped: None,
        adopted: None,
    }
}
