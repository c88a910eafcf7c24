//! When to poll: a grid from a fixed origin, so that nothing drifts; a missed tick is skipped.

use std::time::{Duration, Instant};

/// Open Notify asks for about one request in so long; a retry keeps to it even where the interval
/// is longer.
const DOCUMENTED_SPACING: Duration = Duration::from_secs(5);

/// The grid of polls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    /// The first poll.
    origin: Instant,
    interval: Duration,
    /// The longest time between two retries.
    backoff_max: Duration,
}

impl Schedule {
    /// A grid that begins now. `interval` is above zero.
    pub(crate) fn new(origin: Instant, interval: Duration, backoff_max: Duration) -> Self {
        Self {
            origin,
            interval,
            backoff_max,
        }
    }

    /// The least time between two polls.
    fn spacing(&self) -> Duration {
        self.interval.min(DOCUMENTED_SPACING)
    }

    /// After a poll that began at `polled_at` and was a success: the next tick of the grid that is
    /// still to come and not too close to that poll. A fifth of the spacing is let pass, or a poll
    /// that began a little late would cost the tick after it.
    pub(crate) fn next(&self, polled_at: Instant, now: Instant) -> Instant {
        let earliest = now.max(polled_at + self.spacing() * 4 / 5);
        let since = earliest.saturating_duration_since(self.origin).as_nanos();
        let interval = self.interval.as_nanos().max(1);
        let ticks = since.div_ceil(interval).max(1) * interval;
        self.origin + Duration::from_nanos(u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    /// After the `failures`th failure in a row (1 is the first) of a poll that began at
    /// `polled_at`: doubling from the spacing to the longest, and up to half of it more by
    /// `jitter` in 0.0 to 1.0, so that many clients do not come back at once.
    pub(crate) fn retry(
        &self,
        polled_at: Instant,
        now: Instant,
        failures: u64,
        jitter: f64,
    ) -> Instant {
        let doublings = u32::try_from(failures.saturating_sub(1)).map_or(16, |n| n.min(16));
        let longest = self.backoff_max.max(self.spacing());
        let backoff = (self.spacing() * (1 << doublings)).min(longest);
        (polled_at + backoff.mul_f64(1.0 + 0.5 * jitter.clamp(0.0, 1.0))).max(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn schedule(origin: Instant) -> Schedule {
        Schedule::new(origin, 5 * SECOND, 60 * SECOND)
    }

    #[test]
    fn polls_that_begin_late_do_not_shift_the_grid() {
        let origin = Instant::now();
        let schedule = schedule(origin);
        let mut due = origin;
        for _ in 0..1_000 {
            let began = due + Duration::from_millis(37);
            due = schedule.next(began, began + SECOND);
        }
        assert_eq!(due, origin + 5_000 * SECOND);
    }

    #[test]
    fn missed_ticks_are_skipped_not_made_up_for() {
        let origin = Instant::now();
        let schedule = schedule(origin);
        let now = origin + Duration::from_millis(62_300);
        assert_eq!(schedule.next(origin, now), origin + 65 * SECOND);
    }

    #[test]
    fn a_long_interval_is_retried_before_its_next_tick() {
        let origin = Instant::now();
        let schedule = Schedule::new(origin, 3600 * SECOND, 60 * SECOND);
        assert_eq!(schedule.retry(origin, origin, 1, 0.0), origin + 5 * SECOND);
        assert_eq!(
            schedule.retry(origin, origin, 99, 1.0),
            origin + 90 * SECOND
        );
        let mended = origin + 20 * SECOND;
        assert_eq!(schedule.next(mended, mended), origin + 3600 * SECOND);
    }

    proptest! {
        #[test]
        fn the_documented_rate_is_never_exceeded(
            polls in proptest::collection::vec((any::<bool>(), 0_u64..12_000, 0.0_f64..1.0), 1..200),
        ) {
            let origin = Instant::now();
            let schedule = schedule(origin);
            let mut due = origin;
            let mut failures = 0;
            for (good, took_ms, jitter) in polls {
                let began = due;
                let now = began + Duration::from_millis(took_ms);
                due = if good {
                    failures = 0;
                    schedule.next(began, now)
                } else {
                    failures += 1;
                    schedule.retry(began, now, failures, jitter)
                };
                prop_assert!(due - began >= 4 * SECOND);
            }
            prop_assert!(due >= origin);
        }
    }
}
