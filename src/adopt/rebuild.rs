//! A partition's checkpoint from the footers of its files. Pure.
//!
//! What the files cannot tell is left at what is safe: `last` is none (the hash of a record that
//! became a row cannot be computed from the row), `holes_to` is `next_offset` (the holes are read
//! again). A last batch that the footers do not prove complete is pending again, and its replay
//! finds out.

use std::collections::{BTreeMap, BTreeSet};

use crate::landing::layout::Layout;
use crate::landing::offsets::OffsetDigest;
use crate::landing::protocol::Now;
use crate::landing::protocol::batch::column_records;
use crate::landing::protocol::checkpoint::{
    Checkpoint, ColumnRecord, FORMAT, Pending, Root, Sibling,
};
use crate::landing::protocol::footer::{Footer, differ, is_unknown};
use crate::landing::protocol::keys::{NamedRange, Names};

/// An object named like one of the partition's.
#[derive(Debug, Clone)]
pub struct File {
    /// Its key.
    pub key: String,
    /// The range that its name tells.
    pub named: NamedRange,
    /// Its footer; `Err`: why it has none of ours.
    pub footer: Result<Box<Footer>, String>,
}

/// One partition's checkpoint, from its files; at least one.
///
/// # Errors
/// All that speaks against it, naming the ranges.
pub fn rebuild(
    files: &[File],
    names: &Names,
    partition: i32,
    sibling: &Sibling,
    writer: &str,
    now: &Now,
) -> Result<Checkpoint, Vec<String>> {
    let wrong: Vec<String> = foreign(files, names, partition);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let batches = batches(files)?;
    let wrong = untiled(&batches, partition);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let (Some(first), Some(last)) = (batches.first(), batches.last()) else {
        return Err(vec![format!("partition {partition} has no files")]);
    };
    let pending = (!last.is_complete()).then(|| Pending {
        end: last.end,
        keys: last.keys.to_vec(),
        layout: last.layout.clone(),
        gap: None,
    });
    let next_offset = match pending {
        Some(_) => last.start,
        None => last.end,
    };
    let (roots, columns) = roots_and_columns(&batches, names);
    Ok(Checkpoint {
        format: FORMAT,
        revision: 1,
        epoch: 0,
        writer: writer.to_owned(),
        time: now.text.clone(),
        cluster_id: newest_known(files, |footer| &footer.identity.cluster_id),
        topic_id: newest_known(files, |footer| &footer.identity.topic_id),
        first_offset: first.start,
        next_offset,
        holes_to: next_offset,
        last: None,
        pending,
        partitions: sibling.partitions,
        started_ms: sibling.started_ms,
        adopted: sibling.adopted.clone(),
        columns,
        roots,
        stopped: None,
    })
}

/// A batch by its objects.
#[derive(Debug)]
struct Batch<'a> {
    start: i64,
    end: i64,
    keys: &'a [String],
    layout: &'a Layout,
    found: BTreeMap<&'a str, &'a Footer>,
}

fn range(start: i64, end: i64) -> String {
    format!("[{start}, {end})")
}

/// Files that are not of this group's work on this partition.
fn foreign(files: &[File], names: &Names, partition: i32) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut ids: [&str; 2] = ["", ""];
    for file in files {
        let key = &file.key;
        let at = range(file.named.first, file.named.last + 1);
        let footer = match &file.footer {
            Ok(footer) => footer,
            Err(why) => {
                wrong.push(format!("{at}: {key}: {why}; move it away"));
                continue;
            }
        };
        let identity = &footer.identity;
        for (what, found, ours) in [
            ("group", &identity.group, &names.group),
            ("topic", &identity.topic, &names.topic),
        ] {
            if found != ours {
                wrong.push(format!("{at}: {key} is of {what} {found}, not of {ours}"));
            }
        }
        let batch = &footer.batch;
        if identity.partition != partition
            || (batch.start, batch.end) != (file.named.first, file.named.last + 1)
            || !batch.keys.contains(key)
        {
            wrong.push(format!(
                "{at}: {key} is an object of partition {}, {} under another name",
                identity.partition,
                range(batch.start, batch.end)
            ));
        }
        let found = [&identity.cluster_id, &identity.topic_id].map(String::as_str);
        for ((what, known), found) in ["cluster", "topic"].into_iter().zip(&mut ids).zip(found) {
            if differ(known, found) {
                wrong.push(format!(
                    "{at}: {key} has {what} id {found}, files before it have {known}: they are of \
                     two logs"
                ));
            }
            if is_unknown(known) {
                *known = found;
            }
        }
    }
    wrong
}

/// The batches, by their start.
fn batches(files: &[File]) -> Result<Vec<Batch<'_>>, Vec<String>> {
    let mut batches: BTreeMap<(i64, i64), Batch<'_>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for file in files {
        let Ok(footer) = &file.footer else {
            continue;
        };
        let of = &footer.batch;
        let batch = batches.entry((of.start, of.end)).or_insert_with(|| Batch {
            start: of.start,
            end: of.end,
            keys: &of.keys,
            layout: &of.layout,
            found: BTreeMap::new(),
        });
        if batch.keys != of.keys || *batch.layout != of.layout {
            let at = range(of.start, of.end);
            wrong.push(format!(
                "{at}: {} and {} disagree on the objects or the columns of the batch",
                batch.found.keys().next().unwrap_or(&""),
                file.key
            ));
        }
        batch.found.insert(&file.key, footer);
    }
    match wrong.is_empty() {
        true => Ok(batches.into_values().collect()),
        false => Err(wrong),
    }
}

/// Breaks, overlaps, and batches before the last that are not whole.
fn untiled(batches: &[Batch<'_>], partition: i32) -> Vec<String> {
    let mut wrong = Vec::new();
    for pair in batches.windows(2) {
        let (batch, next) = (&pair[0], &pair[1]);
        let (at, then) = (range(batch.start, batch.end), range(next.start, next.end));
        if next.start > batch.end {
            wrong.push(format!(
                "partition {partition}: offsets {} are in no file: there is a break between {at} \
                 and {then}; put its files back, or give up what was landed before it: move the files \
                 below offset {} to another folder",
                range(batch.end, next.start),
                next.start
            ));
        }
        if next.start < batch.end {
            wrong.push(format!(
                "partition {partition}: {at} and {then} overlap: two groups or two logs have \
                 landed here; `groundtrack verify` tells which records are there twice"
            ));
        }
        if !batch.is_complete() {
            let missing: Vec<&str> = batch.missing().collect();
            wrong.push(format!(
                "partition {partition}: {at} is not whole, though {then} landed after it: {}; put \
                 back what is missing",
                match missing.as_slice() {
                    [] => "its files do not hold what they name".to_owned(),
                    missing => format!("without {}", missing.join(", ")),
                }
            ));
        }
    }
    wrong
}

impl Batch<'_> {
    fn missing(&self) -> impl Iterator<Item = &str> {
        let keys = self.keys.iter().map(String::as_str);
        keys.filter(|key| !self.found.contains_key(key))
    }

    /// Whether all that the range held is in its objects: as an upload that finds them decides.
    fn is_complete(&self) -> bool {
        let Some((dead_letters, data)) = self.keys.split_last() else {
            return false;
        };
        if !data.iter().all(|key| self.found.contains_key(key.as_str())) {
            return false;
        }
        let records_loss = self
            .found
            .get(dead_letters.as_str())
            .is_some_and(|footer| footer.file.gap.is_some());
        records_loss || self.named() == Some(self.held())
    }

    /// What the objects hold together: a key holds nothing that one before it holds.
    fn held(&self) -> OffsetDigest {
        let files = self.found.values().map(|footer| footer.file.offsets);
        files.fold(OffsetDigest::default(), |sum, file| OffsetDigest {
            count: sum.count + file.count,
            sum: sum.sum.wrapping_add(file.sum),
        })
    }

    /// The largest set that a footer names; one that tells of a loss proves nothing.
    fn named(&self) -> Option<OffsetDigest> {
        let whole = self
            .found
            .values()
            .filter(|footer| footer.file.gap.is_none());
        whole
            .map(|footer| footer.batch.offsets)
            .max_by_key(|offsets| offsets.count)
    }

    /// The folder of its data files, by the first of them; and that of the dead letters.
    fn folders(&self) -> (Option<&str>, &str) {
        let (dead_letters, data) = match self.keys.split_last() {
            Some((dead_letters, data)) => (dead_letters.as_str(), data.first()),
            None => ("", None),
        };
        let depth = 1 + self.layout.partition_by.len();
        (data.map(|key| above(key, depth)), above(dead_letters, 1))
    }
}

/// A key without so many of its last parts.
fn above(key: &str, parts: usize) -> &str {
    (0..parts).fold(key, |key, _| {
        key.rsplit_once('/').map_or("", |(folder, _)| folder)
    })
}

/// As the batches' Begins wrote them.
fn roots_and_columns(batches: &[Batch<'_>], names: &Names) -> (Vec<Root>, Vec<ColumnRecord>) {
    let mut roots: Vec<Root> = Vec::new();
    let mut columns = Vec::new();
    let mut known = BTreeSet::new();
    // A batch of dead letters alone tells of no data folder: that of the batch before it, or of
    // the first that has one.
    let first = batches.iter().find_map(|batch| batch.folders().0);
    let first = first.unwrap_or(&names.data);
    for batch in batches {
        let (data, dead_letters) = batch.folders();
        let before = roots.last();
        let data = data
            .or(before.map(|root| root.data.as_str()))
            .unwrap_or(first)
            .to_owned();
        let is_new_data = before.is_none_or(|root| root.data != data);
        if is_new_data || before.is_none_or(|root| root.dead_letters != dead_letters) {
            roots.push(Root {
                from_offset: batch.start,
                data,
                dead_letters: dead_letters.to_owned(),
            });
        }
        if is_new_data {
            columns.clear();
            known.clear();
        }
        for column in column_records(batch.layout) {
            if known.insert(column.name.clone()) {
                columns.push(column);
            }
        }
    }
    (roots, columns)
}

/// An id as the files know it; an early one may not know it yet.
fn newest_known<'a>(files: &'a [File], id: impl Fn(&'a Footer) -> &'a String) -> String {
    let newest_first = files.iter().rev();
    newest_first
        .filter_map(|file| file.footer.as_deref().ok())
        .map(id)
        .find(|id| !is_unknown(id))
        .cloned()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
