//! Keeps the groups of actors as they are desired: started, restarted when they fail, drained
//! when the configuration or the process moves on.
//!
//! Start, crash, reload and shutdown are one path: something happens, what is desired is compared
//! with what is there, and the difference is started or asked to leave. Waiting for Kafka, the
//! store or the source is no failure of a generation and never comes here.
//!
//! Only `landing` ends the process: by too many restarts, by being fenced, or by a thread that
//! will not end, because no new generation may begin before the old one is gone. `ingest` and
//! `web` are retried for ever; one whose thread is stuck stays down, as an unhealthy trouble,
//! until it ends or the process is restarted.

pub mod effect;
mod ending;
mod group;
mod plan;
mod policy;
pub mod reload;
mod slot;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use slog::{debug, error, info, warn};

use self::ending::Ending;
pub use self::group::{Group, GroupName, Outcome};
pub use self::plan::{ExitReason, GONE_WITHIN, Load, Plan};
pub use self::policy::{Policy, Verdict};
use self::reload::{Pending, Reply};
use self::slot::{Judgement, Parts, Phase, Slot, judge};
use crate::config::Config;
use crate::generation::Failure;
use crate::logging::events;
use crate::notify::{self, View};
use crate::signals::Signal;

/// Runs the groups until there is a reason to end. Blocks the calling thread.
pub fn supervise(plan: Plan) -> ExitReason {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(Supervisor::new(plan).run()),
        Err(error) => ExitReason::GaveUp(format!("no runtime could be started: {error}")),
    }
}

#[derive(Debug)]
struct Supervisor {
    /// In the order in which they are drained.
    slots: Vec<Slot>,
    plan: Plan,
    config: Arc<Config>,
    /// Reloads under way, in the order in which they were asked for.
    pending: VecDeque<Pending>,
    ending: Option<Ending>,
    /// A signal to end has come.
    signalled: bool,
    next_look: Instant,
}

enum Event {
    Signal(Signal),
    Reload(Reply),
    Shutdown,
    Ended(usize, Outcome),
    Due,
}

impl Supervisor {
    fn new(mut plan: Plan) -> Self {
        let mut slots: Vec<Slot> = std::mem::take(&mut plan.groups)
            .into_iter()
            .map(|group| Slot::new(group, &plan.status))
            .collect();
        slots.sort_by_key(|slot| slot.group.name);
        plan.status.set_max_age(plan.config.files.max_age);
        Self {
            slots,
            config: Arc::new(plan.config.clone()),
            plan,
            pending: VecDeque::new(),
            ending: None,
            signalled: false,
            next_look: Instant::now(),
        }
    }

    async fn run(mut self) -> ExitReason {
        loop {
            let now = Instant::now();
            self.look(now);
            self.settle(now);
            if self.answer_reloads(now) {
                continue;
            }
            if let Some(reason) = self.finished() {
                return reason;
            }
            self.notify(now);
            match self.next_event().await {
                Event::Signal(Signal::Reload) => self.reload(None, Instant::now()),
                Event::Reload(reply) => self.reload(Some(reply), Instant::now()),
                Event::Signal(Signal::End) if self.signalled => return self.interrupted(),
                Event::Signal(Signal::End) => {
                    self.signalled = true;
                    info!(self.plan.log, "asked to end, draining"; events::STOPPING);
                    self.end(ExitReason::Drained, Instant::now());
                }
                Event::Shutdown => self.end(ExitReason::Drained, Instant::now()),
                Event::Ended(index, outcome) => self.ended(index, outcome, Instant::now()),
                Event::Due => {}
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let due_at = self.due_at();
        let Self { slots, plan, .. } = self;
        let ends = std::future::poll_fn(|context| {
            for (index, slot) in slots.iter_mut().enumerate() {
                if let std::task::Poll::Ready(outcome) = slot.poll_end(context) {
                    return std::task::Poll::Ready(Event::Ended(index, outcome));
                }
            }
            std::task::Poll::Pending
        });
        tokio::select! {
            Some(signal) = plan.signals.recv() => Event::Signal(signal),
            Some(reply) = plan.reloads.next() => Event::Reload(reply),
            () = plan.shutdown.cancelled(), if self.ending.is_none() => Event::Shutdown,
            event = ends => event,
            () = tokio::time::sleep_until(due_at.into()) => Event::Due,
        }
    }

    fn due_at(&self) -> Instant {
        let shortest = self.config.supervision.backoff;
        let slots = self.slots.iter().filter_map(|slot| slot.due_at(shortest));
        let ending = self.ending.as_ref().filter(|ending| !ending.cut);
        slots
            .chain(ending.map(|ending| ending.deadline))
            .chain(self.plan.notifier.due_at())
            .fold(self.next_look, Instant::min)
    }

    /// Looks, four times a heartbeat, for hung actors, for groups that have recovered and for
    /// partitions that lag.
    fn look(&mut self, now: Instant) {
        let settings = self.config.supervision.clone();
        for slot in &mut self.slots {
            slot.note_recovery(settings.backoff, now, &self.plan.status, &self.plan.log);
        }
        if now < self.next_look {
            return;
        }
        // `/healthz` counts lag in thrice `max_age`, which a test or a demo has in seconds.
        let every = (settings.heartbeat / 4).min(self.config.files.max_age);
        self.next_look = now + every.max(Duration::from_millis(1));
        self.plan.status.note_lag(crate::status::now_ms());
        for slot in &mut self.slots {
            if let Some(failure) = slot.hung(settings.heartbeat) {
                error!(self.plan.log, "actor hung, its group is stopped"; events::ACTOR_HUNG,
                    "group" => slot.name(), "error" => %failure);
                slot.leave(Some(failure), now + self.plan.gone_within);
            }
        }
    }

    /// Tells systemd where it stands.
    fn notify(&mut self, now: Instant) {
        let Self {
            slots,
            plan,
            config,
            ending,
            ..
        } = self;
        let status = &plan.status;
        plan.notifier.look(now, || {
            let is_joined = status.has_joined();
            let snapshot = status.snapshot(config.files.max_age);
            View {
                is_joined,
                is_alive: slots
                    .iter()
                    .all(|slot| slot.is_alive(config.supervision.heartbeat)),
                status: match ending {
                    None => notify::sentence(&snapshot, config, !is_joined),
                    Some(_) => format!("ends; {}", notify::sentence(&snapshot, config, false)),
                },
            }
        });
    }

    /// Compares what is desired with what is there, and starts or asks to leave.
    fn settle(&mut self, now: Instant) {
        let was_ending = self.ending.is_some();
        self.settle_once(now);
        if !was_ending && self.ending.is_some() {
            // What came first in the order was still desired when it was looked at.
            self.settle_once(now);
        }
    }

    fn settle_once(&mut self, now: Instant) {
        self.cut_at_deadline(now);
        for index in 0..self.slots.len() {
            let wanted = self.is_wanted(self.slots[index].group.name);
            let upstream_gone = self.slots[..index].iter().all(Slot::is_idle);
            // What carries the answers goes last.
            let awaits_answer =
                !self.pending.is_empty() && self.slots[index].group.name == GroupName::Control;
            let slot = &mut self.slots[index];
            match &slot.phase {
                Phase::Idle if wanted => self.start(index, now),
                Phase::Idle | Phase::BackingOff { .. } if !wanted => {
                    slot.phase = Phase::Idle;
                    slot.forget_failure(&self.plan.status);
                }
                Phase::BackingOff { until } if *until <= now => self.start(index, now),
                Phase::Running(_) => {
                    let leaves = match self.ending {
                        Some(_) => upstream_gone,
                        None => !wanted || (slot.stale && !awaits_answer),
                    };
                    if leaves {
                        let deadline = self.drain_deadline(index, now);
                        debug!(self.plan.log, "draining"; "group" => self.slots[index].name());
                        self.slots[index].leave(None, deadline);
                    }
                }
                Phase::Leaving(_, leave) => {
                    if leave.deadline.is_some_and(|deadline| deadline <= now) {
                        let stopped = leave.stopped;
                        self.overdue(index, stopped, now);
                    }
                }
                Phase::Idle | Phase::BackingOff { .. } => {}
            }
        }
    }

    fn is_wanted(&self, name: GroupName) -> bool {
        self.ending.is_none()
            && name.is_configured(&self.config)
            // It may run beside the service, whose page and socket these are.
            && (name == GroupName::Landing || !self.plan.until_caught_up)
    }

    fn start(&mut self, index: usize, now: Instant) {
        let parts = Parts {
            config: &self.config,
            status: &self.plan.status,
            log: &self.plan.log,
            until_caught_up: self.plan.until_caught_up,
        };
        if let Err(failure) = self.slots[index].start(parts, now) {
            self.failed(index, failure, Duration::ZERO, now);
        }
    }

    /// A leaving generation has had its time.
    fn overdue(&mut self, index: usize, stopped: bool, now: Instant) {
        let deadline = now + self.gone_within();
        let slot = &mut self.slots[index];
        if !stopped {
            if let Some(ending) = &mut self.ending {
                ending.incomplete = true;
            }
            warn!(self.plan.log, "drain took too long, stopping"; "group" => slot.name());
            slot.stop(deadline);
            return;
        }
        if self.ending.is_some() {
            warn!(self.plan.log, "thread left behind, it does not end"; "group" => slot.name());
            slot.abandon();
            return;
        }
        let words = format!(
            "the thread of the group {} is stuck: it was told to stop and did not end within {}",
            slot.name(),
            humantime::format_duration(self.plan.gone_within)
        );
        error!(self.plan.log, "thread is stuck"; events::ACTOR_HUNG,
            "group" => slot.name(), "error" => &words);
        if slot.group.name.is_vital() {
            slot.abandon();
            self.end(ExitReason::GaveUp(words), now);
        } else {
            slot.stay_stuck(&words, &self.plan.status);
        }
    }

    /// A generation's thread is gone.
    fn ended(&mut self, index: usize, outcome: Outcome, now: Instant) {
        let slot = &mut self.slots[index];
        slot.status.running.store(false, Ordering::Relaxed);
        let (live, leave) = match std::mem::replace(&mut slot.phase, Phase::Idle) {
            Phase::Running(live) => (live, None),
            Phase::Leaving(live, leave) => (live, Some(leave)),
            Phase::Idle | Phase::BackingOff { .. } => return,
        };
        match judge(leave.as_ref(), self.plan.until_caught_up, outcome) {
            Judgement::AsAsked => {
                info!(self.plan.log, "generation ended"; "group" => slot.name(),
                    "generation" => slot.number());
            }
            Judgement::Done(reason) => {
                info!(self.plan.log, "nothing is left to land"; "group" => slot.name());
                self.end(reason, now);
            }
            Judgement::FailedDraining(failure) => {
                if let Some(ending) = &mut self.ending {
                    ending.incomplete = true;
                }
                warn!(self.plan.log, "drain failed, the rest is left to the next generation";
                    "group" => slot.name(), "error" => %failure);
            }
            Judgement::Failed(failure) => {
                let ran = now.duration_since(live.started);
                self.failed(index, failure, ran, now);
            }
        }
    }

    fn failed(&mut self, index: usize, failure: Failure, ran: Duration, now: Instant) {
        let settings = &self.config.supervision;
        let slot = &mut self.slots[index];
        slot.status.note_failure(&failure.to_string());
        match slot.policy.failed(settings, now, ran, &failure) {
            Verdict::Restart { after } => {
                slot.back_off(&failure, after, now, &self.plan.status, &self.plan.log);
            }
            Verdict::GiveUp(why) => {
                error!(self.plan.log, "giving up"; "group" => slot.name(), "error" => &why);
                self.end(ExitReason::GaveUp(why), now);
            }
            Verdict::Fenced(why) => {
                error!(self.plan.log, "fenced by another process"; "group" => slot.name(),
                    "error" => &why);
                self.end(ExitReason::Fenced(why), now);
            }
        }
    }
}
