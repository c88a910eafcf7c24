//! What is swapped into a checkpoint on the way of a batch: begun, landed, holes, stopped. Each
//! function makes the next checkpoint from the current one and raises its revision.

use crate::config::{ColumnType, ScalarType, TimeUnit};
use crate::landing::broker::TopicView;
use crate::landing::layout::Layout;

use super::Now;
use super::checkpoint::{Checkpoint, ColumnRecord, LastRecord, Pending, ROOTS_MAX, Root, Stopped};
use super::footer::{differ, is_unknown};

/// A batch about to be begun.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Intent {
    /// First offset of the range: the checkpoint's `next_offset`.
    pub start: i64,
    /// Behind the last offset of the range.
    pub end: i64,
    /// Full keys in the order in which they are created; the dead letters' is the last.
    pub keys: Vec<String>,
    /// How its records become rows.
    pub layout: Layout,
    /// The lost offsets [from, to) that the operator has given his word for.
    pub gap: Option<[i64; 2]>,
    /// Folder of the data files.
    pub data: String,
    /// Folder of the dead letters.
    pub dead_letters: String,
}

/// Why a batch cannot begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BeginRefused {
    /// The topic or the cluster is another one: claim again, which stops with the reason.
    #[error("kafka holds another log")]
    OtherLog,
    /// It does not continue the checkpoint: a message of a stage that lags behind.
    #[error("the batch begins at {start}, the checkpoint at {next_offset}")]
    NotNext {
        /// Where the batch begins.
        start: i64,
        /// Where it would have to begin.
        next_offset: i64,
    },
    /// Another range is begun already.
    #[error("another batch is pending")]
    Pending,
}

/// The checkpoint with a batch begun, before anything is uploaded. `topic` is Kafka's answer of
/// this moment: under the classic protocol a topic deleted and made anew brings neither error nor
/// rebalance.
///
/// # Errors
/// See [`BeginRefused`].
pub fn begun(
    current: &Checkpoint,
    intent: &Intent,
    topic: &TopicView,
    now: &Now,
) -> Result<Checkpoint, BeginRefused> {
    if is_other_log(current, topic) {
        return Err(BeginRefused::OtherLog);
    }
    if current.pending.is_some() {
        return Err(BeginRefused::Pending);
    }
    begin_into(written(current, now), intent, topic)
}

/// The checkpoint with the pending batch landed and, if there is one, the next begun in the same
/// swap. A gap that reaches behind the range goes on as a batch of its own: the caller passes it
/// as `next`.
///
/// # Errors
/// See [`BeginRefused`]; without a `next` there is none.
pub fn landed(
    current: &Checkpoint,
    last: Option<LastRecord>,
    next: Option<(&Intent, &TopicView)>,
    now: &Now,
) -> Result<Checkpoint, BeginRefused> {
    let mut checkpoint = written(current, now);
    if let Some(pending) = checkpoint.pending.take() {
        checkpoint.next_offset = pending.end;
        checkpoint.holes_to = checkpoint.holes_to.max(pending.end);
        checkpoint.last = last.or(checkpoint.last);
    }
    match next {
        None => Ok(checkpoint),
        Some((_, topic)) if is_other_log(&checkpoint, topic) => Err(BeginRefused::OtherLog),
        Some((intent, topic)) => begin_into(checkpoint, intent, topic),
    }
}

/// The checkpoint with offsets read up to `to` that hold nothing; `None` where it says so already.
pub fn holes(current: &Checkpoint, to: i64, now: &Now) -> Option<Checkpoint> {
    (to > current.holes_to && current.pending.is_none()).then(|| Checkpoint {
        holes_to: to,
        ..written(current, now)
    })
}

/// The checkpoint of a partition that stops; `None` where it says so already.
pub fn stopped(current: &Checkpoint, cause: &str, now: &Now) -> Option<Checkpoint> {
    let known = current
        .stopped
        .as_ref()
        .is_some_and(|stopped| stopped.cause == cause);
    (!known).then(|| Checkpoint {
        stopped: Some(Stopped {
            cause: cause.to_owned(),
            since: now.text.clone(),
        }),
        ..written(current, now)
    })
}

/// The checkpoint with the operator's word for a gap within its pending range.
pub fn with_word(current: &Checkpoint, gap: [i64; 2], now: &Now) -> Checkpoint {
    let mut checkpoint = written(current, now);
    if let Some(pending) = &mut checkpoint.pending {
        pending.gap = Some(gap);
    }
    checkpoint
}

/// The same content as a new revision at a new time.
pub fn written(current: &Checkpoint, now: &Now) -> Checkpoint {
    Checkpoint {
        revision: current.revision + 1,
        time: now.text.clone(),
        ..current.clone()
    }
}

/// Whether Kafka holds another log than the checkpoint's, by the ids. An unknown id says nothing.
pub fn is_other_log(checkpoint: &Checkpoint, topic: &TopicView) -> bool {
    differ(&checkpoint.cluster_id, &topic.cluster_id)
        || differ(&checkpoint.topic_id, &topic.topic_id)
}

/// Why this layout cannot be written into these folders behind what is there; `None`: it can.
pub fn refused_layout(
    current: &Checkpoint,
    layout: &Layout,
    data: &str,
    dead_letters: &str,
) -> Option<String> {
    let is_full = current.roots.len() >= ROOTS_MAX && !is_void(current);
    if is_full && !is_newest(current, data, dead_letters) {
        return Some(format!(
            "the folders of this group were changed {ROOTS_MAX} times already: use a new group"
        ));
    }
    let known = columns_in(current, data);
    let required = layout.columns.iter().filter(|column| !column.nullable);
    let added = required
        .map(|column| &column.name)
        .find(|name| !known.iter().any(|known| known.name == **name));
    if let Some(name) = added.filter(|_| !known.is_empty()) {
        return Some(format!(
            "column {name} is new in {data} and not nullable, but the files there do not have it: \
             make it nullable, or name another folder for store.data"
        ));
    }
    column_records(layout).into_iter().find_map(|column| {
        let known = known.iter().find(|known| known.name == column.name)?;
        (known.kind != column.kind).then(|| {
            format!(
                "column {} is {} in {data} and {} in the configuration: name another folder for \
                 store.data, or change the type back",
                column.name, known.kind, column.kind
            )
        })
    })
}

/// The columns of a layout, as a checkpoint lists them.
pub fn column_records(layout: &Layout) -> Vec<ColumnRecord> {
    let declared = layout.columns.iter().map(|column| ColumnRecord {
        name: column.name.clone(),
        kind: stored_type(column.kind).to_owned(),
    });
    let extra = layout.extra.then(|| ColumnRecord {
        name: crate::landing::layout::EXTRA_COLUMN.to_owned(),
        kind: "string".to_owned(),
    });
    declared.chain(extra).collect()
}

/// The type in the files, in the words of the configuration: how a time is read does not matter
/// there.
fn stored_type(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::String | ColumnType::Json => "string",
        ColumnType::Bool => "bool",
        ColumnType::Int64 => "int64",
        ColumnType::Float64 => "float64",
        ColumnType::Timestamp(TimeUnit::S | TimeUnit::Ms | TimeUnit::Us | TimeUnit::Rfc3339) => {
            "timestamp"
        }
        ColumnType::Binary => "binary",
        ColumnType::List(ScalarType::String | ScalarType::Json) => "list(string)",
        ColumnType::List(ScalarType::Bool) => "list(bool)",
        ColumnType::List(ScalarType::Int64) => "list(int64)",
        ColumnType::List(ScalarType::Float64) => "list(float64)",
        ColumnType::List(ScalarType::Timestamp(_)) => "list(timestamp)",
    }
}

/// Whether the newest root is these folders.
fn is_newest(checkpoint: &Checkpoint, data: &str, dead_letters: &str) -> bool {
    let root = checkpoint.roots.last();
    root.is_some_and(|root| root.data == data && root.dead_letters == dead_letters)
}

/// Whether no batch was ever begun in the newest root.
fn is_void(checkpoint: &Checkpoint) -> bool {
    let root = checkpoint.roots.last();
    let next_offset = checkpoint.next_offset;
    checkpoint.pending.is_none() && root.is_some_and(|root| root.from_offset == next_offset)
}

/// The columns ever written to a data folder, also one that was left for others; empty: none, or
/// not known.
fn columns_in<'a>(checkpoint: &'a Checkpoint, data: &str) -> &'a [ColumnRecord] {
    match checkpoint.roots.split_last() {
        Some((_, earlier)) if is_void(checkpoint) => columns_left(earlier, data),
        Some((newest, earlier)) if newest.data != data => columns_left(earlier, data),
        _ => &checkpoint.columns,
    }
}

fn columns_left<'a>(roots: &'a [Root], data: &str) -> &'a [ColumnRecord] {
    let left = roots.iter().rev().find(|root| root.data == data);
    left.map_or(&[], |root| &root.columns)
}

/// Makes these folders the newest root, from the batch on that begins at `start`, and `columns`
/// those of its data folder. A root in which no batch was begun is none.
pub fn enter_folders(
    roots: &mut Vec<Root>,
    columns: &mut Vec<ColumnRecord>,
    start: i64,
    data: &str,
    dead_letters: &str,
) {
    if roots.last().is_some_and(|root| root.from_offset == start) {
        roots.pop();
        let newest = roots.last_mut();
        *columns = newest.map_or_else(Vec::new, |root| std::mem::take(&mut root.columns));
    }
    match roots.last_mut() {
        Some(newest) if newest.data == data && newest.dead_letters == dead_letters => return,
        Some(newest) if newest.data == data => {}
        Some(newest) => {
            newest.columns = std::mem::take(columns);
            *columns = columns_left(roots, data).to_vec();
        }
        None => {}
    }
    roots.push(Root {
        from_offset: start,
        data: data.to_owned(),
        dead_letters: dead_letters.to_owned(),
        columns: Vec::new(),
    });
}

/// Adds the columns of a layout that are not known yet.
pub fn add_columns(columns: &mut Vec<ColumnRecord>, layout: &Layout) {
    for column in column_records(layout) {
        if !columns.iter().any(|known| known.name == column.name) {
            columns.push(column);
        }
    }
}

fn begin_into(
    mut checkpoint: Checkpoint,
    intent: &Intent,
    topic: &TopicView,
) -> Result<Checkpoint, BeginRefused> {
    if intent.start != checkpoint.next_offset {
        let next_offset = checkpoint.next_offset;
        return Err(BeginRefused::NotNext {
            start: intent.start,
            next_offset,
        });
    }
    if is_unknown(&checkpoint.cluster_id) {
        checkpoint.cluster_id.clone_from(&topic.cluster_id);
    }
    if is_unknown(&checkpoint.topic_id) {
        checkpoint.topic_id.clone_from(&topic.topic_id);
    }
    enter_folders(
        &mut checkpoint.roots,
        &mut checkpoint.columns,
        intent.start,
        &intent.data,
        &intent.dead_letters,
    );
    add_columns(&mut checkpoint.columns, &intent.layout);
    checkpoint.pending = Some(Pending {
        end: intent.end,
        keys: intent.keys.clone(),
        layout: intent.layout.clone(),
        gap: intent.gap,
    });
    Ok(checkpoint)
}

#[cfg(test)]
mod tests;
