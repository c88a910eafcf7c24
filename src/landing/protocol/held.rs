//! What is done with a checkpoint that a claim holds: begun, landed, passed over, stopped. One
//! request at a time; event in, action out. The checkpoint actor does what it says and answers.

use crate::landing::broker::TopicView;
use crate::store::{Condition, ETag};

use super::Now;
use super::batch::{BeginRefused, Intent, begun, holes, is_other_log, landed, stopped};
use super::checkpoint::{Checkpoint, LastRecord, Pending};
use super::claim::{Claimed, Terms};
use super::keys::Names;
use super::swap::SwapOutcome;
use super::upload::UpsetReason;
use super::words::{self, FOREIGN};
use crate::landing::offsets::OffsetSet;

/// A claimed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Held {
    /// Its content. Its epoch is the claim's.
    pub checkpoint: Checkpoint,
    /// Its version.
    pub etag: ETag,
    /// What the claim reads.
    pub task: Task,
}

/// What a claim reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Fresh batches behind what has landed.
    Land,
    /// The pending range, and nothing behind it.
    Replay {
        /// Offsets [from, to) that Kafka no longer has, from the range on: what is lost behind it
        /// included.
        lost: Option<[i64; 2]>,
    },
}

/// What is asked of a held checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Request {
    /// A batch is about to be uploaded. A range that was read again is begun already: it is only
    /// asked whether the topic is still the one that it was begun from.
    Begin(Intent),
    /// All objects of the pending range are there.
    Landed {
        /// The last record of the range.
        last: Option<LastRecord>,
        /// Begun in the same swap.
        next: Option<Intent>,
    },
    /// The lost offsets up to here are passed by the operator's word: a batch of the dead
    /// letters' key alone is begun, to be landed as a replay.
    PassGap {
        /// The log's start.
        to: i64,
    },
    /// Offsets up to here were read and hold nothing.
    Holes {
        /// Behind the last of them.
        to: i64,
    },
    /// The upload of the pending range cannot be finished.
    Upset(UpsetReason),
    /// The partition stops for this cause.
    Stop(String),
}

/// An answer to an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkEvent {
    /// To [`WorkAction::AskTopic`].
    Topic(TopicView),
    /// To [`WorkAction::Swap`].
    Swapped(SwapOutcome),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkAction {
    /// Ask the broker (no cache) for topic and cluster.
    AskTopic,
    /// Swap this in.
    Swap {
        /// The new checkpoint.
        checkpoint: Box<Checkpoint>,
        /// What it replaces.
        condition: Condition,
    },
    /// The request is answered.
    Done(Box<Settled>),
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// What is held now; `None`: nothing any more.
    pub held: Option<Held>,
    /// Whether all that was asked for is in the checkpoint.
    pub sealed: bool,
    /// The offset to commit to Kafka.
    pub commit: Option<i64>,
    /// Why the claim ends here, if it does.
    pub ending: Option<Ending>,
}

/// Why a claim ends. The partition is claimed again while it is still assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The range that was read again has landed; what is behind it is claimed at once.
    Replayed,
    /// The range is read again at once, with these offsets forced among the dead letters.
    Forced(OffsetSet),
    /// Another writer was faster: claimed again after a jittered delay.
    Fenced,
    /// The batch does not continue the checkpoint: claimed again after a jittered delay, which
    /// finds out why and stops with the reason where there is one.
    Refused(BeginRefused),
    /// The checkpoint is gone: looked at again as a stopped partition is.
    Vanished,
    /// The partition stopped, for this cause.
    Stopped(String),
}

/// A request under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Work {
    terms: Terms,
    names: Names,
    held: Held,
    request: Request,
    /// The content that is being swapped in, and whether it begins all that was asked for.
    swapping: Option<(Box<Checkpoint>, bool)>,
}

impl Held {
    /// What a decided claim holds; `None`: nothing. A gap is begun by [`Request::PassGap`].
    pub fn of(claimed: &Claimed) -> Option<Self> {
        let (checkpoint, etag, task) = match claimed {
            Claimed::Land {
                checkpoint, etag, ..
            }
            | Claimed::Gap {
                checkpoint, etag, ..
            } => (checkpoint, etag, Task::Land),
            Claimed::Replay {
                checkpoint,
                etag,
                lost,
                ..
            } => (checkpoint, etag, Task::Replay { lost: *lost }),
            Claimed::Stopped(_) | Claimed::Fenced => return None,
        };
        Some(Self {
            checkpoint: checkpoint.clone(),
            etag: etag.clone(),
            task,
        })
    }

    /// Where lost records begin: behind what has landed and the holes that follow it.
    pub fn position(&self) -> i64 {
        self.checkpoint.next_offset.max(self.checkpoint.holes_to)
    }
}

impl Work {
    /// A request to a held checkpoint, and its first action.
    pub fn new(
        terms: Terms,
        names: Names,
        held: Held,
        request: Request,
        now: &Now,
    ) -> (Self, WorkAction) {
        let mut work = Self {
            terms,
            names,
            held,
            request,
            swapping: None,
        };
        let action = work.first(now);
        (work, action)
    }

    /// The next step.
    pub fn step(&mut self, event: WorkEvent, now: &Now) -> WorkAction {
        match (event, self.swapping.take()) {
            (WorkEvent::Topic(topic), None) => self.with_topic(Some(&topic), now),
            (WorkEvent::Swapped(outcome), Some((checkpoint, is_whole))) => {
                self.swapped(*checkpoint, is_whole, outcome)
            }
            // No answer to what was asked: as if another writer had been faster.
            _ => self.ended(Ending::Fenced),
        }
    }

    fn first(&mut self, now: &Now) -> WorkAction {
        match &self.request {
            Request::Begin(_) | Request::PassGap { .. } => WorkAction::AskTopic,
            Request::Landed { .. } => match self.begins() {
                Some(_) => WorkAction::AskTopic,
                None => self.with_topic(None, now),
            },
            Request::Holes { to } => match holes(&self.held.checkpoint, *to, now) {
                Some(next) => self.swap(next, true),
                None => self.unchanged(),
            },
            Request::Upset(UpsetReason::ReplayForced(offsets)) => {
                let offsets = offsets.clone();
                self.ended(Ending::Forced(offsets))
            }
            Request::Upset(_) | Request::Stop(_) => {
                match stopped(&self.held.checkpoint, &self.cause(), now) {
                    Some(next) => self.swap(next, true),
                    None => self.ended(Ending::Stopped(self.cause())),
                }
            }
        }
    }

    /// The batch that the request's swap is to begin. What is left of a gap that reaches behind
    /// the range that landed is a batch of its own, and comes first.
    fn begins(&self) -> Option<Intent> {
        match &self.request {
            Request::Begin(intent) => Some(intent.clone()),
            Request::PassGap { to } => {
                let gap = [self.held.position(), *to];
                Some(self.gap_intent(self.held.checkpoint.next_offset, gap))
            }
            Request::Landed { next, .. } => {
                let pending = self.held.checkpoint.pending.as_ref();
                let left = pending.and_then(|pending| self.gap_left(pending));
                left.or_else(|| next.clone())
            }
            Request::Holes { .. } | Request::Upset(_) | Request::Stop(_) => None,
        }
    }

    /// What is left of a gap behind its pending range, where that lay: whether the configured
    /// folders and columns fit what is there, only a claim without a pending range has found out.
    fn gap_left(&self, pending: &Pending) -> Option<Intent> {
        let gap = pending.gap.filter(|gap| gap[1] > pending.end)?;
        let root = self.held.checkpoint.roots.last()?;
        let (start, end) = (pending.end, gap[1]);
        let names = Names {
            dead_letters: root.dead_letters.clone(),
            ..self.names.clone()
        };
        Some(Intent {
            start,
            end,
            keys: vec![names.dead_letters_file(self.terms.partition, start, end)],
            layout: pending.layout.clone(),
            gap: Some([start, end]),
            data: root.data.clone(),
            dead_letters: root.dead_letters.clone(),
        })
    }

    fn gap_intent(&self, start: i64, gap: [i64; 2]) -> Intent {
        let partition = self.terms.partition;
        Intent {
            start,
            end: gap[1],
            keys: vec![self.names.dead_letters_file(partition, start, gap[1])],
            layout: self.terms.layout.clone(),
            gap: Some(gap),
            data: self.terms.data.clone(),
            dead_letters: self.terms.dead_letters.clone(),
        }
    }

    fn with_topic(&mut self, topic: Option<&TopicView>, now: &Now) -> WorkAction {
        let current = &self.held.checkpoint;
        if let (Request::Begin(_), Task::Replay { .. }, Some(topic)) =
            (&self.request, self.held.task, topic)
        {
            // Asked behind the reading: a topic made anew meanwhile fills no range of the old one.
            return match is_other_log(current, topic) {
                true => self.settled(
                    Some(self.held.clone()),
                    Ending::Refused(BeginRefused::OtherLog),
                ),
                false => self.unchanged(),
            };
        }
        let intent = self.begins();
        let begins = intent.as_ref().zip(topic);
        let next = match (&self.request, begins) {
            (Request::Landed { last, .. }, _) => {
                // What has landed is said to have, also where the batch behind it cannot begin.
                let with_next = landed(current, *last, begins, now)
                    .map(|next| (next, begins.is_some() || intent.is_none()));
                with_next.or_else(|_| Ok((landed(current, *last, None, now)?, intent.is_none())))
            }
            (_, Some((intent, topic))) => {
                begun(current, intent, topic, now).map(|next| (next, true))
            }
            (_, None) => return self.ended(Ending::Fenced),
        };
        match (next, &self.request) {
            (Ok((next, is_whole)), Request::Landed { .. }) => {
                let next = Checkpoint {
                    stopped: None,
                    ..next
                };
                self.swap(next, is_whole)
            }
            (Ok((next, is_whole)), _) => self.swap(next, is_whole),
            (Err(refused), _) => self.settled(Some(self.held.clone()), Ending::Refused(refused)),
        }
    }

    fn swap(&mut self, next: Checkpoint, is_whole: bool) -> WorkAction {
        let checkpoint = Box::new(next);
        self.swapping = Some((checkpoint.clone(), is_whole));
        WorkAction::Swap {
            checkpoint,
            condition: Condition::Matches(self.held.etag.clone()),
        }
    }

    fn swapped(
        &mut self,
        checkpoint: Checkpoint,
        is_whole: bool,
        outcome: SwapOutcome,
    ) -> WorkAction {
        let etag = match outcome {
            SwapOutcome::Won(etag) => etag,
            SwapOutcome::Fenced => return self.ended(Ending::Fenced),
            SwapOutcome::Vanished => return self.ended(Ending::Vanished),
        };
        let mut held = Held {
            checkpoint,
            etag,
            task: self.held.task,
        };
        let (commit, ending) = match &self.request {
            Request::Begin(_) => (None, None),
            Request::PassGap { to } => {
                let lost = Some([self.held.position(), *to]);
                held.task = Task::Replay { lost };
                (None, None)
            }
            Request::Landed { .. } => {
                let ending = match self.held.task {
                    Task::Replay { .. } => Some(Ending::Replayed),
                    Task::Land if !is_whole => Some(Ending::Refused(BeginRefused::OtherLog)),
                    Task::Land => None,
                };
                (Some(held.checkpoint.next_offset), ending)
            }
            Request::Holes { .. } => (Some(held.checkpoint.holes_to), None),
            Request::Upset(_) | Request::Stop(_) => {
                return self.ended(Ending::Stopped(self.cause()));
            }
        };
        let sealed = !matches!(ending, Some(Ending::Refused(_)));
        WorkAction::Done(Box::new(Settled {
            held: Some(held),
            sealed,
            commit,
            ending,
        }))
    }

    /// Why the partition stops.
    fn cause(&self) -> String {
        let checkpoint = &self.held.checkpoint;
        match &self.request {
            Request::Stop(cause) => cause.clone(),
            Request::Upset(UpsetReason::Foreign { key, why }) => {
                format!("{FOREIGN}{key} is not an object of this batch: {why}; move it away")
            }
            _ => {
                let end = checkpoint
                    .pending
                    .as_ref()
                    .map_or(checkpoint.next_offset, |pending| pending.end);
                let [from, to] = match self.held.task {
                    Task::Replay { lost: Some(lost) } => lost,
                    _ => [checkpoint.next_offset, end],
                };
                let terms = &self.terms;
                words::gap(
                    &terms.topic,
                    terms.partition,
                    checkpoint.next_offset,
                    [from, to],
                )
            }
        }
    }

    fn unchanged(&self) -> WorkAction {
        WorkAction::Done(Box::new(Settled {
            held: Some(self.held.clone()),
            sealed: true,
            commit: None,
            ending: None,
        }))
    }

    fn ended(&self, ending: Ending) -> WorkAction {
        self.settled(None, ending)
    }

    fn settled(&self, held: Option<Held>, ending: Ending) -> WorkAction {
        WorkAction::Done(Box::new(Settled {
            held,
            sealed: false,
            commit: None,
            ending: Some(ending),
        }))
    }
}

#[cfg(test)]
mod tests;
