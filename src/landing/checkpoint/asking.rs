//! The checkpoint actor's half behind the claim: what the uploader, the accumulator and the
//! subscriber ask of a held checkpoint, and how a claim ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use slog::{debug, error, info, warn};

use crate::fault::Step;
use crate::landing::claims::Holding;
use crate::landing::protocol::Now;
use crate::landing::protocol::checkpoint::Checkpoint;
use crate::landing::protocol::claim::VANISHED;
use crate::landing::protocol::footer::is_unknown;
use crate::landing::protocol::held::{Ending, Held, Request, Settled, Work, WorkAction, WorkEvent};
use crate::landing::protocol::words;
use crate::logging::{Repeated, Say, events};
use crate::messages::{ClaimId, Command, STOPPED_RECHECK, Sealed, Unreadable};
use crate::status::{PartitionState, now_ms};

use super::{Desk, FENCED_RETRY, claim_id, jittered};

impl Desk {
    /// Does what is asked of a claim's checkpoint, if the claim still counts.
    pub(super) async fn ask(&self, claim: ClaimId, request: Request) -> Sealed {
        let slot = self.slot(claim.partition);
        let mut slot = self.turn_at(&slot).await;
        let Some(held) = self.current(&slot, claim) else {
            return Sealed::Dropped;
        };
        let is_landed = matches!(request, Request::Landed { .. });
        let Settled {
            held,
            sealed,
            commit,
            ending,
        } = self.settle(claim.partition, held, request).await;
        if let Some(held) = &held {
            self.note(claim.partition, &held.checkpoint);
            self.update_identity(claim, &held.checkpoint);
        }
        *slot = held;
        if let Some(offset) = commit {
            if is_landed {
                self.parts.pulse.works();
                self.shared.forced.borrow_mut().remove(&claim.partition);
            }
            let partition = claim.partition;
            self.command(Command::Commit { partition, offset }).await;
        }
        if let Some(ending) = ending {
            self.ended(claim, ending).await;
        }
        match sealed {
            true => Sealed::Yes,
            false => Sealed::Dropped,
        }
    }

    /// Asks and swaps what the protocol says, until a request is answered.
    pub(super) async fn settle(&self, partition: i32, held: Held, request: Request) -> Settled {
        let (terms, names) = (self.terms(partition), self.names.clone());
        let swap = swap_of(&request);
        let (mut work, mut action) = Work::new(terms, names, held, request, &Now::at(now_ms()));
        loop {
            let event = match action {
                WorkAction::Done(settled) => return *settled,
                WorkAction::AskTopic => WorkEvent::Topic(self.topic_now().await),
                WorkAction::Swap {
                    checkpoint,
                    condition,
                } => {
                    let step = match checkpoint.pending {
                        Some(_) if swap == Step::LandedSwap => Step::LandedAndBeginSwap,
                        _ => swap,
                    };
                    let ledger = &self.parts.ledger;
                    let swapped = ledger.swap(step, partition, &checkpoint, condition);
                    WorkEvent::Swapped(swapped.await)
                }
            };
            action = work.step(event, &Now::at(now_ms()));
        }
    }

    fn current(&self, slot: &Option<Held>, claim: ClaimId) -> Option<Held> {
        let held = slot
            .as_ref()
            .filter(|held| claim_id(claim.partition, held) == claim)?;
        self.parts.claims.is_current(claim).then(|| held.clone())
    }

    /// An id that was unknown at the claim may be known by now; footers name it from then on.
    fn update_identity(&self, claim: ClaimId, checkpoint: &Checkpoint) {
        let Some(holding) = self.parts.claims.holding(claim) else {
            return;
        };
        let known = &holding.identity;
        let learned = |known: &str, now: &str| is_unknown(known) && !is_unknown(now);
        if learned(&known.topic_id, &checkpoint.topic_id)
            || learned(&known.cluster_id, &checkpoint.cluster_id)
        {
            let identity = Arc::new(self.identity(claim.partition, checkpoint));
            self.parts.claims.hold(
                claim,
                Holding {
                    identity,
                    ..holding
                },
            );
        }
    }

    /// Ends a claim, and has the partition claimed again while it is still assigned.
    async fn ended(&self, claim: ClaimId, ending: Ending) {
        let partition = claim.partition;
        let after = match ending {
            Ending::Replayed => Duration::ZERO,
            Ending::Forced(offsets) => {
                warn!(self.parts.log, "objects of a batch hold other records than ours would, the rest becomes dead letters";
                    "partition" => partition, "records" => offsets.len());
                let mut forced = self.shared.forced.borrow_mut();
                let known = forced.entry(partition).or_default();
                *known = known.union(&offsets);
                Duration::ZERO
            }
            Ending::Fenced => {
                self.say_fenced(partition);
                jittered(FENCED_RETRY)
            }
            Ending::Refused(refused) => {
                self.say_contested(partition, &format!("batch refused: {refused}"));
                jittered(FENCED_RETRY)
            }
            Ending::Vanished => {
                self.say_stopped(partition, VANISHED);
                STOPPED_RECHECK
            }
            Ending::Stopped(cause) => {
                self.say_stopped(partition, &cause);
                STOPPED_RECHECK
            }
        };
        self.parts.claims.end(claim);
        self.shared.closed.notify_waiters();
        self.command(Command::Reclaim { claim, after }).await;
    }

    pub(super) fn say_fenced(&self, partition: i32) {
        self.say_contested(partition, "another writer was faster");
        self.parts.status.count(
            "groundtrack_fenced_total",
            &[("topic", &self.names.topic)],
            1,
        );
    }

    /// Says, though not each time, that a claim was lost and that the partition is claimed again.
    fn say_contested(&self, partition: i32, error: &str) {
        let mut contested = self.shared.contested.borrow_mut();
        let said = contested
            .entry(partition)
            .or_default()
            .failed(Instant::now());
        match said {
            Some(Say::Still { count, lasting }) => {
                warn!(self.parts.log, "the partition's claim is lost again and again";
                    events::OVERTAKEN, "partition" => partition, "error" => error,
                    "failures" => count, "seconds" => lasting.as_secs());
            }
            Some(_) => warn!(self.parts.log, "the partition's claim is lost, it is claimed again";
                events::OVERTAKEN, "partition" => partition, "error" => error),
            None => debug!(self.parts.log, "the partition's claim is lost";
                "partition" => partition, "error" => error),
        }
    }

    /// Says what a claim has come to, though not each time where they are lost in turns.
    pub(super) fn say_claimed(&self, claim: ClaimId, from: i64, end: Option<i64>) {
        let partition = claim.partition;
        let resumed = self.shared.stopped.borrow_mut().remove(&partition);
        if resumed.is_some() {
            info!(self.parts.log, "the partition goes on"; events::PARTITION_RESUMED,
                "partition" => partition, "offset" => from);
        }
        let mut contested = self.shared.contested.borrow_mut();
        let said = contested
            .get_mut(&partition)
            .map(|contest| contest.ended(Instant::now()));
        match (said, end) {
            (Some(None), _) => {
                debug!(self.parts.log, "partition claimed"; "partition" => partition,
                    "epoch" => claim.epoch, "offset" => from, "end" => end);
            }
            (_, None) => info!(self.parts.log, "partition claimed"; "partition" => partition,
                "epoch" => claim.epoch, "offset" => from),
            (_, Some(end)) => {
                info!(self.parts.log, "partition claimed, a batch that was begun is read again";
                    "partition" => partition, "epoch" => claim.epoch, "offset" => from, "end" => end);
            }
        }
    }

    /// Says why a partition stops, and though it is looked at again and again, not each time.
    pub(super) fn say_stopped(&self, partition: i32, cause: &str) {
        self.set_state(partition, PartitionState::Stopped(cause.to_owned()));
        let mut stopped = self.shared.stopped.borrow_mut();
        let known = stopped.remove(&partition).filter(|known| known.0 == cause);
        let new = || (cause.to_owned(), Repeated::default());
        let (_, repeated) = stopped
            .entry(partition)
            .or_insert(known.unwrap_or_else(new));
        match repeated.failed(Instant::now()) {
            Some(Say::Still { lasting, .. }) => {
                error!(self.parts.log, "partition is still stopped"; words::event(cause),
                    "partition" => partition, "error" => cause, "seconds" => lasting.as_secs());
            }
            Some(_) => error!(self.parts.log, "partition stopped"; words::event(cause),
                "partition" => partition, "error" => cause),
            None => debug!(self.parts.log, "partition is still stopped";
                "partition" => partition, "error" => cause),
        }
    }

    async fn command(&self, command: Command) {
        if self.parts.commands.send(command).await.is_err() {
            self.shared.is_cut_off.set(true);
        }
    }

    /// What was read before lands first; then the partition stops.
    pub(super) async fn unreadable(&self, message: Unreadable) {
        let claim = message.claim;
        let partition = claim.partition;
        let held = {
            let slot = self.slot(partition);
            let slot = self.turn_at(&slot).await;
            self.current(&slot, claim)
        };
        self.wait_until_closed(partition).await;
        let slot = self.slot(partition);
        let mut slot = self.turn_at(&slot).await;
        let newest = slot
            .as_ref()
            .filter(|newest| claim_id(partition, newest) == claim)
            .cloned()
            .or(held);
        if let Some(held) = newest {
            let kafka = &self.parts.config.kafka;
            let status = self.parts.status.partition(&kafka.topic, partition);
            let log_end = status.log_end.load(Ordering::Relaxed);
            let next_offset = held.checkpoint.next_offset;
            let cause = words::unreadable(kafka, partition, next_offset, &message.damage, log_end);
            let settled = self.settle(partition, held, Request::Stop(cause)).await;
            *slot = settled.held;
            if let Some(ending) = settled.ending {
                self.ended(claim, ending).await;
            }
        }
    }
}

/// Which step the swap is that answers a request.
fn swap_of(request: &Request) -> Step {
    match request {
        Request::Begin(_) => Step::BeginSwap,
        Request::PassGap { .. } => Step::GapSwap,
        Request::Landed { .. } => Step::LandedSwap,
        Request::Holes { .. } => Step::HolesSwap,
        Request::Upset(_) | Request::Stop(_) => Step::StoppedSwap,
    }
}
