//! Where a group begins that takes over from a job, and why it must not. Pure.

use std::collections::BTreeMap;

use super::ours::Existing;
use super::spark::job::Job;
use crate::landing::broker::TopicView;
use crate::landing::layout::Layout;
use crate::landing::protocol::Now;
use crate::landing::protocol::batch::column_records;
use crate::landing::protocol::checkpoint::{Adopted, Checkpoint, FORMAT, Root};
use crate::landing::protocol::keys::Names;

/// What was found out.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The job.
    pub job: &'a Job,
    /// The topic as Kafka has it.
    pub topic: &'a TopicView,
    /// First offset and end of each partition's log.
    pub logs: &'a BTreeMap<i32, (i64, i64)>,
    /// The group's checkpoints.
    pub existing: &'a Existing,
    /// An object of ours of each partition that has any.
    pub objects: &'a BTreeMap<i32, String>,
    /// The one of our folders that has a sink's log.
    pub folder_with_sink_log: Option<&'a str>,
}

/// What the configuration says.
#[derive(Debug)]
pub struct Terms<'a> {
    /// Folders and names.
    pub names: &'a Names,
    /// How records become rows.
    pub layout: &'a Layout,
    /// `(partition, first_offset)` of every `[[skip]]` of the topic.
    pub skips: &'a [(i32, i64)],
    /// Unique for this run.
    pub writer: &'a str,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// By partition of the topic.
    pub rows: Vec<Row>,
    /// The checkpoints to be made.
    pub make: Vec<(i32, Checkpoint)>,
    /// Why none is made: all that is wrong, each with how to go on.
    pub refusals: Vec<String>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub partition: i32,
    /// Where we go on; `None`: where its first claim says.
    pub offset: Option<i64>,
    /// First offset of its log.
    pub low: i64,
    /// Behind the last offset of its log.
    pub high: i64,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// A checkpoint where the job ended.
    Made,
    /// It has that checkpoint already.
    There,
    /// The job did not read it, though it knew ones of higher numbers: from the log's start.
    Unread,
    /// The job did not know it: new to the group, its first claim starts at the log's start.
    New,
}

/// Decides where to begin.
pub fn plan(evidence: &Evidence<'_>, terms: &Terms<'_>, now: &Now) -> Plan {
    let known = evidence.job.positions.last_key_value();
    let known = known.map_or(0, |(partition, _)| partition + 1);
    let mut refusals = Vec::new();
    if evidence.topic.partitions < known {
        refusals.push(format!(
            "topic {} has {} partitions, the job has read {known}: kafka holds another log; {}",
            terms.names.topic, evidence.topic.partitions, ANEW
        ));
    }
    let rows: Vec<Row> = evidence
        .logs
        .iter()
        .map(|(&partition, &(low, high))| row(evidence, known, partition, low, high))
        .collect();
    for row in &rows {
        refusals.extend(unfit(row, evidence, terms));
    }
    refusals.extend(folders(evidence, terms));
    refusals.extend(existing(evidence, terms, &rows, known));
    let make = rows
        .iter()
        .filter(|row| matches!(row.fate, Fate::Made | Fate::Unread))
        .filter_map(|row| {
            let offset = row.offset?;
            let made = checkpoint(evidence, terms, known, offset, now);
            Some((row.partition, made))
        });
    Plan {
        make: if refusals.is_empty() {
            make.collect()
        } else {
            Vec::new()
        },
        rows,
        refusals,
    }
}

const ANEW: &str = "nothing read there continues what the job landed; to land it, start with a new \
    kafka.group, store.data and store.dead_letters, without adopt";

fn adopted(job: &Job) -> Adopted {
    Adopted {
        job: job.id.clone(),
        batch: job.landed,
    }
}

fn row(evidence: &Evidence<'_>, known: i32, partition: i32, low: i64, high: i64) -> Row {
    let position = evidence.job.positions.get(&partition).copied();
    let is_there = evidence.existing.contains_key(&partition);
    let (offset, fate) = match position {
        Some(offset) if is_there => (Some(offset), Fate::There),
        Some(offset) => (Some(offset), Fate::Made),
        None if partition >= known => (None, Fate::New),
        None if is_there => (None, Fate::There),
        None => (Some(low), Fate::Unread),
    };
    Row {
        partition,
        offset,
        low,
        high,
        fate,
    }
}

/// Why a partition cannot begin where the job ended.
fn unfit(row: &Row, evidence: &Evidence<'_>, terms: &Terms<'_>) -> Option<String> {
    let (partition, topic) = (row.partition, &terms.names.topic);
    let offset = row.offset.filter(|_| row.fate == Fate::Made)?;
    if offset < 0 {
        return Some(format!(
            "partition {partition}: the job names offset {offset}, which is none"
        ));
    }
    if offset > row.high {
        return Some(format!(
            "partition {partition}: the job has read to offset {offset}, kafka's log ends at {}: \
             it is another log, or a transaction is still open (then wait for its end); {ANEW}",
            row.high
        ));
    }
    if let Some(key) = evidence.objects.get(&partition) {
        return Some(format!(
            "partition {partition}: {key} has landed already and has no checkpoint: rebuild the \
             checkpoints with adopt --from-files, or name other folders for store.data and \
             store.dead_letters"
        ));
    }
    let has_word = terms.skips.contains(&(partition, offset));
    (offset < row.low && !has_word).then(|| {
        format!(
            "partition {partition}: the job ended at offset {offset}, but kafka's log now starts at \
             {}: offsets {offset} to {} are lost (retention) and neither the job nor groundtrack \
             can land them; to go on without them, add [[skip]] topic = \"{topic}\" partition = \
             {partition} first_offset = {offset} to the configuration and adopt again: the first \
             run then records the loss in the bucket",
            row.low,
            row.low - 1
        )
    })
}

fn folders(evidence: &Evidence<'_>, terms: &Terms<'_>) -> Option<String> {
    let folder = evidence.folder_with_sink_log?;
    let key = match folder == terms.names.data {
        true => "store.data",
        false => "store.dead_letters",
    };
    Some(format!(
        "{key} = \"{folder}\" has a _spark_metadata: of such a folder Spark reads only what that \
         lists, and would never see what groundtrack lands there; name another folder"
    ))
}

/// Why the checkpoints that exist are not those of this takeover, interrupted.
fn existing(
    evidence: &Evidence<'_>,
    terms: &Terms<'_>,
    rows: &[Row],
    known: i32,
) -> Option<String> {
    let (existing, ours) = (evidence.existing, adopted(evidence.job));
    let group = &terms.names.group;
    if existing.is_empty() {
        return None;
    }
    for (partition, found) in existing {
        let key = terms.names.checkpoint(*partition);
        let found = match found {
            Ok(found) => found,
            Err(why) => return Some(why.clone()),
        };
        if let Some(theirs) = found.adopted.as_ref().filter(|theirs| **theirs != ours) {
            return Some(format!(
                "{key} exists already: group {group} took over from job {} at batch {}, this is \
                 job {} at batch {}; if nothing has landed since, delete the group's checkpoints \
                 of the topic and adopt again, else use a new kafka.group",
                theirs.job,
                shown(theirs.batch),
                ours.job,
                shown(ours.batch)
            ));
        }
        let expected = evidence.job.positions.get(partition);
        let differs = expected.is_some_and(|offset| *offset != found.first_offset);
        if differs || *partition >= known && found.adopted.is_none() {
            return Some(format!(
                "{key} exists already, and begins at offset {}: group {group} has not begun with \
                 this job; use a new kafka.group",
                found.first_offset
            ));
        }
    }
    let is_complete = !rows
        .iter()
        .any(|row| matches!(row.fate, Fate::Made | Fate::Unread));
    let is_claimed = existing.values().flatten().any(|found| found.epoch > 0);
    (is_complete && is_claimed).then(|| {
        format!(
            "group {group} has a checkpoint of every partition already, and lands from there: \
             nothing is left to be taken over"
        )
    })
}

fn shown(batch: Option<u64>) -> String {
    batch.map_or("none".to_owned(), |batch| batch.to_string())
}

/// As a first claim makes it, but where the job ended. Its epoch is below that of every claim.
fn checkpoint(
    evidence: &Evidence<'_>,
    terms: &Terms<'_>,
    known: i32,
    offset: i64,
    now: &Now,
) -> Checkpoint {
    let sibling = evidence.existing.values().flatten().next();
    Checkpoint {
        format: FORMAT,
        revision: 1,
        epoch: 0,
        writer: terms.writer.to_owned(),
        time: now.text.clone(),
        cluster_id: evidence.topic.cluster_id.clone(),
        topic_id: evidence.topic.topic_id.clone(),
        first_offset: offset,
        next_offset: offset,
        holes_to: offset,
        last: None,
        pending: None,
        partitions: known,
        started_ms: sibling.map_or(now.ms, |sibling| sibling.started_ms),
        adopted: Some(adopted(evidence.job)),
        columns: column_records(terms.layout),
        roots: vec![Root {
            from_offset: offset,
            data: terms.names.data.clone(),
            dead_letters: terms.names.dead_letters.clone(),
            columns: Vec::new(),
        }],
        stopped: None,
    }
}

#[cfg(test)]
mod tests;
