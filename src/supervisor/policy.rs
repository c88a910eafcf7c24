//! The restart policy of one group: when a new generation is started, and when it is given up.
//! Pure: time comes in with each call.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config::Supervision;
use crate::generation::Failure;

/// A generation that ran for so long was well: what failed before it has no bearing on the next
/// failure. Longer than the longest sensible `backoff_max`, so that a group that fails after each
/// back-off keeps backing off.
const HEALTHY: Duration = Duration::from_secs(300);

/// What becomes of a group whose generation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A new generation is started after this.
    Restart {
        /// The back-off.
        after: Duration,
    },
    /// It was restarted too often: the process gives up, and says this.
    GiveUp(String),
    /// No restart can help.
    Fenced(String),
}

/// The failures of one group so far.
#[derive(Debug)]
pub struct Policy {
    /// Whether its failures may end the process; others are retried for ever.
    vital: bool,
    /// The next back-off; `None`: the shortest.
    next_backoff: Option<Duration>,
    /// When it was restarted, within the window.
    restarts: VecDeque<Instant>,
}

impl Policy {
    /// Nothing has failed yet.
    pub fn new(vital: bool) -> Self {
        Self {
            vital,
            next_backoff: None,
            restarts: VecDeque::new(),
        }
    }

    /// Judges the failure of a generation that ran for `ran`.
    pub fn failed(
        &mut self,
        settings: &Supervision,
        now: Instant,
        ran: Duration,
        failure: &Failure,
    ) -> Verdict {
        if let Failure::Fenced(reason) = failure {
            return Verdict::Fenced(reason.clone());
        }
        if self.vital && !self.may_restart(settings, now) {
            return Verdict::GiveUp(format!(
                "more than {} restarts within {}; the last failure: {failure}",
                settings.restarts,
                humantime::format_duration(settings.window),
            ));
        }
        Verdict::Restart {
            after: self.back_off(settings, ran),
        }
    }

    /// Forgets what failed: the configuration is another one.
    pub fn forget(&mut self) {
        self.next_backoff = None;
        self.restarts.clear();
    }

    fn may_restart(&mut self, settings: &Supervision, now: Instant) -> bool {
        self.restarts
            .retain(|at| now.duration_since(*at) < settings.window);
        if self.restarts.len() >= settings.restarts as usize {
            return false;
        }
        self.restarts.push_back(now);
        true
    }

    fn back_off(&mut self, settings: &Supervision, ran: Duration) -> Duration {
        if ran >= HEALTHY {
            self.next_backoff = None;
        }
        let after = self
            .next_backoff
            .unwrap_or(settings.backoff)
            .min(settings.backoff_max);
        self.next_backoff = Some(after.saturating_mul(2).min(settings.backoff_max));
        after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Supervision {
        Supervision {
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            restarts: 3,
            window: Duration::from_secs(600),
            heartbeat: Duration::from_secs(60),
        }
    }

    fn failure() -> Failure {
        Failure::Group("it fell over".to_owned())
    }

    fn waits(policy: &mut Policy, ran_s: u64) -> u64 {
        let ran = Duration::from_secs(ran_s);
        match policy.failed(&settings(), Instant::now(), ran, &failure()) {
            Verdict::Restart { after } => after.as_secs(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_back_off_doubles_up_to_its_maximum() {
        let mut policy = Policy::new(false);
        let seen: Vec<u64> = (0..8).map(|_| waits(&mut policy, 1)).collect();
        assert_eq!(seen, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn five_healthy_minutes_forget_the_back_off() {
        let mut policy = Policy::new(false);
        assert_eq!(waits(&mut policy, 1), 1);
        assert_eq!(waits(&mut policy, 299), 2);
        assert_eq!(waits(&mut policy, 300), 1);
    }

    #[test]
    fn more_restarts_within_the_window_than_allowed_give_up() {
        let mut policy = Policy::new(true);
        let now = Instant::now();
        for _ in 0..3 {
            let verdict = policy.failed(&settings(), now, Duration::ZERO, &failure());
            assert!(matches!(verdict, Verdict::Restart { .. }));
        }
        let Verdict::GiveUp(why) = policy.failed(&settings(), now, Duration::ZERO, &failure())
        else {
            panic!("the fourth restart was allowed");
        };
        assert_eq!(
            why,
            "more than 3 restarts within 10m; the last failure: it fell over"
        );
    }

    #[test]
    fn restarts_older_than_the_window_do_not_count() {
        let mut policy = Policy::new(true);
        let start = Instant::now();
        for number in 0..20 {
            let now = start + Duration::from_secs(200 * number);
            let verdict = policy.failed(&settings(), now, Duration::ZERO, &failure());
            assert!(matches!(verdict, Verdict::Restart { .. }), "{number}");
        }
    }

    #[test]
    fn a_group_that_is_not_vital_is_retried_for_ever() {
        let mut policy = Policy::new(false);
        for _ in 0..1000 {
            waits(&mut policy, 0);
        }
    }

    #[test]
    fn fencing_is_final_at_once() {
        let fenced = Failure::Fenced("another".to_owned());
        let verdict =
            Policy::new(true).failed(&settings(), Instant::now(), Duration::ZERO, &fenced);
        assert_eq!(verdict, Verdict::Fenced("another".to_owned()));
    }
}
