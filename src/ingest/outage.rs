//! One line when a trouble starts, one at growing intervals while it lasts, one when it ends.

use std::time::{Duration, Instant};

/// The first reminder; each further one waits twice as long as the one before it.
const FIRST_REMINDER: Duration = Duration::from_secs(60);

/// Reminders come at least so often: a log of a day shows it.
const LONGEST_REMINDER: Duration = Duration::from_secs(3600);

/// Whether something is in trouble, and what of it was said.
#[derive(Debug, Default)]
pub(crate) struct Outage(Option<Ongoing>);

#[derive(Debug)]
struct Ongoing {
    since: Instant,
    failures: u64,
    remind_at: Instant,
    remind_after: Duration,
}

/// What is to be said of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Say {
    /// It is the first: it starts.
    Started,
    /// It has lasted for so long, with so many failures.
    StillThere(Duration, u64),
    /// Nothing.
    Nothing,
}

impl Outage {
    /// It failed now.
    pub(crate) fn failed(&mut self, now: Instant) -> Say {
        let Some(ongoing) = &mut self.0 else {
            self.0 = Some(Ongoing {
                since: now,
                failures: 1,
                remind_at: now + FIRST_REMINDER,
                remind_after: FIRST_REMINDER,
            });
            return Say::Started;
        };
        ongoing.failures += 1;
        if now < ongoing.remind_at {
            return Say::Nothing;
        }
        ongoing.remind_after = (ongoing.remind_after * 2).min(LONGEST_REMINDER);
        ongoing.remind_at = now + ongoing.remind_after;
        Say::StillThere(now - ongoing.since, ongoing.failures)
    }

    /// It is well now. If it was not: for how long, and how many failures there were.
    pub(crate) fn ended(&mut self, now: Instant) -> Option<(Duration, u64)> {
        let ongoing = self.0.take()?;
        Some((now - ongoing.since, ongoing.failures))
    }

    /// Failures since it was last well.
    pub(crate) fn failures(&self) -> u64 {
        self.0.as_ref().map_or(0, |ongoing| ongoing.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_failures_every_five_seconds_is_a_few_dozen_lines() {
        let start = Instant::now();
        let mut outage = Outage::default();
        let lines = (0..17_280)
            .filter(|poll| outage.failed(start + Duration::from_secs(5 * poll)) != Say::Nothing)
            .count();
        assert!((25..35).contains(&lines), "{lines}");
        let end = start + Duration::from_secs(86_400);
        assert_eq!(outage.ended(end), Some((end - start, 17_280)));
        assert_eq!(outage.ended(end), None);
        assert_eq!(outage.failed(end), Say::Started);
    }
}
