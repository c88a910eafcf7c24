//! Text in the records of a bounded range: read once from its beginning to its end, with the
//! progress told and a way to stop. Blocks.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use memchr::memmem::Finder;
use serde::Serialize;

use super::log::{BrowseError, Log, Message, Messages, Step, Which};

/// Records that one search reads: some seconds of reading, and a quarter of a gigabyte of records
/// of a usual size.
pub(super) const RECORDS_MAX: usize = 500_000;
/// How often the progress is told: as often as a bar seems to move.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// What is looked for.
#[derive(Debug, Clone)]
pub(super) struct Search {
    pub(super) which: Which,
    /// In key, value, or the values of headers; bytes, so that case counts.
    pub(super) text: String,
    /// The newest of the records found.
    pub(super) limit: usize,
    pub(super) within: Duration,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Progress {
    /// Offsets passed.
    pub(super) scanned: u64,
    /// Of so many.
    pub(super) of: u64,
    /// Records found.
    pub(super) found: u64,
}

impl Search {
    /// The records found, the newest first. `tell` hears how far it is, and may end it.
    pub(super) fn run(
        &self,
        log: &Log<'_>,
        mut tell: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Messages, BrowseError> {
        let topic = log.topic()?;
        let mut open = log.wanted(&topic, self.which, RECORDS_MAX)?;
        open.retain(|_, [from, to]| from < to);
        let ranges = open.clone();
        let mut positions: BTreeMap<i32, i64> = ranges
            .iter()
            .map(|(one, [from, _])| (*one, *from))
            .collect();
        log.follow(&positions)?;
        let finder = Finder::new(&self.text);
        let mut found = VecDeque::new();
        let mut count = 0;
        let (began, mut told) = (Instant::now(), Instant::now());
        let mut cut = None;
        while !open.is_empty() {
            let left = self.within.saturating_sub(began.elapsed());
            if left.is_zero() {
                cut = Some("it took too long and was ended: ask for less".to_owned());
                break;
            }
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                let progress = progress(&ranges, &positions, count);
                if tell(progress).is_break() {
                    cut = Some("it was ended".to_owned());
                    break;
                }
            }
            match log.step(left.min(TELL_EVERY))? {
                Step::Nothing => {}
                Step::End(partition) => {
                    positions.insert(partition, ranges.get(&partition).map_or(0, |[_, to]| *to));
                    log.done(&mut open, partition)?;
                }
                Step::Record(message) => {
                    let Some([_, to]) = open.get(&message.partition).copied() else {
                        continue;
                    };
                    positions.insert(message.partition, (message.offset + 1).min(to));
                    if message.offset + 1 >= to {
                        log.done(&mut open, message.partition)?;
                    }
                    if message.offset < to && holds(&finder, &message) {
                        count += 1;
                        found.push_back(message);
                        if found.len() > self.limit {
                            found.pop_front();
                        }
                    }
                }
            }
        }
        log.leave()?;
        let _ = tell(progress(&ranges, &positions, count));
        let mut messages = Vec::from(found);
        messages
            .sort_by_key(|one| std::cmp::Reverse((one.timestamp_ms, one.partition, one.offset)));
        let all = format!(
            "{count} records hold it; these are the last {} that were found",
            self.limit
        );
        let cut = cut.or_else(|| (count > self.limit as u64).then_some(all));
        Ok(Messages { messages, cut })
    }
}

fn progress(
    ranges: &BTreeMap<i32, [i64; 2]>,
    positions: &BTreeMap<i32, i64>,
    found: u64,
) -> Progress {
    let passed = |(partition, [from, to]): (&i32, &[i64; 2])| {
        let position = positions.get(partition).copied().unwrap_or(*from);
        (position.clamp(*from, *to) - from).unsigned_abs()
    };
    Progress {
        scanned: ranges.iter().map(passed).sum(),
        of: ranges
            .values()
            .map(|[from, to]| (to - from).unsigned_abs())
            .sum(),
        found,
    }
}

fn holds(finder: &Finder<'_>, message: &Message) -> bool {
    let headers = message.headers.iter().map(|(_, value)| value);
    [&message.key, &message.value]
        .into_iter()
        .chain(headers)
        .flatten()
        .any(|part| finder.find(part).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::browse::log::tests::{broker, fill};

    const WITHIN: Duration = Duration::from_secs(30);

    fn search(text: &str, limit: usize) -> Search {
        Search {
            which: Which::Newest,
            text: text.into(),
            limit,
            within: WITHIN,
        }
    }

    #[tokio::test]
    async fn what_holds_the_text_is_found_the_newest_first_with_the_progress_told() {
        let (_broker, kafka) = broker(2);
        // The values are the numbers 0 to 39.
        fill(&kafka, 2, 40).await;
        let found = tokio::task::spawn_blocking(move || {
            let log = Log::open(&kafka).unwrap();
            let mut last = None;
            let found = search("3", 5).run(&log, |progress| {
                last = Some(progress);
                ControlFlow::Continue(())
            });
            (found.unwrap(), last.unwrap())
        });
        let (found, progress) = found.await.unwrap();
        assert_eq!(
            progress,
            Progress {
                scanned: 80,
                of: 80,
                found: 26
            }
        );
        let offsets: Vec<(i32, i64)> = found
            .messages
            .iter()
            .map(|one| (one.partition, one.offset))
            .collect();
        assert_eq!(offsets.len(), 5);
        assert!(found.cut.unwrap().starts_with("26 records hold it"));
    }

    #[tokio::test]
    async fn a_search_can_be_ended() {
        let (_broker, kafka) = broker(1);
        fill(&kafka, 1, 3).await;
        let found = tokio::task::spawn_blocking(move || {
            let log = Log::open(&kafka).unwrap();
            let hurried = Search {
                within: Duration::ZERO,
                ..search("1", 5)
            };
            hurried.run(&log, |_| ControlFlow::Continue(()))
        });
        let found = found.await.unwrap().unwrap();
        assert!(found.messages.is_empty());
        assert_eq!(
            found.cut.unwrap(),
            "it took too long and was ended: ask for less"
        );
    }

    #[test]
    fn the_text_is_looked_for_in_key_value_and_headers() {
        let message = Message {
            partition: 0,
            offset: 0,
            timestamp_ms: 0,
            key: Some(b"the key".to_vec()),
            value: None,
            headers: vec![("name".into(), Some(b"a header".to_vec()))],
        };
        let is_there = |text: &str| holds(&Finder::new(text), &message);
        assert!(is_there("key") && is_there("head"));
        assert!(!is_there("name") && !is_there("Key"));
    }
}
