//! A checkpoint, a layout and a topic for the tests of the protocol.

use crate::config::{Column, ColumnSource, ColumnType, PartitionTime};
use crate::landing::broker::TopicView;
use crate::landing::layout::Layout;

use super::Now;
use super::checkpoint::{Checkpoint, FORMAT, LastRecord, Pending, Root};

/// Later than every time in a sample.
pub(super) fn now() -> Now {
    Now::at(1_764_000_000_000)
}

pub(super) fn column(name: &str, kind: ColumnType, nullable: bool) -> Column {
    Column {
        name: name.into(),
        source: ColumnSource::Path(vec![name.into()]),
        kind,
        nullable,
    }
}

pub(super) fn layout_of(columns: Vec<Column>) -> Layout {
    Layout {
        columns,
        extra: true,
        partition_by: Vec::new(),
        partition_time: PartitionTime::KafkaTimestamp,
    }
}

/// One required number `n`, and what is left over.
pub(super) fn layout() -> Layout {
    layout_of(vec![column("n", ColumnType::Int64, false)])
}

pub(super) fn topic() -> TopicView {
    TopicView {
        cluster_id: "cluster-1".into(),
        topic_id: "topic-1".into(),
        partitions: 4,
    }
}

pub(super) fn root(from_offset: i64, data: &str, dead_letters: &str) -> Root {
    Root {
        from_offset,
        data: data.into(),
        dead_letters: dead_letters.into(),
        columns: Vec::new(),
    }
}

pub(super) fn last_record(offset: i64) -> LastRecord {
    LastRecord {
        offset,
        timestamp_ms: 7,
        hash: 11,
    }
}

/// [100, 200) has landed, and nothing is begun.
pub(super) fn checkpoint() -> Checkpoint {
    Checkpoint {
        format: FORMAT,
        revision: 5,
        epoch: 3,
        writer: "an-older-writer".into(),
        time: "2025-01-01T00:00:00.000Z".into(),
        cluster_id: "cluster-1".into(),
        topic_id: "topic-1".into(),
        first_offset: 100,
        next_offset: 200,
        holes_to: 200,
        last: Some(last_record(199)),
        pending: None,
        partitions: 4,
        started_ms: 1_000,
        adopted: None,
        columns: super::batch::column_records(&layout()),
        roots: vec![root(100, "data", "dead")],
        stopped: None,
    }
}

/// A range [200, `end`) that was begun.
pub(super) fn pending(end: i64) -> Pending {
    Pending {
        end,
        keys: vec!["data/a".into(), "dead/a".into()],
        layout: layout(),
        gap: None,
    }
}
