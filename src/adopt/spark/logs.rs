//! Which batches a job's logs hold, and which of them was the last to land.
//!
//! Spark writes `offsets/N`, then the files of the batch, then `_spark_metadata/N`, then
//! `commits/N`; a batch has landed once it is in the sink's log, whatever came after.

use std::collections::{BTreeMap, BTreeSet};

use super::format::batch_of;
use crate::store::Listed;

/// The folder of a file sink's log.
pub const SINK_LOG: &str = "_spark_metadata";

/// The batches of the three logs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Logs {
    /// Planned.
    pub offsets: BTreeSet<u64>,
    /// Ended.
    pub commits: BTreeSet<u64>,
    /// In the sink's log; whether the file holds all up to it.
    pub sink: BTreeMap<u64, bool>,
}

impl Logs {
    /// From what lies in the checkpoint folder and in the sink's log.
    pub fn of(checkpoint: &[Listed], sink_log: &[Listed]) -> Self {
        let mut logs = Self::default();
        for object in checkpoint {
            match object.key.split_once('/') {
                Some(("offsets", name)) => logs.offsets.extend(batch(name)),
                Some(("commits", name)) => logs.commits.extend(batch(name)),
                _ => {}
            }
        }
        for object in sink_log {
            let name = object.key.rsplit('/').next().unwrap_or_default();
            if let Some((batch, is_compact)) = batch_of(name) {
                *logs.sink.entry(batch).or_default() |= is_compact;
            }
        }
        logs
    }

    /// The last batch that landed; `None`: none has.
    ///
    /// # Errors
    /// Why the sink's log is not that of the checkpoint's job.
    pub fn last_landed(&self) -> Result<Option<u64>, String> {
        let newest = |batches: &BTreeSet<u64>| batches.last().copied();
        let (planned, ended) = (newest(&self.offsets), newest(&self.commits));
        let landed = self.sink.last_key_value().map(|(batch, _)| *batch);
        if ended > landed {
            return Err(format!(
                "the job has ended batch {}, but the sink's log {}: this is not the folder that it \
                 wrote to last; name that with --sink",
                shown(ended),
                match landed {
                    Some(batch) => format!("ends at batch {batch}"),
                    None => "is empty".to_owned(),
                }
            ));
        }
        if landed > planned {
            return Err(format!(
                "the sink's log ends at batch {}, but the job has planned {}: the sink is another \
                 job's, or the job was started with a new checkpoint folder over an old sink, \
                 where Spark passes each batch over whose number the log knows already; name the \
                 right one with --sink, or take over from the checkpoint folder that the sink \
                 belongs to",
                shown(landed),
                match planned {
                    Some(batch) => format!("only batch {batch}"),
                    None => "none".to_owned(),
                }
            ));
        }
        if let Some(batch) = landed.filter(|batch| !self.offsets.contains(batch)) {
            return Err(format!(
                "the sink's log ends at batch {batch}, but offsets/{batch} is missing from the \
                 checkpoint folder: where that batch ends cannot be known"
            ));
        }
        let next = landed.map_or(0, |batch| batch + 1);
        if planned.is_some_and(|planned| planned > next) {
            return Err(format!(
                "the job has planned batch {}, but the sink's log has not batch {next}: this is \
                 not the folder that it wrote to last; name that with --sink",
                shown(planned)
            ));
        }
        Ok(landed)
    }

    /// The files of the sink's log that together list all files, oldest first, and the batches
    /// that are missing between them.
    pub fn sink_chain(&self) -> (Vec<String>, Vec<u64>) {
        let Some((&last, _)) = self.sink.last_key_value() else {
            return (Vec::new(), Vec::new());
        };
        let compact = self.sink.iter().rev().find(|(_, is_compact)| **is_compact);
        let compact = compact.map(|(batch, _)| *batch);
        let after = compact.map_or(0, |batch| batch + 1);
        let (there, missing): (Vec<u64>, Vec<u64>) =
            (after..=last).partition(|batch| self.sink.contains_key(batch));
        let names = compact.map(|batch| format!("{batch}.compact"));
        let names = names
            .into_iter()
            .chain(there.iter().map(ToString::to_string));
        (names.collect(), missing)
    }
}

fn batch(name: &str) -> Option<u64> {
    batch_of(name)
        .filter(|(_, is_compact)| !is_compact)
        .map(|(batch, _)| batch)
}

fn shown(batch: Option<u64>) -> String {
    batch.map_or("none".to_owned(), |batch| batch.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(offsets: &[u64], commits: &[u64], sink: &[&str]) -> Logs {
        let listed = |key: String| Listed {
            key,
            size_bytes: 1,
            modified_ms: 0,
        };
        let offsets = offsets.iter().map(|n| listed(format!("offsets/{n}")));
        let commits = commits.iter().map(|n| listed(format!("commits/{n}")));
        let noise = [
            "metadata",
            "offsets/.9.crc",
            "commits/.9.uuid.tmp",
            "sources/0/0",
        ];
        let noise = noise.map(|key| listed(key.to_owned()));
        let checkpoint: Vec<Listed> = offsets.chain(commits).chain(noise).collect();
        let names = sink.iter().copied().chain([".9.crc", ".99.u.tmp", ""]);
        let sink: Vec<Listed> = names
            .map(|name| listed(format!("{SINK_LOG}/{name}")))
            .collect();
        Logs::of(&checkpoint, &sink)
    }

    #[test]
    fn a_batch_has_landed_when_the_sinks_log_has_it() {
        for (offsets, commits, sink, expected) in [
            (&[][..], &[][..], &[][..], None),
            (&[0], &[], &[], None),
            (&[0], &[], &["0"], Some(0)),
            (&[0], &[0], &["0"], Some(0)),
            (&[0, 1], &[0], &["0"], Some(0)),
            (&[0, 1], &[0], &["0", "1"], Some(1)),
            (&[8, 9, 10], &[8, 9], &["8", "9.compact"], Some(9)),
            (&[8, 9, 10], &[8, 9], &["9.compact", "10"], Some(10)),
            // Both logs keep the last hundred.
            (&[500, 501], &[500], &["499.compact", "500"], Some(500)),
        ] {
            let found = logs(offsets, commits, sink).last_landed();
            assert_eq!(found, Ok(expected), "{offsets:?} {commits:?} {sink:?}");
        }
    }

    #[test]
    fn a_sink_that_is_not_the_jobs_is_refused() {
        for (offsets, commits, sink, words) in [
            (&[5, 6][..], &[5, 6][..], &["5"][..], "has ended batch 6"),
            (&[0, 1], &[0], &[], "is empty"),
            (&[0, 1], &[0], &["0", "1", "2"], "only batch 1"),
            (&[], &[], &["0"], "planned none"),
            (&[0, 2], &[], &["1"], "offsets/1 is missing"),
            (&[0, 1, 2], &[], &["0"], "has not batch 1"),
        ] {
            let why = logs(offsets, commits, sink).last_landed().unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn a_compacted_log_stands_for_all_before_it() {
        let chain = |sink: &[&str]| logs(&[], &[], sink).sink_chain();
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(chain(&[]), (vec![], vec![]));
        assert_eq!(chain(&["0", "1"]), (names(&["0", "1"]), vec![]));
        let sink = ["7", "8", "9.compact", "10", "11"];
        assert_eq!(chain(&sink), (names(&["9.compact", "10", "11"]), vec![]));
        let sink = ["9.compact", "19.compact"];
        assert_eq!(chain(&sink), (names(&["19.compact"]), vec![]));
        let sink = ["9.compact", "12"];
        assert_eq!(chain(&sink), (names(&["9.compact", "12"]), vec![10, 11]));
    }
}
