//! Lost checkpoints from the footers of our own files: the I/O.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use super::asked::Asked;
use super::ours::{Existing, Ours};
use super::rebuild::{File, Rebuilder};
use super::report::Report;
use super::watch::{self, Patience, Sum};
use super::{Error, writer};
use crate::config::Config;
use crate::inventory::{Amount, Entry, Said, Sorted, Sorter, folders_of, open};
use crate::landing::protocol::Now;
use crate::landing::protocol::checkpoint::{Checkpoint, Sibling};
use crate::landing::protocol::keys::Names;
use crate::status::now_ms;
use crate::store::{SharedStore, StoreError};

/// So many footers are read at once: a request takes tens of milliseconds, and the ends of as many
/// objects are in memory.
const READERS: usize = 8;
/// How often it is said how many footers were read.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

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
    Made(Checkpoint, u64),
    /// Not possible.
    Refused,
}

/// What lies in the folders.
struct Stock {
    sorted: Sorted,
    /// Objects named like ours of partitions without a checkpoint.
    lost: u64,
    /// The highest partition that has objects.
    partition_max: Option<i32>,
    /// Objects not named like the topic's.
    others: u64,
    sum: Sum,
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
    let folders = folders_of(&ours.names, existing.values().flatten());
    let stock = Stock::take(&ours, &folders, &existing).await?;
    let (others, sum) = (stock.others, stock.sum.clone());
    let mut refusals = Vec::new();
    if stock.partition_max.is_none() {
        refusals.push(format!(
            "there is no file of topic {} in {}: there is nothing to rebuild checkpoints from",
            ours.names.topic,
            folders.join(" or ")
        ));
    }
    let mut rows: BTreeMap<i32, Rebuilt> = existing
        .iter()
        .map(|(partition, found)| (*partition, Rebuilt::There(found.clone().ok())))
        .collect();
    let sibling = sibling(&existing, stock.partition_max);
    let (writer, now) = (writer(), Now::at(now_ms()));
    for rebuilder in read(&ours, stock, say).await? {
        let (partition, files) = (rebuilder.partition, rebuilder.files);
        let row = match rebuilder.finish(&sibling, &writer, &now) {
            Ok(made) => Rebuilt::Made(made, files),
            Err(why) => {
                refusals.extend(why);
                Rebuilt::Refused
            }
        };
        rows.insert(partition, row);
    }
    let is_any = rows.values().any(|row| matches!(row, Rebuilt::Made(..)));
    if is_any && refusals.is_empty() {
        refusals.extend(still_writes(&ours, &folders, &sum, asked, say).await?);
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

impl Stock {
    async fn take(ours: &Ours, folders: &[String], existing: &Existing) -> Result<Self, Error> {
        let mut sorter = Sorter::default();
        let mut stock = Self {
            sorted: Sorter::default().finish().map_err(unsorted)?,
            lost: 0,
            partition_max: None,
            others: 0,
            sum: Sum::default(),
        };
        for folder in folders {
            ours.asked
                .each(folder, |listed| {
                    stock.sum.add(&listed);
                    let Some(name) = ours.names.range_in(&listed.key) else {
                        stock.others += 1;
                        return Ok(());
                    };
                    stock.partition_max = stock.partition_max.max(Some(name.partition));
                    if existing.contains_key(&name.partition) {
                        return Ok(());
                    }
                    stock.lost += 1;
                    sorter.push(Entry::new(listed, Some(name)))
                })
                .await?;
        }
        stock.sorted = sorter.finish().map_err(unsorted)?;
        Ok(stock)
    }
}

fn unsorted(error: std::io::Error) -> Error {
    Error::Unanswered(format!("the listing cannot be sorted: {error}"))
}

/// Of a checkpoint that is left; else what makes a partition without files start at its log's
/// start, whatever `kafka.start` says but a time: the time of the group's first claim is lost, and
/// any other would pass records over.
fn sibling(existing: &Existing, partition_max: Option<i32>) -> Sibling {
    let left = existing.values().flatten().next();
    left.map(Checkpoint::sibling).unwrap_or(Sibling {
        partitions: partition_max.map_or(0, |last| last + 1),
        started_ms: 0,
        adopted: None,
    })
}

/// Reads the footers, partition by partition.
async fn read<'a>(
    ours: &'a Ours,
    stock: Stock,
    say: &dyn Fn(&str),
) -> Result<Vec<Rebuilder<'a>>, Error> {
    let mut partitions: Vec<Rebuilder<'_>> = Vec::new();
    let footers = stock.sorted.map(|entry| async {
        let entry = entry.map_err(unsorted)?;
        file(ours, entry).await
    });
    let mut footers = stream::iter(footers).buffered(READERS);
    let (mut said, mut count) = (Instant::now(), 0);
    while let Some(file) = footers.next().await {
        let Some(file) = file? else {
            continue;
        };
        let partition = file.named.partition;
        if partitions
            .last()
            .is_none_or(|last| last.partition != partition)
        {
            partitions.push(Rebuilder::new(&ours.names, partition));
        }
        if let Some(rebuilder) = partitions.last_mut() {
            rebuilder.push(file);
        }
        count += 1;
        if said.elapsed() >= PROGRESS_EVERY {
            say(&format!("{count} of {} footers read", stock.lost));
            said = Instant::now();
        }
    }
    Ok(partitions)
}

/// The footer of an object.
async fn file(ours: &Ours, entry: Entry) -> Result<Option<File>, Error> {
    let Some(named) = entry.name else {
        return Ok(None);
    };
    let store = &**ours.asked.store();
    let opened = open(store, &entry.key, entry.size_bytes, Amount::Footer).await;
    let footer = match opened.map(|opened| opened.said) {
        Ok(Said::Ours(footer)) => Ok(footer),
        Ok(Said::NotOurs(why) | Said::Unknown(why)) => Err(why),
        Err(StoreError::NotFound) => Err("it has gone meanwhile".to_owned()),
        Err(error) => {
            return Err(Error::Unanswered(format!("reading {}: {error}", entry.key)));
        }
    };
    Ok(Some(File {
        key: entry.key,
        named,
        footer,
    }))
}

/// Why the files cannot be taken for all there will be.
async fn still_writes(
    ours: &Ours,
    folders: &[String],
    sum: &Sum,
    asked: &Rebuilding,
    say: &dyn Fn(&str),
) -> Result<Option<String>, Error> {
    let Patience::LookAgain(pause) = watch::patience(sum.newest_ms, now_ms(), None, asked.quiet)
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
    let mut again = Sum::default();
    for folder in folders {
        ours.asked
            .each(folder, |listed| {
                again.add(&listed);
                Ok(())
            })
            .await?;
    }
    Ok((again != *sum).then(|| {
        format!(
            "files came or changed while we looked: stop all that lands as group {}, then adopt",
            ours.names.group
        )
    }))
}
