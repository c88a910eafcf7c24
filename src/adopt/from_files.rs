//! Lost checkpoints from the footers of our own files: the I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::asked::Asked;
use super::ours::{Existing, Ours};
use super::rebuild::{File, rebuild};
use super::report::Report;
use super::watch::{self, Patience, Seen};
use super::{Error, writer};
use crate::config::Config;
use crate::inventory::{Amount, Said, open};
use crate::landing::protocol::Now;
use crate::landing::protocol::checkpoint::{Checkpoint, Sibling};
use crate::landing::protocol::keys::{NamedRange, Names};
use crate::status::now_ms;
use crate::store::{SharedStore, StoreError};

/// So many footers are read at once: a request takes tens of milliseconds, and as many objects are
/// in memory.
const READERS: usize = 8;

/// An object named like one of the topic's: its key, range and size in bytes.
type Named = (String, NamedRange, u64);

/// What a rebuilding is asked for.
#[derive(Debug, Clone)]
pub struct Rebuilding {
    /// Only find out what would be done.
    pub dry_run: bool,
    /// [`watch::QUIET`], or less in tests.
    pub quiet: Duration,
}

/// What becomes of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebuilt {
    /// Its checkpoint exists and is left alone; `None`: and cannot be read.
    There(Option<Checkpoint>),
    /// A checkpoint from so many files.
    Made(Checkpoint, usize),
    /// Not possible.
    Refused,
}

/// Makes the checkpoints that are missing. What goes on meanwhile is told to `say`.
///
/// # Errors
/// [`Error`] where not even a table could be made; else the report has the refusals.
pub async fn from_files(
    config: &Config,
    store: SharedStore,
    asked: &Rebuilding,
    say: &dyn Fn(&str),
) -> Result<Report, Error> {
    let ours = Ours {
        asked: Asked::new(store),
        names: Names::of(config),
    };
    let existing = ours.checkpoints().await?;
    let folders = folders(&ours.names, &existing);
    let seen = look(&ours, &folders).await?;
    let (named, others) = by_partition(&seen, &ours.names);
    let lost: BTreeMap<i32, Vec<Named>> = named
        .iter()
        .filter(|(partition, _)| !existing.contains_key(partition))
        .map(|(partition, files)| (*partition, files.clone()))
        .collect();
    let sibling = sibling(&existing, &named);
    let (writer, now) = (writer(), Now::at(now_ms()));
    let mut rows: BTreeMap<i32, Rebuilt> = existing
        .iter()
        .map(|(partition, found)| (*partition, Rebuilt::There(found.clone().ok())))
        .collect();
    let mut refusals = Vec::new();
    if named.is_empty() {
        refusals.push(format!(
            "there is no file of topic {} in {}: there is nothing to rebuild checkpoints from",
            ours.names.topic,
            folders.iter().cloned().collect::<Vec<_>>().join(" or ")
        ));
    }
    for (partition, keys) in lost {
        let files = read(&ours, keys).await?;
        match rebuild(&files, &ours.names, partition, &sibling, &writer, &now) {
            Ok(made) => {
                rows.insert(partition, Rebuilt::Made(made, files.len()));
            }
            Err(why) => {
                rows.insert(partition, Rebuilt::Refused);
                refusals.extend(why);
            }
        }
    }
    let is_any = rows.values().any(|row| matches!(row, Rebuilt::Made(..)));
    if is_any && refusals.is_empty() {
        refusals.extend(still_writes(&ours, &folders, &seen, asked, say).await?);
    }
    if refusals.is_empty() && !asked.dry_run {
        for (partition, row) in &rows {
            let Rebuilt::Made(checkpoint, _) = row else {
                continue;
            };
            if !ours.create(*partition, checkpoint).await? {
                refusals.push(format!(
                    "{} was made by somebody else meanwhile, and is left alone",
                    ours.names.checkpoint(*partition)
                ));
            }
        }
    }
    Ok(Report::of_rebuilding(
        rows,
        others,
        &ours.names,
        asked.dry_run,
        refusals,
    ))
}

/// The folders that the configuration or a checkpoint names.
fn folders(names: &Names, existing: &Existing) -> BTreeSet<String> {
    let roots = existing.values().flatten().flat_map(|found| &found.roots);
    let roots = roots.flat_map(|root| [&root.data, &root.dead_letters]);
    let ours = [&names.data, &names.dead_letters];
    roots.chain(ours).cloned().collect()
}

async fn look(ours: &Ours, folders: &BTreeSet<String>) -> Result<Seen, Error> {
    let mut seen = Seen::new();
    for folder in folders {
        seen.extend(watch::seen(&ours.asked.list(&format!("{folder}/")).await?));
    }
    Ok(seen)
}

/// Keys of the topic's objects by partition, and how many there are of others.
fn by_partition(seen: &Seen, names: &Names) -> (BTreeMap<i32, Vec<Named>>, usize) {
    let mut named: BTreeMap<i32, Vec<Named>> = BTreeMap::new();
    let mut others = 0;
    for (key, (size_bytes, _)) in seen {
        match names.range_in(key) {
            Some(range) => {
                let files = named.entry(range.partition).or_default();
                files.push((key.clone(), range, *size_bytes));
            }
            None => others += 1,
        }
    }
    for files in named.values_mut() {
        files.sort_by_key(|(_, range, _)| (range.first, range.last));
    }
    (named, others)
}

/// Of a checkpoint that is left; else what makes a partition without files start at its log's
/// start, whatever `kafka.start` says but a time: the time of the group's first claim is lost, and
/// any other would pass records over.
fn sibling(existing: &Existing, named: &BTreeMap<i32, Vec<Named>>) -> Sibling {
    let left = existing.values().flatten().next();
    left.map(Checkpoint::sibling).unwrap_or(Sibling {
        partitions: named.last_key_value().map_or(0, |(last, _)| last + 1),
        started_ms: 0,
        adopted: None,
    })
}

/// The footers of a partition's objects.
async fn read(ours: &Ours, keys: Vec<Named>) -> Result<Vec<File>, Error> {
    let read = keys.into_iter().map(|(key, named, size_bytes)| async move {
        let opened = open(&**ours.asked.store(), &key, size_bytes, Amount::Footer).await;
        let footer = match opened.map(|opened| opened.said) {
            Ok(Said::Ours(footer)) => Ok(footer),
            Ok(Said::NotOurs(why) | Said::Unknown(why)) => Err(why),
            Err(StoreError::NotFound) => Err("it has gone meanwhile".to_owned()),
            Err(error) => return Err(Error::Unanswered(format!("reading {key}: {error}"))),
        };
        Ok(File { key, named, footer })
    });
    stream::iter(read).buffered(READERS).try_collect().await
}

/// Why the files cannot be taken for all there will be.
async fn still_writes(
    ours: &Ours,
    folders: &BTreeSet<String>,
    seen: &Seen,
    asked: &Rebuilding,
    say: &dyn Fn(&str),
) -> Result<Option<String>, Error> {
    let Patience::LookAgain(pause) =
        watch::patience(watch::newest_ms(seen), now_ms(), None, asked.quiet)
    else {
        return Ok(None);
    };
    if pause > watch::LOOK_AGAIN {
        say(&format!(
            "the newest file is less than {} s old: watching for {} s whether more come",
            asked.quiet.as_secs(),
            pause.as_secs()
        ));
    }
    tokio::time::sleep(pause).await;
    let again = look(ours, folders).await?;
    Ok(watch::changed(seen, &again).map(|key| {
        format!(
            "{key} came or changed while we looked: stop all that lands as group {}, then adopt",
            ours.names.group
        )
    }))
}
