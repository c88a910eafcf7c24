//! A job's checkpoint folder and its sink, read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::format::{self, BatchOffsets, Positions, SinkFile};
use super::logs::{Logs, SINK_LOG};
use crate::adopt::Error;
use crate::adopt::asked::Asked;
use crate::adopt::place::Place;
use crate::adopt::watch::{self, Seen};
use crate::config;
use crate::store::Listed;

/// By the times of so many batches it is found out how far they lie apart.
const TIMED_BATCHES: usize = 10;

/// Where the sink is looked for beside the checkpoint folder: what the job that this replaces
/// wrote to, and what `store.data` is by default.
const USUAL_SINK: &str = "parquet_files";

/// So many files are named each by each; of more only their number is told.
pub const NAMED_MAX: usize = 1000;

/// The two folders of a job.
#[derive(Debug)]
pub struct Folders {
    /// Where its offsets are.
    pub checkpoint: (Place, Asked),
    /// Where its files are.
    pub sink: (Place, Asked),
}

/// What the folders say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The query's id.
    pub id: String,
    /// The last batch in the sink's log; `None`: none landed.
    pub landed: Option<u64>,
    /// Whether its commit is there.
    pub is_committed: bool,
    /// A batch that was planned and did not land.
    pub unlanded: Option<u64>,
    /// Behind what landed, by partition of our topic.
    pub positions: BTreeMap<i32, i64>,
    /// Further topics that it reads.
    pub other_topics: Vec<String>,
    /// How many of its files in the sink the log does not list.
    pub unlisted_count: usize,
    /// Names and bytes of the first [`NAMED_MAX`] of them.
    pub unlisted: Vec<(String, u64)>,
    /// Files that the log lists and that are not in the sink.
    pub missing: usize,
    /// Batches that the sink's log should have and has not.
    pub log_gaps: Vec<u64>,
    /// How far its last batches lie apart.
    pub interval: Option<Duration>,
    /// Its three logs, as seen before they were read.
    pub seen: Seen,
}

impl Folders {
    /// The folders of the job. Without a name the sink is the checkpoint folder's parent, or
    /// `parquet_files` beside it, whichever has a log.
    ///
    /// # Errors
    /// When no store answers, or there is not exactly one sink.
    pub async fn find(
        checkpoint: &Place,
        sink: Option<&Place>,
        settings: &config::Store,
    ) -> Result<Self, Error> {
        let sink = match sink {
            Some(sink) => (sink.clone(), Asked::at(sink, settings)?),
            None => find_sink(checkpoint, settings).await?,
        };
        Ok(Self {
            checkpoint: (checkpoint.clone(), Asked::at(checkpoint, settings)?),
            sink,
        })
    }

    /// The three logs as they are now.
    ///
    /// # Errors
    /// When a store does not answer.
    pub async fn look(&self) -> Result<Seen, Error> {
        Ok(self.list_logs().await?.0)
    }

    async fn list_logs(&self) -> Result<(Seen, Logs), Error> {
        let (checkpoint, sink) = (&self.checkpoint.1, &self.sink.1);
        let mut planned = checkpoint.list("offsets/").await?;
        planned.extend(checkpoint.list("commits/").await?);
        let sink_log = sink.list(&format!("{SINK_LOG}/")).await?;
        let logs = Logs::of(&planned, &sink_log);
        planned.extend(sink_log);
        Ok((watch::seen(&planned), logs))
    }

    /// Reads all that is needed to go on where the job ended.
    ///
    /// # Errors
    /// When a store does not answer, or why the job cannot be taken over.
    pub async fn read(&self, topic: &str) -> Result<Job, Error> {
        let (place, checkpoint) = &self.checkpoint;
        let id = match checkpoint.get("metadata").await? {
            Some(body) => format::job_id(&body).map_err(refused_file(place, "metadata"))?,
            None => {
                return Err(Error::refused(format!(
                    "{place} has no file `metadata`: it is not the checkpoint folder of a Spark \
                     Structured Streaming job, which holds metadata, offsets, commits and sources"
                )));
            }
        };
        let (seen, logs) = self.list_logs().await?;
        let landed = logs.last_landed().map_err(Error::refused)?;
        let timed = logs.offsets.iter().rev().take(TIMED_BATCHES);
        let mut batches = BTreeMap::new();
        for batch in timed.copied().chain(landed) {
            if let Some(offsets) = self.offsets(batch).await? {
                batches.insert(batch, offsets);
            }
        }
        let positions = match landed {
            Some(batch) => {
                let sources = batches.get(&batch).map(|batch| batch.sources.clone());
                sources.unwrap_or_default().into_iter().flatten().collect()
            }
            None => self.initial().await?,
        };
        let (positions, other_topics) = of_topic(positions, topic).map_err(Error::refused)?;
        let (names, log_gaps) = logs.sink_chain();
        let listed = self.listed(&names).await?;
        let sink = self.compare_sink(&listed).await?;
        Ok(Job {
            id,
            landed,
            is_committed: landed.is_some_and(|batch| logs.commits.contains(&batch)),
            unlanded: logs
                .offsets
                .last()
                .copied()
                .filter(|last| Some(*last) > landed),
            positions,
            other_topics,
            unlisted_count: sink.unlisted_count,
            unlisted: sink.unlisted,
            missing: listed.len().saturating_sub(sink.there),
            log_gaps,
            interval: watch::interval(batches.values().filter_map(|batch| batch.time_ms).collect()),
            seen,
        })
    }

    async fn offsets(&self, batch: u64) -> Result<Option<BatchOffsets>, Error> {
        let (place, checkpoint) = &self.checkpoint;
        let key = format!("offsets/{batch}");
        let Some(body) = checkpoint.get(&key).await? else {
            return Ok(None);
        };
        let offsets = format::batch_offsets(&body).map_err(refused_file(place, &key))?;
        Ok(Some(offsets))
    }

    /// Where each source began.
    async fn initial(&self) -> Result<Vec<Positions>, Error> {
        let (place, checkpoint) = &self.checkpoint;
        let mut sources = Vec::new();
        for object in checkpoint.list("sources/").await? {
            if object.key.rsplit('/').next() != Some("0") {
                continue;
            }
            if let Some(body) = checkpoint.get(&object.key).await? {
                // A source of another kind has a file of another kind there.
                match format::initial_offsets(&body) {
                    Ok(offsets) => sources.push(offsets),
                    Err(why) if sources.is_empty() => {
                        return Err(refused_file(place, &object.key)(why));
                    }
                    Err(_) => {}
                }
            }
        }
        Ok(sources)
    }

    /// The names of all files that the sink's log lists.
    async fn listed(&self, names: &[String]) -> Result<BTreeSet<String>, Error> {
        let (place, sink) = &self.sink;
        let mut listed = BTreeSet::new();
        for name in names {
            let key = format!("{SINK_LOG}/{name}");
            let body = sink.get(&key).await?.ok_or_else(|| {
                Error::refused(format!("{place}/{key} has gone: the job still writes, or somebody tidies its log; stop that first"))
            })?;
            for file in format::sink_files(&body).map_err(refused_file(place, &key))? {
                apply(&mut listed, &file);
            }
        }
        Ok(listed)
    }

    /// What of the listed files is in the sink, and which others of the job's.
    async fn compare_sink(&self, listed: &BTreeSet<String>) -> Result<Compared, Error> {
        let mut compared = Compared::default();
        let take = |object: Listed| {
            let name = object.key.rsplit('/').next().unwrap_or_default();
            if listed.contains(name) {
                compared.there += 1;
            } else if name.starts_with("part-") {
                compared.unlisted_count += 1;
                if compared.unlisted.len() < NAMED_MAX {
                    compared.unlisted.push((object.key, object.size_bytes));
                }
            }
            Ok(())
        };
        self.sink.1.each("", take).await?;
        Ok(compared)
    }
}

#[derive(Debug, Default)]
struct Compared {
    there: usize,
    unlisted_count: usize,
    unlisted: Vec<(String, u64)>,
}

async fn find_sink(checkpoint: &Place, settings: &config::Store) -> Result<(Place, Asked), Error> {
    let parent = checkpoint.parent();
    let candidates: Vec<Place> = parent
        .iter()
        .flat_map(|parent| [parent.clone(), parent.child(USUAL_SINK)])
        .collect();
    let mut found = Vec::new();
    for place in &candidates {
        let asked = Asked::at(place, settings)?;
        if !asked.list(&format!("{SINK_LOG}/")).await?.is_empty() {
            found.push((place.clone(), asked));
        }
    }
    let looked: Vec<String> = candidates.iter().map(ToString::to_string).collect();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Error::refused(format!(
            "the checkpoint folder does not say where the job wrote its files, and there is no \
             {SINK_LOG} in {}: name the folder with --sink",
            looked.join(" or ")
        ))),
        _ => Err(Error::refused(format!(
            "{} have a {SINK_LOG} each: name the folder that the job wrote to with --sink",
            looked.join(" and ")
        ))),
    }
}

fn apply(listed: &mut BTreeSet<String>, file: &SinkFile) {
    match file.action.as_str() {
        "delete" => listed.remove(file.name()),
        _ => listed.insert(file.name().to_owned()),
    };
}

fn refused_file(place: &Place, key: &str) -> impl FnOnce(String) -> Error {
    let file = format!("{place}/{key}");
    move |why| Error::refused(format!("{file}: {why}"))
}

/// The positions of our topic, and the other topics.
fn of_topic(
    sources: Vec<Positions>,
    topic: &str,
) -> Result<(BTreeMap<i32, i64>, Vec<String>), String> {
    if sources.is_empty() {
        return Err(
            "the job has read nothing yet: there is nothing to take over, start groundtrack with \
             kafka.start instead"
                .to_owned(),
        );
    }
    let mut ours = None;
    let mut others = BTreeSet::new();
    for (name, positions) in sources.into_iter().flatten() {
        if name != topic {
            others.insert(name);
        } else if ours.replace(positions).is_some() {
            return Err(format!(
                "the job reads topic {topic} by two sources: which of them its rows are from \
                 cannot be told"
            ));
        }
    }
    let others: Vec<String> = others.into_iter().collect();
    match ours {
        Some(ours) => Ok((ours, others)),
        None => Err(format!(
            "the job does not read topic {topic} but {}: name that in kafka.topic",
            others.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(topics: &[(&str, i64)]) -> Positions {
        let topics = topics.iter();
        topics
            .map(|(topic, offset)| ((*topic).to_owned(), [(0, *offset)].into_iter().collect()))
            .collect()
    }

    #[test]
    fn our_topic_is_found_among_others() {
        let sources = vec![source(&[("b", 1)]), source(&[("a", 7), ("c", 3)])];
        let (ours, others) = of_topic(sources.clone(), "a").unwrap();
        assert_eq!(ours, [(0, 7)].into_iter().collect());
        assert_eq!(others, ["b", "c"]);
        let why = of_topic(sources, "iss").unwrap_err();
        assert!(
            why.contains("a, b, c") && why.contains("kafka.topic"),
            "{why}"
        );
        let twice = vec![source(&[("a", 1)]), source(&[("a", 2)])];
        assert!(of_topic(twice, "a").unwrap_err().contains("two sources"));
        assert!(of_topic(Vec::new(), "a").unwrap_err().contains("nothing"));
    }

    #[test]
    fn a_deleted_file_is_no_longer_listed() {
        let file = |name: &str, action: &str| SinkFile {
            path: format!("s3a://b/x/{name}"),
            action: action.to_owned(),
        };
        let mut listed = BTreeSet::new();
        for entry in [file("a", "add"), file("b", "add"), file("a", "delete")] {
            apply(&mut listed, &entry);
        }
        assert_eq!(listed, ["b".to_owned()].into_iter().collect());
    }
}
