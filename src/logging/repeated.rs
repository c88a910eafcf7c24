//! Failures that repeat: one line when they start, one at growing intervals, one when they end.
//! What fails and works in turns is one failure, said at growing intervals too.

use std::time::{Duration, Instant};

/// The first interval: someone who watches sees that it still fails.
const INTERVAL_FIRST: Duration = Duration::from_secs(60);

/// The longest interval: a failure of a whole night is a dozen lines.
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// What fails again within this after its end has not ended for good.
const RELAPSE: Duration = Duration::from_secs(300);

/// So often it is said at once that it fails again after it had worked; only then it is one that
/// fails and works in turns.
const RUNS_SAID: u32 = 3;

/// What is to be logged now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// It fails, and did not before.
    Started,
    /// It still fails, or again.
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
    /// How often it began to fail.
    runs: u32,
    /// Since when it fails without having worked in between.
    run_since: Instant,
    /// Whether a line has told of this run, whose end is then said as well.
    is_run_said: bool,
    ended_at: Option<Instant>,
}

impl Repeated {
    /// It failed; what to say of it, if anything.
    pub fn failed(&mut self, now: Instant) -> Option<Say> {
        let is_over = |failing: &Failing| {
            failing
                .ended_at
                .is_some_and(|at| now.saturating_duration_since(at) >= RELAPSE)
        };
        let Some(failing) = self.failing.as_mut().filter(|failing| !is_over(failing)) else {
            self.failing = Some(Failing {
                since: now,
                count: 1,
                interval: INTERVAL_FIRST,
                next: now + INTERVAL_FIRST,
                runs: 1,
                run_since: now,
                is_run_said: true,
                ended_at: None,
            });
            return Some(Say::Started);
        };
        failing.count += 1;
        if failing.ended_at.take().is_some() {
            failing.runs = failing.runs.saturating_add(1);
            failing.run_since = now;
            failing.is_run_said = failing.runs <= RUNS_SAID;
            if failing.is_run_said {
                failing.next = now + failing.interval;
                return Some(Say::Started);
            }
        }
        // A run as long as the first interval is no flicker: it is said whatever the interval is.
        let is_outage = !failing.is_run_said
            && now.saturating_duration_since(failing.run_since) >= INTERVAL_FIRST;
        if now < failing.next && !is_outage {
            return None;
        }
        failing.is_run_said = true;
        failing.interval = (failing.interval * 2).min(INTERVAL_MAX);
        failing.next = now + failing.interval;
        Some(Say::Still {
            count: failing.count,
            lasting: now.duration_since(failing.since),
        })
    }

    /// Whether it fails as far as is known.
    pub fn is_going(&self) -> bool {
        let failing = self.failing.as_ref();
        failing.is_some_and(|failing| failing.ended_at.is_none())
    }

    /// It succeeded; what to say of it, if anything.
    pub fn ended(&mut self, now: Instant) -> Option<Say> {
        let failing = self.failing.as_mut()?;
        if failing.ended_at.replace(now).is_some() || !failing.is_run_said {
            return None;
        }
        failing.is_run_said = false;
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
    fn what_fails_again_long_after_its_end_starts_anew() {
        let start = Instant::now();
        let mut repeated = Repeated::default();
        repeated.failed(start);
        repeated.ended(start);
        assert_eq!(repeated.failed(start + RELAPSE), Some(Say::Started));
    }

    #[test]
    fn what_fails_and_works_in_turns_is_said_at_growing_intervals() {
        let start = Instant::now();
        let mut repeated = Repeated::default();
        let mut said = Vec::new();
        for second in 0..20_000 {
            let now = start + seconds(second);
            let say = match second % 2 {
                0 => repeated.failed(now),
                _ => repeated.ended(now),
            };
            said.extend(say.map(|_| second));
        }
        // A line for it and one for its end, each time.
        assert_eq!(said[..10], [0, 1, 2, 3, 4, 5, 64, 65, 184, 185]);
        assert_eq!(said.len(), 26);
    }

    #[test]
    fn an_outage_after_a_night_of_flicker_is_said_within_a_minute() {
        let start = Instant::now();
        let mut repeated = Repeated::default();
        for second in 0..20_000 {
            repeated.failed(start + seconds(2 * second));
            repeated.ended(start + seconds(2 * second + 1));
        }
        let outage = start + seconds(40_001);
        let said = (0..70).find(|second| repeated.failed(outage + seconds(*second)).is_some());
        assert_eq!(said, Some(60));
        let ended = repeated.ended(outage + seconds(80));
        assert!(matches!(ended, Some(Say::Ended { .. })), "{ended:?}");
    }
}
