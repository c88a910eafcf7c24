//! How long to wait before a request is made again. Who may repeat what is up to the callers.

use std::time::Duration;

/// Delays that double up to a limit, with jitter, so that writers who met do not meet again.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    next: Duration,
}

/// Doubling reaches any sensible limit within a dozen attempts.
const FACTOR: u32 = 2;

impl Backoff {
    /// The first delay is at most `initial`, none is longer than `max`.
    pub fn new(initial: Duration, max: Duration) -> Self {
        let initial = initial.min(max);
        Self {
            initial,
            max,
            next: initial,
        }
    }

    /// The next delay: between half of the current step and the whole of it, by `random` in
    /// [0, 1) (what lies outside is clamped).
    pub fn next_delay(&mut self, random: f64) -> Duration {
        let step = self.next;
        self.next = step.saturating_mul(FACTOR).min(self.max);
        let random = if random.is_nan() { 0.0 } else { random };
        // The product of floats may be a nanosecond too long.
        step.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0).min(step)
    }

    /// After a success: the next delay is an initial one again.
    pub fn reset(&mut self) {
        self.next = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_double_up_to_the_limit_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(SECOND, 5 * SECOND);
        let delays: Vec<_> = (0..5).map(|_| backoff.next_delay(1.0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.next_delay(1.0), SECOND);
    }

    #[test]
    fn jitter_takes_at_most_half_of_a_delay() {
        let mut backoff = Backoff::new(SECOND, SECOND);
        for random in [0.0, 0.25, 0.999, -3.0, 7.0, f64::NAN, f64::INFINITY] {
            let delay = backoff.next_delay(random);
            assert!(
                delay >= SECOND / 2 && delay <= SECOND,
                "{random}: {delay:?}"
            );
        }
    }

    #[test]
    fn no_number_of_failures_overflows() {
        let mut backoff = Backoff::new(SECOND, Duration::MAX / 4);
        for _ in 0..200 {
            backoff.next_delay(0.5);
        }
        assert!(backoff.next_delay(1.0) <= Duration::MAX / 4);
    }
}
