//! Whether a source that answers is frozen: its updater has crashed and a cache goes on serving
//! the same. The status cannot tell; the timestamp in the body can.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What was last seen of the source, and since when.
#[derive(Debug)]
pub(crate) struct Staleness {
    stale_after: Duration,
    /// What stands for the answer's time, and when it was first seen.
    last: Option<(Mark, Instant)>,
    frozen: bool,
}

/// What stands for an answer's time.
#[derive(Debug, PartialEq)]
enum Mark {
    Timestamp(Value),
    /// A hash of the whole body, where it has no timestamp.
    Body(u64),
}

/// What an answer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// It is frozen: nothing has moved for so long.
    Froze(Duration),
    /// It moves again, after so long.
    Thawed(Duration),
}

impl Staleness {
    /// Nothing was seen yet.
    pub(crate) fn new(stale_after: Duration) -> Self {
        Self {
            stale_after,
            last: None,
            frozen: false,
        }
    }

    /// A success with this timestamp and body came now.
    pub(crate) fn seen(&mut self, now: Instant, timestamp: Option<Value>, body: &[u8]) -> Change {
        let mark = timestamp.map_or_else(|| Mark::Body(hash(body)), Mark::Timestamp);
        match &self.last {
            Some((last, since)) if *last == mark => {
                let unchanged = now - *since;
                if self.frozen || unchanged < self.stale_after {
                    return Change::None;
                }
                self.frozen = true;
                Change::Froze(unchanged)
            }
            last => {
                let unchanged = last.as_ref().map(|(_, since)| now - *since);
                self.last = Some((mark, now));
                match unchanged {
                    Some(unchanged) if std::mem::take(&mut self.frozen) => {
                        Change::Thawed(unchanged)
                    }
                    _ => Change::None,
                }
            }
        }
    }
}

fn hash(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_timestamp_that_stands_still_is_reported_once_and_so_is_its_end() {
        let start = Instant::now();
        let mut staleness = Staleness::new(60 * SECOND);
        let mut seen = |after_s: u32, timestamp: i64, body: &[u8]| {
            staleness.seen(start + after_s * SECOND, Some(timestamp.into()), body)
        };
        assert_eq!(seen(0, 1, b"a"), Change::None);
        assert_eq!(seen(30, 1, b"b"), Change::None);
        assert_eq!(seen(60, 1, b"c"), Change::Froze(60 * SECOND));
        assert_eq!(seen(65, 1, b"d"), Change::None);
        assert_eq!(seen(70, 2, b"d"), Change::Thawed(70 * SECOND));
        assert_eq!(seen(129, 2, b"d"), Change::None);
        assert_eq!(seen(130, 2, b"d"), Change::Froze(60 * SECOND));
    }

    #[test]
    fn without_a_timestamp_the_body_stands_for_it() {
        let start = Instant::now();
        let mut staleness = Staleness::new(SECOND);
        assert_eq!(staleness.seen(start, None, b"[1]"), Change::None);
        assert_eq!(staleness.seen(start + SECOND, None, b"[2]"), Change::None);
        assert_eq!(
            staleness.seen(start + 2 * SECOND, None, b"[2]"),
            Change::Froze(SECOND)
        );
    }
}
