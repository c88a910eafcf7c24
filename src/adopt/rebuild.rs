//! A partition's checkpoint from the footers of its files, which come in the order of their
//! ranges, one at a time. Pure.
//!
//! What the files cannot tell is left at what is safe: `last` is none (the hash of a record that
//! became a row cannot be computed from the row), `holes_to` is `next_offset` (the holes are read
//! again). A last batch that the footers do not prove complete is pending again, and its replay
//! finds out.

use std::collections::BTreeMap;

use crate::landing::layout::Layout;
use crate::landing::offsets::OffsetDigest;
use crate::landing::protocol::Now;
use crate::landing::protocol::batch::{add_columns, enter_folders};
use crate::landing::protocol::checkpoint::{
    Checkpoint, ColumnRecord, FORMAT, Pending, Root, Sibling,
};
use crate::landing::protocol::footer::{Footer, Identity, differ, is_unknown};
use crate::landing::protocol::keys::{NamedRange, Names};

/// So much that is wrong with a partition is said; of more only how much.
const SAID_MAX: usize = 20;

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

/// A partition's files so far. What it holds does not grow with their number.
#[derive(Debug)]
pub struct Rebuilder<'a> {
    names: &'a Names,
    /// Its number.
    pub partition: i32,
    /// How many files it was given.
    pub files: u64,
    /// Cluster and topic, as known as the files know them.
    ids: [String; 2],
    first_offset: Option<i64>,
    /// As the batches' Begins wrote them.
    roots: Vec<Root>,
    /// Whether the data folder of the last root is known: a batch of dead letters alone tells of
    /// none.
    is_data_known: bool,
    columns: Vec<ColumnRecord>,
    /// The batch whose files come.
    batch: Option<Batch>,
    /// Files of others are there: breaks may be where ours would be.
    has_others: bool,
    wrong: Vec<String>,
    /// How much is wrong that is not said.
    unsaid: usize,
}

/// A batch by its objects.
#[derive(Debug)]
struct Batch {
    start: i64,
    end: i64,
    keys: Vec<String>,
    layout: Layout,
    found: BTreeMap<String, Found>,
}

/// What an object tells of itself and of its batch.
#[derive(Debug, Clone, Copy)]
struct Found {
    holds: OffsetDigest,
    has_gap: bool,
    named: OffsetDigest,
}

impl<'a> Rebuilder<'a> {
    /// A partition without files yet.
    pub fn new(names: &'a Names, partition: i32) -> Self {
        Self {
            names,
            partition,
            files: 0,
            ids: Default::default(),
            first_offset: None,
            roots: Vec::new(),
            is_data_known: false,
            columns: Vec::new(),
            batch: None,
            has_others: false,
            wrong: Vec::new(),
            unsaid: 0,
        }
    }

    /// Takes the next file: none before it has a higher range.
    pub fn push(&mut self, file: File) {
        self.files += 1;
        let at = range(file.named.first, file.named.last + 1);
        let footer = match file.footer {
            Ok(footer) => *footer,
            Err(why) => {
                self.has_others = true;
                return self.say(format!("{at}: {}: {why}; move it away", file.key));
            }
        };
        if let Some(why) = self.others(&file.key, file.named, &footer) {
            self.has_others = true;
            return self.say(format!("{at}: {} {why}", file.key));
        }
        for (known, id) in self
            .ids
            .iter_mut()
            .zip([&footer.identity.cluster_id, &footer.identity.topic_id])
        {
            if !is_unknown(id) {
                known.clone_from(id);
            }
        }
        let of = &footer.batch;
        match self.batch.take() {
            Some(batch) if (batch.start, batch.end) == (of.start, of.end) => {
                if batch.keys != of.keys || batch.layout != of.layout {
                    self.say(format!(
                        "{at}: {} and {} disagree on the objects or the columns of the batch",
                        batch.found.keys().next().map_or("", String::as_str),
                        file.key
                    ));
                }
                self.batch = Some(batch);
            }
            before => {
                if let Some(before) = before {
                    self.close(&before, of.start, of.end);
                }
                self.begin(of.start, of.end, &of.keys, &of.layout);
            }
        }
        if let Some(batch) = &mut self.batch {
            let found = Found {
                holds: footer.file.offsets,
                has_gap: footer.file.gap.is_some(),
                named: of.offsets,
            };
            batch.found.insert(file.key, found);
        }
    }

    /// The checkpoint, once all files were taken.
    ///
    /// # Errors
    /// All that speaks against it, naming the ranges.
    pub fn finish(
        mut self,
        sibling: &Sibling,
        writer: &str,
        now: &Now,
    ) -> Result<Checkpoint, Vec<String>> {
        if self.unsaid > 0 {
            let (partition, more) = (self.partition, self.unsaid);
            self.wrong
                .push(format!("partition {partition}: and {more} more of these"));
        }
        let (Some(first_offset), Some(last), true) =
            (self.first_offset, &self.batch, self.wrong.is_empty())
        else {
            return Err(self.wrong);
        };
        let pending = (!last.is_complete()).then(|| Pending {
            end: last.end,
            keys: last.keys.clone(),
            layout: last.layout.clone(),
            gap: None,
        });
        let next_offset = match pending {
            Some(_) => last.start,
            None => last.end,
        };
        let [cluster_id, topic_id] = self.ids;
        Ok(Checkpoint {
            format: FORMAT,
            revision: 1,
            epoch: 0,
            writer: writer.to_owned(),
            time: now.text.clone(),
            cluster_id,
            topic_id,
            first_offset,
            next_offset,
            holes_to: next_offset,
            last: None,
            pending,
            partitions: sibling.partitions,
            started_ms: sibling.started_ms,
            adopted: sibling.adopted.clone(),
            columns: self.columns,
            roots: self.roots,
            stopped: None,
        })
    }

    fn say(&mut self, what: String) {
        match self.wrong.len() < SAID_MAX {
            true => self.wrong.push(what),
            false => self.unsaid += 1,
        }
    }

    /// Why a file is not of this group's work on this partition.
    fn others(&self, key: &String, named: NamedRange, footer: &Footer) -> Option<String> {
        let (identity, batch): (&Identity, _) = (&footer.identity, &footer.batch);
        for (what, found, ours) in [
            ("group", &identity.group, &self.names.group),
            ("topic", &identity.topic, &self.names.topic),
        ] {
            if found != ours {
                return Some(format!("is of {what} {found}, not of {ours}"));
            }
        }
        if identity.partition != self.partition
            || (batch.start, batch.end) != (named.first, named.last + 1)
            || !batch.keys.contains(key)
        {
            return Some(format!(
                "is an object of partition {}, {} under another name",
                identity.partition,
                range(batch.start, batch.end)
            ));
        }
        let found = [&identity.cluster_id, &identity.topic_id];
        ["cluster", "topic"]
            .into_iter()
            .zip(self.ids.iter().zip(found))
            .find(|(_, (known, found))| differ(known, found))
            .map(|(what, (known, found))| {
                format!("has {what} id {found}, files before it have {known}: they are of two logs")
            })
    }

    /// A batch after which another begins: whole, and where that begins.
    fn close(&mut self, batch: &Batch, next_start: i64, next_end: i64) {
        if self.has_others {
            return;
        }
        let partition = self.partition;
        let (at, then) = (range(batch.start, batch.end), range(next_start, next_end));
        if next_start > batch.end {
            self.say(format!(
                "partition {partition}: offsets {} are in no file: there is a break between {at} \
                 and {then}; put its files back, or give up what was landed before it: move the \
                 files below offset {next_start} to another folder",
                range(batch.end, next_start)
            ));
        }
        if next_start < batch.end {
            self.say(format!(
                "partition {partition}: {at} and {then} overlap: two groups or two logs have \
                 landed here; `groundtrack verify` tells which records are there twice"
            ));
        }
        if !batch.is_complete() {
            let missing: Vec<&str> = batch.missing().collect();
            self.say(format!(
                "partition {partition}: {at} is not whole, though {then} landed after it: {}; put \
                 back what is missing",
                match missing.as_slice() {
                    [] => "its files do not hold what they name".to_owned(),
                    missing => format!("without {}", missing.join(", ")),
                }
            ));
        }
    }

    fn begin(&mut self, start: i64, end: i64, keys: &[String], layout: &Layout) {
        self.first_offset.get_or_insert(start);
        let batch = Batch {
            start,
            end,
            keys: keys.to_vec(),
            layout: layout.clone(),
            found: BTreeMap::new(),
        };
        self.enter_folders(&batch);
        add_columns(&mut self.columns, layout);
        self.batch = Some(batch);
    }

    /// As its Begin changed roots and columns.
    fn enter_folders(&mut self, batch: &Batch) {
        let (data, dead_letters) = batch.folders();
        let before = self.roots.last_mut();
        if let (Some(root), Some(data), false) = (before, data, self.is_data_known) {
            data.clone_into(&mut root.data);
        }
        let before = self.roots.last();
        let is_known = data.is_some() || before.is_some() && self.is_data_known;
        let data = data
            .or(before.map(|root| root.data.as_str()))
            .unwrap_or(&self.names.data)
            .to_owned();
        enter_folders(
            &mut self.roots,
            &mut self.columns,
            batch.start,
            &data,
            dead_letters,
        );
        self.is_data_known = is_known;
    }
}

fn range(start: i64, end: i64) -> String {
    format!("[{start}, {end})")
}

impl Batch {
    fn missing(&self) -> impl Iterator<Item = &str> {
        let keys = self.keys.iter().map(String::as_str);
        keys.filter(|key| !self.found.contains_key(*key))
    }

    /// Whether all that the range held is in its objects: as an upload that finds them decides.
    fn is_complete(&self) -> bool {
        let Some((dead_letters, data)) = self.keys.split_last() else {
            return false;
        };
        if !data.iter().all(|key| self.found.contains_key(key)) {
            return false;
        }
        let dead_letters = self.found.get(dead_letters);
        let records_loss = dead_letters.is_some_and(|found| found.has_gap);
        records_loss || self.named() == Some(self.held())
    }

    /// What the objects hold together: a key holds nothing that one before it holds.
    fn held(&self) -> OffsetDigest {
        let files = self.found.values().map(|found| found.holds);
        files.fold(OffsetDigest::default(), |sum, file| OffsetDigest {
            count: sum.count.saturating_add(file.count),
            sum: sum.sum.wrapping_add(file.sum),
        })
    }

    /// The largest set that a footer names; one that tells of a loss proves nothing.
    fn named(&self) -> Option<OffsetDigest> {
        let whole = self.found.values().filter(|found| !found.has_gap);
        whole
            .map(|found| found.named)
            .max_by_key(|offsets| offsets.count)
    }

    /// The folder of its data files, if it lists any; and that of the dead letters.
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

#[cfg(test)]
mod tests;
