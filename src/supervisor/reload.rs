//! A changed configuration: what it restarts, what becomes of one that is not valid, and what is
//! answered to who asked for it.
//!
//! A reload is answered once the groups that it restarts run with the new configuration, and in
//! the order in which reloads were asked for.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use slog::{error, info, warn};
use tokio::sync::{mpsc, oneshot};

use super::Supervisor;
use super::effect::{Effect, Row, changed};
use super::group::GroupName;
use super::slot::{Phase, Slot};
use crate::config::Config;
use crate::logging::events;

/// Reloads that wait to be looked at. The supervisor looks at once, so more than a few are a
/// client that repeats itself.
const ASKED_MAX: usize = 16;

/// What a reload has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Answer {
    /// The file is valid and in force, but for what needs a restart of the process.
    Applied(Applied),
    /// The file is not valid; the old configuration goes on.
    Refused {
        /// All of its mistakes, each in one line.
        mistakes: Vec<String>,
    },
    /// The process is ending, and loads nothing any more.
    Ending,
}

/// What a valid configuration has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Applied {
    /// Keys that took effect without a restart of anything.
    pub at_once: Vec<String>,
    /// Groups that were restarted, and what by.
    pub restarted: Vec<Restarted>,
    /// Keys whose old value goes on until the process is restarted.
    pub needs_restart: Vec<String>,
    /// Keys that name a `credential:`: what systemd has loaded at the start goes on, a new
    /// content needs a restart.
    pub credentials: Vec<String>,
}

/// A group that a reload has restarted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarted {
    /// Its name.
    pub group: String,
    /// The keys that did it.
    pub keys: Vec<String>,
    /// What it has come to.
    pub state: GroupState,
}

/// What `groundtrack reload` prints, one line for each thing that has changed.
impl fmt::Display for Applied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_changed = self.at_once.len() + self.restarted.len() + self.needs_restart.len() > 0;
        match has_changed {
            true => writeln!(formatter, "applied")?,
            false => writeln!(formatter, "applied: nothing has changed")?,
        }
        for key in &self.at_once {
            writeln!(formatter, "  at once: {key}")?;
        }
        for one in &self.restarted {
            let keys = one.keys.join(", ");
            writeln!(formatter, "  {} {}: {keys}", one.group, one.state)?;
        }
        for key in &self.needs_restart {
            writeln!(
                formatter,
                "  needs a restart of the service, the old value goes on: {key}"
            )?;
        }
        for key in &self.credentials {
            writeln!(
                formatter,
                "  as it was at the start, a new content of its credential needs a restart of the \
                 service: {key}"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Started => "restarted",
            Self::Off => "is turned off",
            Self::Failed => "failed at its start and is tried again, see `groundtrack status`",
            Self::Stuck => "does not end, restart the service to have it back",
            Self::Follows => "restarts now",
        })
    }
}

/// Where a group stands when its reload is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupState {
    /// A generation with the new configuration was started.
    Started,
    /// The new configuration has no such group.
    Off,
    /// It failed at its start and is tried again; `status` says why.
    Failed,
    /// Its old thread does not end: only a restart of the process brings it back.
    Stuck,
    /// It follows once this has been answered, because it is what answers.
    Follows,
}

/// Asks the supervisor for a reload, and is told what became of it.
pub(super) type Reply = oneshot::Sender<Answer>;

/// What the supervisor is asked by.
#[derive(Debug)]
pub struct Reloads(mpsc::Receiver<Reply>);

/// Who asks it; all clones ask the same one.
#[derive(Debug, Clone)]
pub struct Reloader(mpsc::Sender<Reply>);

/// The two ends.
pub fn reloads() -> (Reloader, Reloads) {
    let (sender, receiver) = mpsc::channel(ASKED_MAX);
    (Reloader(sender), Reloads(receiver))
}

impl Reloads {
    pub(super) async fn next(&mut self) -> Option<Reply> {
        self.0.recv().await
    }
}

impl Reloader {
    /// Asks for a reload and waits for its end. `None`: the supervisor is gone, or has more to do
    /// than it takes on.
    pub async fn reload(&self) -> Option<Answer> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(reply).ok()?;
        answer.await.ok()
    }
}

/// A reload that is under way.
#[derive(Debug)]
pub(super) struct Pending {
    answer: Answer,
    /// For each of [`Applied::restarted`]: the slot, and the number of its last generation of
    /// before.
    awaited: Vec<(usize, u64)>,
    /// `None`: a signal asked.
    reply: Option<Reply>,
}

impl Supervisor {
    /// Loads the configuration again; where it is valid, the groups made from what changed are
    /// drained and started again.
    pub(super) fn reload(&mut self, reply: Option<Reply>, now: Instant) {
        let pending = if self.ending.is_some() {
            warn!(self.plan.log, "reload ignored, the process is ending");
            Pending {
                answer: Answer::Ending,
                awaited: Vec::new(),
                reply,
            }
        } else {
            self.plan.notifier.reloading();
            match (self.plan.load)() {
                Ok(config) => self.apply(config, reply, now),
                Err(mistakes) => self.refuse(mistakes, reply),
            }
        };
        self.pending.push_back(pending);
    }

    fn refuse(&mut self, mistakes: Vec<String>, reply: Option<Reply>) -> Pending {
        for mistake in &mistakes {
            error!(self.plan.log, "mistake in the configuration"; "error" => mistake);
        }
        error!(self.plan.log, "reload refused, the old configuration goes on";
            events::RELOAD_REFUSED, "mistakes" => mistakes.len());
        let words = format!("the last reload was refused: {}", mistakes.join("; "));
        self.plan.status.trouble("configuration", &words, false);
        Pending {
            answer: Answer::Refused { mistakes },
            awaited: Vec::new(),
            reply,
        }
    }

    fn apply(&mut self, mut config: Config, reply: Option<Reply>, now: Instant) -> Pending {
        let rows = changed(&self.config, &config);
        for row in &rows {
            if let Effect::NeedsRestart(keep) = row.effect {
                keep(&self.config, &mut config);
            }
        }
        let (mut applied, awaited) = self.restart(&rows, now);
        applied.credentials = config.credential_keys().map(str::to_owned).collect();
        self.plan.level.set(config.log.level);
        self.plan.status.set_max_age(config.files.max_age);
        self.plan.status.mended("configuration");
        self.plan
            .status
            .set_needs_restart(applied.needs_restart.clone());
        self.config = Arc::new(config);
        self.next_look = now;
        self.say(&applied);
        Pending {
            answer: Answer::Applied(applied),
            awaited,
            reply,
        }
    }

    /// Lets every group be restarted that is made from one of these rows.
    fn restart(&mut self, rows: &[&Row], now: Instant) -> (Applied, Vec<(usize, u64)>) {
        let mut applied = Applied::default();
        let mut awaited = Vec::new();
        for row in rows {
            match row.effect {
                Effect::AtOnce => applied.at_once.push(row.key.to_owned()),
                Effect::NeedsRestart(_) => applied.needs_restart.push(row.key.to_owned()),
                Effect::Restarts(_) => {}
            }
        }
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let keys = keys_of(slot.group.name, rows);
            if keys.is_empty() {
                continue;
            }
            awaited.push((index, slot.number()));
            applied.restarted.push(Restarted {
                group: slot.name().to_owned(),
                keys,
                state: GroupState::Follows,
            });
            slot.policy.forget();
            match &mut slot.phase {
                Phase::Running(_) => slot.stale = true,
                Phase::BackingOff { until } => *until = now,
                Phase::Idle | Phase::Leaving(..) => {}
            }
        }
        (applied, awaited)
    }

    fn say(&self, applied: &Applied) {
        let restarts = applied.restarted.iter().map(|one| one.group.as_str());
        let restarts: Vec<&str> = restarts.collect();
        info!(self.plan.log, "configuration loaded again"; events::RELOADED,
            "restarts" => restarts.join(", "),
            "at_once" => applied.at_once.join(", "));
        for key in &applied.needs_restart {
            warn!(self.plan.log, "setting changes only with a restart of the process"; "setting" => key);
        }
    }

    /// Answers every reload whose groups have come to where they go, first asked first answered.
    /// Returns whether it has answered any.
    pub(super) fn answer_reloads(&mut self, now: Instant) -> bool {
        let mut has_answered = false;
        while let Some(mut pending) = self.pending.pop_front() {
            if self.ending.is_some() && !pending.awaited.is_empty() {
                pending.answer = Answer::Ending;
            } else if !settled(&mut pending, &self.slots) {
                self.pending.push_front(pending);
                break;
            }
            has_answered = true;
            if let Some(reply) = pending.reply {
                // Who asked may have gone away.
                let _ = reply.send(pending.answer);
            }
        }
        if has_answered && self.pending.is_empty() && self.ending.is_none() {
            self.plan.notifier.reloaded(now);
        }
        has_answered
    }
}

/// The changed keys that this group is made from.
fn keys_of(group: GroupName, rows: &[&Row]) -> Vec<String> {
    let restarts =
        |row: &&&Row| matches!(row.effect, Effect::Restarts(groups) if groups.contains(&group));
    let keys = rows.iter().filter(restarts);
    keys.map(|row| row.key.to_owned()).collect()
}

/// Notes where the awaited groups stand. Returns whether all of them have come to an end.
fn settled(pending: &mut Pending, slots: &[Slot]) -> bool {
    let Answer::Applied(applied) = &mut pending.answer else {
        return true;
    };
    let awaited = pending.awaited.iter().zip(&mut applied.restarted);
    awaited.fold(true, |all, ((index, before), restarted)| {
        let state = state_of(&slots[*index], *before);
        if let Some(state) = state {
            restarted.state = state;
        }
        all && state.is_some()
    })
}

/// `None`: it is on its way.
fn state_of(slot: &Slot, before: u64) -> Option<GroupState> {
    if slot.group.name == GroupName::Control && slot.stale {
        return Some(GroupState::Follows);
    }
    let is_new = slot.number() > before;
    match &slot.phase {
        Phase::Idle => Some(GroupState::Off),
        Phase::BackingOff { .. } => is_new.then_some(GroupState::Failed),
        Phase::Leaving(_, leave) if leave.deadline.is_none() => Some(GroupState::Stuck),
        Phase::Running(_) | Phase::Leaving(..) => is_new.then_some(GroupState::Started),
    }
}
