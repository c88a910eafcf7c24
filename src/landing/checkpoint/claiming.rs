//! The checkpoint actor's half that claims: asks and swaps what the claim's protocol says, and
//! answers where to start.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use slog::{info, warn};

use crate::config::Start;
use crate::fault::Step;
use crate::landing::broker::{Broker, TopicView};
use crate::landing::ledger::Read;
use crate::landing::patience::Question;
use crate::landing::protocol::Now;
use crate::landing::protocol::checkpoint::Checkpoint;
use crate::landing::protocol::claim::{
    self, ClaimAction, ClaimEvent, Claimed, LogView, StartQuestion, Terms, VANISHED,
};
use crate::landing::protocol::held::{Ending, Held, Request};
use crate::landing::protocol::swap::SwapOutcome;
use crate::logging::events;
use crate::messages::ClaimAnswer;
use crate::status::{PartitionState, now_ms};
use crate::store::Condition;

use super::{Desk, FENCED_RETRY, claim_id, jittered};

/// How often a claim looks whether the claim before it has closed, beside being told.
const CLOSED_RECHECK: Duration = Duration::from_secs(1);

impl Desk {
    pub(super) async fn claim(&self, partition: i32, turn: u64) -> ClaimAnswer {
        self.wait_until_closed(partition).await;
        let slot = self.slot(partition);
        let mut slot = self.turn_at(&slot).await;
        if self.is_overtaken(partition, turn) {
            return ClaimAnswer::Dropped;
        }
        *slot = None;
        self.set_state(partition, PartitionState::Claiming);
        loop {
            if self.is_overtaken(partition, turn) {
                return ClaimAnswer::Dropped;
            }
            let claimed = self.decide_claim(partition).await;
            if let Some(answer) = self.answer(&mut slot, partition, turn, claimed).await {
                return answer;
            }
            self.say_fenced(partition);
            let _waiting = self.parts.pulse.waiting("the turn of another writer");
            tokio::time::sleep(jittered(FENCED_RETRY)).await;
        }
    }

    /// What a decided claim comes to; `None`: another writer was faster.
    async fn answer(
        &self,
        slot: &mut Option<Held>,
        partition: i32,
        turn: u64,
        claimed: Claimed,
    ) -> Option<ClaimAnswer> {
        let held = Held::of(&claimed);
        if let Some(held) = &held
            && let Some(unfit) = self.parts.ledger.unfit(partition, &held.checkpoint).await
        {
            return Some(self.answer_stopped(partition, &unfit));
        }
        if self.is_overtaken(partition, turn) {
            return Some(ClaimAnswer::Dropped);
        }
        match (claimed, held) {
            (Claimed::Stopped(cause), _) => Some(self.answer_stopped(partition, &cause)),
            (Claimed::Land { from, .. }, Some(held)) => {
                let claim = self.hold(slot, partition, held);
                self.say_claimed(claim, from, None);
                Some(ClaimAnswer::Land { claim, from })
            }
            (Claimed::Replay { from, .. }, Some(held)) => {
                if !self.replay_turn(partition, turn).await {
                    return Some(ClaimAnswer::Dropped);
                }
                Some(self.answer_replay(slot, partition, held, from))
            }
            (Claimed::Gap { to, .. }, Some(held)) => {
                self.pass_gap(slot, partition, turn, held, to).await
            }
            (Claimed::Fenced, _) | (_, None) => None,
        }
    }

    /// A claim before this one may still have batches on their way: they land first, since what
    /// is in memory may be all that is left of the records.
    pub(super) async fn wait_until_closed(&self, partition: i32) {
        loop {
            let slot = self.slot(partition);
            let held = {
                let held = self.turn_at(&slot).await;
                held.as_ref().map(|held| claim_id(partition, held))
            };
            let Some(claim) = held.filter(|claim| self.parts.claims.is_current(*claim)) else {
                return;
            };
            let closed = self.shared.closed.notified();
            if !self.parts.claims.is_current(claim) {
                return;
            }
            let _waiting = self.parts.pulse.waiting("the batches of the claim before");
            // A time-out only looks again.
            let _ = tokio::time::timeout(CLOSED_RECHECK, closed).await;
        }
    }

    /// Asks and swaps what the claim's protocol says, until it is decided.
    async fn decide_claim(&self, partition: i32) -> Claimed {
        let ledger = &self.parts.ledger;
        let (mut claim, mut action) = claim::Claim::new(self.terms(partition));
        let mut absent_since = Instant::now();
        loop {
            let event = match action {
                ClaimAction::Done(claimed) => return *claimed,
                ClaimAction::Read => {
                    let Read { found, at } = ledger.read(partition).await;
                    absent_since = at;
                    ClaimEvent::Read(found)
                }
                ClaimAction::ListObjects => {
                    ClaimEvent::Objects(ledger.any_object(partition, absent_since).await)
                }
                ClaimAction::ReadSibling => ClaimEvent::Sibling(ledger.sibling(absent_since).await),
                ClaimAction::AskLog => ClaimEvent::Log(self.ask_log(partition).await),
                ClaimAction::AskStart(question) => {
                    ClaimEvent::Start(self.ask_start(partition, question).await)
                }
                ClaimAction::CompareLast(offset) => {
                    let question = Question::Partition("reading the last landed record", partition);
                    let broker = self.parts.broker.at(Step::CompareLast);
                    let record = self
                        .parts
                        .kafka_patience
                        .until_answered(question, async || {
                            broker.record_at(partition, offset).await
                        });
                    ClaimEvent::Last(record.await)
                }
                ClaimAction::Swap {
                    checkpoint,
                    condition,
                } => {
                    let is_new = condition == Condition::Absent;
                    let outcome = ledger
                        .swap(Step::ClaimSwap, partition, &checkpoint, condition)
                        .await;
                    absent_since = Instant::now();
                    if is_new && matches!(outcome, SwapOutcome::Won(_)) {
                        self.say_start(partition, &checkpoint);
                    }
                    ClaimEvent::Swapped(outcome)
                }
                ClaimAction::ReadGroups => {
                    ClaimEvent::Groups(ledger.other_groups(partition, absent_since).await)
                }
            };
            action = claim.step(event, &Now::at(now_ms()));
        }
    }

    pub(super) fn terms(&self, partition: i32) -> Terms {
        let config = &self.parts.config;
        let skips = config
            .skip
            .iter()
            .filter(|skip| skip.topic == self.names.topic && skip.partition == partition);
        Terms {
            topic: self.names.topic.clone(),
            partition,
            writer: self.parts.writer.clone(),
            data: self.names.data.clone(),
            dead_letters: self.names.dead_letters.clone(),
            layout: (*self.parts.layout).clone(),
            start: config.kafka.start,
            skips: skips.map(|skip| skip.first_offset).collect(),
            held_epoch: self.held_epoch(partition),
        }
    }

    fn say_start(&self, partition: i32, checkpoint: &Checkpoint) {
        let start = match self.parts.config.kafka.start {
            Start::Earliest => "earliest",
            Start::Latest => "latest",
            Start::Committed => "committed",
            Start::Time(_) => "time",
        };
        info!(self.parts.log, "partition starts without a checkpoint"; "partition" => partition,
            "offset" => checkpoint.first_offset, "start" => start,
            "partitions_at_first_claim" => checkpoint.partitions);
    }

    async fn topic(&self) -> TopicView {
        let broker = self.parts.broker.at(Step::ClaimAskTopic);
        self.parts.kafka_patience.topic(&broker).await
    }

    /// The topic as it is now. One that was deleted is no other log yet, and what was read of it
    /// may be all that is left.
    pub(super) async fn topic_now(&self) -> TopicView {
        let question = Question::Topic("asking for the topic");
        let broker = self.parts.broker.at(Step::BeginAskTopic);
        let asked = self
            .parts
            .kafka_patience
            .until_answered(question, async || broker.topic().await);
        asked.await.unwrap_or_else(TopicView::unknown)
    }

    async fn ask_log(&self, partition: i32) -> LogView {
        let topic = self.topic().await;
        let broker = self.parts.broker.at(Step::ClaimAskLog);
        let question = Question::Partition("asking for the watermarks", partition);
        let watermarks = self
            .parts
            .kafka_patience
            .until_answered(question, async || broker.watermarks(partition).await);
        let (low, high) = watermarks.await;
        let status = self.parts.status.partition(&self.names.topic, partition);
        status.log_start.store(low, Ordering::Relaxed);
        status.log_end.store(high, Ordering::Relaxed);
        LogView { topic, low, high }
    }

    async fn ask_start(&self, partition: i32, question: StartQuestion) -> i64 {
        let broker = self.parts.broker.at(Step::AskStart);
        let asked = Question::Partition("asking for the start", partition);
        // Past every log's end and before every log's start: the protocol clamps.
        let answer = self
            .parts
            .kafka_patience
            .until_answered(asked, async || match question {
                StartQuestion::Time(time_ms) => {
                    let offset = broker.offset_for_time(partition, time_ms).await;
                    offset.map(|offset| offset.unwrap_or(i64::MAX))
                }
                StartQuestion::Committed => broker
                    .committed(partition)
                    .await
                    .map(|offset| offset.unwrap_or(0)),
            });
        answer.await
    }

    fn answer_stopped(&self, partition: i32, cause: &str) -> ClaimAnswer {
        self.say_stopped(partition, cause);
        ClaimAnswer::Stopped { partition }
    }

    fn answer_replay(
        &self,
        slot: &mut Option<Held>,
        partition: i32,
        held: Held,
        from: i64,
    ) -> ClaimAnswer {
        let Some(pending) = &held.checkpoint.pending else {
            return self.answer_stopped(partition, "nothing is pending");
        };
        let layout = Arc::new(pending.layout.clone());
        let end = pending.end;
        let forced = self.shared.forced.borrow();
        let forced = forced.get(&partition).cloned().unwrap_or_default();
        let claim = self.hold(slot, partition, held);
        self.say_claimed(claim, from, Some(end));
        ClaimAnswer::Replay {
            claim,
            from,
            end,
            layout,
            forced: Arc::new(forced),
        }
    }

    /// A gap without a pending range is begun and landed as one that is read again.
    async fn pass_gap(
        &self,
        slot: &mut Option<Held>,
        partition: i32,
        turn: u64,
        held: Held,
        to: i64,
    ) -> Option<ClaimAnswer> {
        warn!(self.parts.log, "lost records are passed by the operator's word"; events::GAP_PASSED,
            "partition" => partition, "offset" => held.position(), "end" => to);
        let settled = self.settle(partition, held, Request::PassGap { to }).await;
        match (settled.held, settled.ending) {
            // A claim held for a partition that was released would never close, and the next
            // claim waits for that. What was begun is read again by whoever claims it.
            _ if self.is_overtaken(partition, turn) => Some(ClaimAnswer::Dropped),
            (Some(held), None) => Some(self.answer_replay(slot, partition, held, to)),
            (_, Some(Ending::Refused(refused))) => {
                Some(self.answer_stopped(partition, &refused.to_string()))
            }
            (_, Some(Ending::Vanished)) => Some(self.answer_stopped(partition, VANISHED)),
            _ => None,
        }
    }
}
