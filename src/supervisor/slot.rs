//! One group as the supervisor sees it: its phase, its policy, and what was said of its failures.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use slog::{Logger, info, warn};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::ExitReason;
use super::group::{Group, Outcome};
use super::policy::Policy;
use crate::config::Config;
use crate::generation::{End, Failure, Generation};
use crate::logging::{Repeated, Say, events};
use crate::status::{GroupStatus, Status};

/// However short the heartbeat: on a busy machine a thread may wait for a processor so long.
const THREAD_PATIENCE: Duration = Duration::from_secs(5);

/// Where a group stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nothing runs and nothing is awaited.
    Idle,
    /// Its last generation failed; the next one is due at this time.
    BackingOff {
        until: Instant,
    },
    Running(Live),
    /// Asked to end, and not yet gone.
    Leaving(Live, Leave),
}

/// A generation whose thread is there.
#[derive(Debug)]
pub(super) struct Live {
    done: oneshot::Receiver<Outcome>,
    drain: CancellationToken,
    stop: CancellationToken,
    pub(super) started: Instant,
}

/// How a generation was asked to end.
#[derive(Debug)]
pub(super) struct Leave {
    /// Until when it has time for what it was asked; `None`: it is stuck and had all its time.
    pub(super) deadline: Option<Instant>,
    /// It was told to stop, not only to drain.
    pub(super) stopped: bool,
    /// What was wrong with it; `None`: it drains because it is not wanted any more.
    pub(super) why: Option<Failure>,
}

/// What the end of a generation means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It did what it was asked.
    AsAsked,
    /// There is nothing left to do for the process.
    Done(ExitReason),
    /// It ended though it should run.
    Failed(Failure),
    /// It was to drain and failed at that.
    FailedDraining(Failure),
}

/// Judges how a generation ended. `leave` tells what it had been asked.
pub(super) fn judge(leave: Option<&Leave>, until_caught_up: bool, outcome: Outcome) -> Judgement {
    let fenced = matches!(outcome, Err(Failure::Fenced(_)));
    match (outcome, leave) {
        (Ok(End::CaughtUp), _) if until_caught_up => Judgement::Done(ExitReason::CaughtUp),
        (Ok(End::OnlyStoppedLeft(which)), _) if until_caught_up => {
            Judgement::Done(ExitReason::OnlyStoppedLeft(which))
        }
        (Err(failure), _) if fenced => Judgement::Failed(failure),
        (_, Some(Leave { why: Some(why), .. })) => Judgement::Failed(why.clone()),
        (Ok(_), Some(_)) => Judgement::AsAsked,
        (Err(failure), Some(_)) => Judgement::FailedDraining(failure),
        (Err(failure), None) => Judgement::Failed(failure),
        (Ok(end), None) => {
            let text = format!("it ended though it should run ({end:?})");
            Judgement::Failed(Failure::Group(text))
        }
    }
}

/// What a generation is made from, besides its group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) config: &'a Arc<Config>,
    pub(super) status: &'a Arc<Status>,
    pub(super) log: &'a Logger,
    pub(super) until_caught_up: bool,
}

/// One group over all its generations.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) group: Group,
    pub(super) policy: Policy,
    pub(super) status: Arc<GroupStatus>,
    pub(super) phase: Phase,
    /// Its generation was made from a configuration that is out of date.
    pub(super) stale: bool,
    /// Generations started so far.
    number: u64,
    /// The last back-off, until a generation has outlived it: only then it counts as recovered.
    failing: Option<Duration>,
    last_failure: String,
    said: Repeated,
}

impl Slot {
    pub(super) fn new(group: Group, status: &Status) -> Self {
        Self {
            policy: Policy::new(group.name.is_vital()),
            status: status.group(group.name.as_str()),
            group,
            phase: Phase::Idle,
            stale: false,
            number: 0,
            failing: None,
            last_failure: String::new(),
            said: Repeated::default(),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.group.name.as_str()
    }

    /// Of its last generation; 0: none was started.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    /// Starts the next generation.
    pub(super) fn start(&mut self, parts: Parts<'_>, now: Instant) -> Result<(), Failure> {
        self.number += 1;
        self.stale = false;
        self.status.begin(self.number);
        let topic = parts.config.kafka.topic.clone();
        let log = parts.log.new(slog::o!("topic" => topic));
        let log = log.new(slog::o!("group" => self.name(), "generation" => self.number));
        let generation = Generation {
            config: parts.config.clone(),
            status: parts.status.clone(),
            group: self.status.clone(),
            log: log.clone(),
            number: self.number,
            until_caught_up: parts.until_caught_up,
            drain: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        let (drain, stop) = (generation.drain.clone(), generation.stop.clone());
        let done = self.group.start(generation).map_err(|error| {
            self.status.running.store(false, Ordering::Relaxed);
            Failure::Group(format!("no thread could be started: {error}"))
        })?;
        info!(parts.log, "generation started"; "group" => self.name(), "generation" => self.number);
        self.phase = Phase::Running(Live {
            done,
            drain,
            stop,
            started: now,
        });
        Ok(())
    }

    /// Asks a running generation to end: to drain, or, where something is wrong with it, to stop.
    pub(super) fn leave(&mut self, why: Option<Failure>, deadline: Instant) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Running(live) => {
                let stopped = why.is_some();
                let token = if stopped { &live.stop } else { &live.drain };
                token.cancel();
                let leave = Leave {
                    deadline: Some(deadline),
                    stopped,
                    why,
                };
                Phase::Leaving(live, leave)
            }
            other => other,
        };
    }

    /// Tells a draining generation to stop at once.
    pub(super) fn stop(&mut self, deadline: Instant) {
        if let Phase::Leaving(live, leave) = &mut self.phase {
            live.stop.cancel();
            leave.stopped = true;
            leave.deadline = Some(deadline);
        }
    }

    /// Forgets a generation whose thread will not end.
    pub(super) fn abandon(&mut self) {
        self.status.running.store(false, Ordering::Relaxed);
        self.phase = Phase::Idle;
    }

    /// Its thread, where that has not come round for `heartbeat`, whatever its actors said last;
    /// else the actor that has been silent for longest though it works, where that is longer than
    /// `heartbeat`.
    pub(super) fn hung(&self, heartbeat: Duration) -> Option<Failure> {
        if !matches!(self.phase, Phase::Running(_)) {
            return None;
        }
        let thread = &self.status.thread;
        if thread.is_hung(heartbeat.max(THREAD_PATIENCE)) {
            let silent = humantime::format_duration(Duration::from_millis(thread.silent_ms()));
            let text = format!("its thread hung: no turn for {silent}");
            return Some(Failure::Group(text));
        }
        let (actor, pulse) = self
            .status
            .actors()
            .into_iter()
            .filter(|(_, pulse)| pulse.is_hung(heartbeat))
            .max_by_key(|(_, pulse)| pulse.silent_ms())?;
        let silent = Duration::from_millis(pulse.silent_ms());
        let reason = format!(
            "hung: no progress for {}",
            humantime::format_duration(silent)
        );
        Some(Failure::Actor { actor, reason })
    }

    /// Whether it makes progress, or the supervisor still waits for it under a deadline: what the
    /// watchdog asks.
    pub(super) fn is_alive(&self, heartbeat: Duration) -> bool {
        match &self.phase {
            Phase::Idle | Phase::BackingOff { .. } => true,
            Phase::Running(_) => self.hung(heartbeat).is_none(),
            Phase::Leaving(_, leave) => leave.why.is_none() && leave.deadline.is_some(),
        }
    }

    /// Resolves once its generation's thread is gone.
    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        let (Phase::Running(live) | Phase::Leaving(live, _)) = &mut self.phase else {
            return Poll::Pending;
        };
        Pin::new(&mut live.done).poll(context).map(|answer| {
            let vanished = Failure::Group("its thread ended without an answer".to_owned());
            answer.unwrap_or(Err(vanished))
        })
    }

    /// When something is due: a restart, a deadline, or counting as recovered.
    pub(super) fn due_at(&self, shortest: Duration) -> Option<Instant> {
        match &self.phase {
            Phase::Idle => None,
            Phase::BackingOff { until } => Some(*until),
            Phase::Leaving(_, leave) => leave.deadline,
            Phase::Running(live) => self
                .failing
                .map(|waited| live.started + waited.max(shortest)),
        }
    }

    /// Says a failure, in the log and in the status, and waits until `until`.
    pub(super) fn back_off(
        &mut self,
        failure: &Failure,
        after: Duration,
        now: Instant,
        status: &Status,
        log: &Logger,
    ) {
        let text = failure.to_string();
        let wait = humantime::format_duration(after).to_string();
        let words = format!(
            "the group {} failed and is started again: {text}",
            self.name()
        );
        status.trouble(&self.trouble_place(), &words, false);
        if text != self.last_failure {
            self.said = Repeated::default();
        }
        match self.said.failed(now) {
            Some(Say::Still { count, lasting }) => {
                warn!(log, "group keeps failing"; events::GROUP_RESTARTED, "group" => self.name(),
                    "error" => &text, "failures" => count, "seconds" => lasting.as_secs(),
                    "restart_in" => wait);
            }
            Some(_) => {
                warn!(log, "group failed"; events::GROUP_RESTARTED, "group" => self.name(),
                    "generation" => self.number, "error" => &text, "restart_in" => wait);
            }
            // Few, because of the budget, and each of them matters.
            None if self.group.name.is_vital() => {
                warn!(log, "group failed again"; events::GROUP_RESTARTED, "group" => self.name(),
                    "generation" => self.number, "error" => &text, "restart_in" => wait);
            }
            None => {}
        }
        self.last_failure = text;
        self.failing = Some(after);
        self.phase = Phase::BackingOff { until: now + after };
    }

    /// Says that it is well again once a generation has run for longer than the last back-off.
    pub(super) fn note_recovery(
        &mut self,
        shortest: Duration,
        now: Instant,
        status: &Status,
        log: &Logger,
    ) {
        let (Phase::Running(live), Some(waited)) = (&self.phase, self.failing) else {
            return;
        };
        if now.duration_since(live.started) < waited.max(shortest) {
            return;
        }
        self.forget_failure(status);
        if let Some(Say::Ended { count, lasting }) = self.said.ended(now) {
            info!(log, "group runs again"; events::GROUP_RECOVERED, "group" => self.name(),
                "generation" => self.number, "failures" => count, "seconds" => lasting.as_secs());
        }
    }

    /// Its last failure is no trouble any more.
    pub(super) fn forget_failure(&mut self, status: &Status) {
        if self.failing.take().is_some() {
            self.last_failure.clear();
            status.mended(&self.trouble_place());
        }
    }

    /// Says that its thread is stuck; it is waited for without a deadline.
    pub(super) fn stay_stuck(&mut self, words: &str, status: &Status) {
        let words = format!("{words}; restart the service to have it back");
        status.trouble(&self.trouble_place(), &words, true);
        self.failing = Some(Duration::ZERO);
        if let Phase::Leaving(_, leave) = &mut self.phase {
            leave.deadline = None;
        }
    }

    fn trouble_place(&self) -> String {
        format!("group {}", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leave(why: Option<Failure>) -> Leave {
        Leave {
            deadline: None,
            stopped: why.is_some(),
            why,
        }
    }

    fn group(text: &str) -> Failure {
        Failure::Group(text.to_owned())
    }

    #[test]
    fn an_end_that_nobody_asked_for_is_a_failure() {
        for end in [End::Drained, End::Stopped, End::CaughtUp] {
            let judgement = judge(None, false, Ok(end));
            assert!(matches!(judgement, Judgement::Failed(_)), "{judgement:?}");
        }
    }

    #[test]
    fn a_drain_that_was_asked_for_is_none() {
        let asked = leave(None);
        assert_eq!(
            judge(Some(&asked), false, Ok(End::Drained)),
            Judgement::AsAsked
        );
        assert_eq!(
            judge(Some(&asked), false, Err(group("full"))),
            Judgement::FailedDraining(group("full"))
        );
    }

    #[test]
    fn a_hung_generation_failed_however_it_ended() {
        let hung = leave(Some(group("hung")));
        for outcome in [Ok(End::Stopped), Err(group("stopped"))] {
            let judgement = judge(Some(&hung), false, outcome);
            assert_eq!(judgement, Judgement::Failed(group("hung")));
        }
    }

    #[test]
    fn catching_up_ends_the_process_only_where_that_was_asked() {
        assert_eq!(
            judge(None, true, Ok(End::CaughtUp)),
            Judgement::Done(ExitReason::CaughtUp)
        );
        let left = End::OnlyStoppedLeft("t 0".to_owned());
        assert_eq!(
            judge(None, true, Ok(left)),
            Judgement::Done(ExitReason::OnlyStoppedLeft("t 0".to_owned()))
        );
    }

    #[test]
    fn fencing_is_never_taken_for_anything_else() {
        let fenced = Failure::Fenced("id".to_owned());
        let asked = leave(None);
        let hung = leave(Some(group("hung")));
        for leave in [None, Some(&asked), Some(&hung)] {
            let judgement = judge(leave, false, Err(fenced.clone()));
            assert_eq!(judgement, Judgement::Failed(fenced.clone()));
        }
    }
}
