//! Failures that repeat: one line when they start, one at growing intervals, one when they end.

use std::time::{Duration, Instant};

/// The first interval: someone who watches sees that it still fails.
const INTERVAL_FIRST: Duration = Duration::from_secs(60);

/// The longest interval: a failure of a whole night is a dozen lines.
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// What is to be logged now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// It fails, and did not before.
    Started,
    /// It still fails.
    Still {
        /// Failures so far.
        count: u64,
        /// Since the first of them.
        lasting: Duration,
    },
    /// It fails no more.
    Ended {
        /// How often it failed.
        count: u64,
        /// From the first failure to now.
        lasting: Duration,
    },
}

/// One kind of failure. Pure: time comes in with each call.
#[derive(Debug, Default)]
pub struct Repeated {
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    count: u64,
    interval: Duration,
    next: Instant,
}

impl Repeated {
    /// It failed; what to say of it, if anything.
    pub fn failed(&mut self, now: Instant) -> Option<Say> {
        let Some(failing) = &mut self.failing else {
            self.failing = Some(Failing {
                since: now,
                count: 1,
                interval: INTERVAL_FIRST,
                next: now + INTERVAL_FIRST,
            });
            return Some(Say::Started);
        };
        failing.count += 1;
        if now < failing.next {
            return None;
        }
        failing.interval = (failing.interval * 2).min(INTERVAL_MAX);
        failing.next = now + failing.interval;
        Some(Say::Still {
            count: failing.count,
            lasting: now.duration_since(failing.since),
        })
    }

    /// It succeeded; what to say of it, if anything.
    pub fn ended(&mut self, now: Instant) -> Option<Say> {
        let failing = self.failing.take()?;
        Some(Say::Ended {
            count: failing.count,
            lasting: now.duration_since(failing.since),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn a_failure_each_second_is_said_at_growing_intervals() {
        let start = Instant::now();
        let mut repeated = Repeated::default();
        let said: Vec<u64> = (0..20_000)
            .filter(|second| repeated.failed(start + seconds(*second)).is_some())
            .collect();
        assert_eq!(
            said,
            [
                0, 60, 180, 420, 900, 1860, 3780, 7380, 10_980, 14_580, 18_180
            ]
        );
    }

    #[test]
    fn its_end_is_said_once_with_count_and_duration() {
        let start = Instant::now();
        let mut repeated = Repeated::default();
        assert_eq!(repeated.ended(start), None);
        assert_eq!(repeated.failed(start), Some(Say::Started));
        assert_eq!(repeated.failed(start + seconds(5)), None);
        let ended = Say::Ended {
            count: 2,
            lasting: seconds(9),
        };
        assert_eq!(repeated.ended(start + seconds(9)), Some(ended));
        assert_eq!(repeated.ended(start + seconds(9)), None);
    }

    #[test]
    fn what_fails_again_after_its_end_starts_anew() {
        let start = Instant::now();
        let mut repeated = Repeated::default();
        repeated.failed(start);
        repeated.ended(start);
        assert_eq!(repeated.failed(start), Some(Say::Started));
    }
}
