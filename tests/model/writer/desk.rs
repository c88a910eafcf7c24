//! The checkpoint actor: claims, and what is asked of a held checkpoint.

use super::*;

impl Writer {
    pub fn can_claim(&self) -> bool {
        // A claim before it may still have batches on their way: they land first.
        let is_closed = self
            .slot
            .as_ref()
            .is_none_or(|held| !self.is_current(held.checkpoint.epoch));
        self.claim_due && self.desk.is_none() && is_closed
    }

    /// Begins a claim, and does its first I/O.
    pub fn claim(&mut self, around: &mut Around<'_>) {
        self.claim_due = false;
        self.slot = None;
        let terms = self.terms(around);
        let (claim, action) = Claim::new(terms);
        let listed = (around.seed == Some(Seed::ListBeforeRead)).then(|| any_object(around));
        let is_ahead = listed.is_some();
        self.desk = Some(Box::new(Desk {
            job: Job::Claim(Box::new(claim)),
            io: Io::Claim(action),
            is_overtaken: false,
            listed,
        }));
        if !is_ahead {
            self.desk_step(Fate::Answered, around);
        }
    }

    pub(super) fn terms(&self, around: &Around<'_>) -> Terms {
        let mut skips = around.skips.to_vec();
        if around.seed == Some(Seed::GapWithoutTheWord) {
            skips = (0..10).collect();
        }
        let name = self.name(around.index);
        let held_epoch = match around.seed {
            Some(Seed::EpochStartsAgain) => 0,
            _ => self.held_epoch,
        };
        around.setup.terms(name, skips, held_epoch)
    }

    // The checkpoint actor.

    /// Does the I/O that the checkpoint actor waits for.
    pub fn desk_step(&mut self, fate: Fate, around: &mut Around<'_>) {
        let Some(desk) = self.desk.take() else {
            return;
        };
        let key = around.setup.checkpoint_key();
        match desk.io.clone() {
            Io::Put(swap) => {
                let put = Put::Checkpoint {
                    key,
                    body: swap.body.clone(),
                    condition: swap.condition.clone(),
                };
                let answer = send(put, fate, around);
                self.swapped(desk, swap, SwapEvent::Put(answer), around);
            }
            Io::Read(swap) => {
                let object = around.store.read_checkpoint(&key);
                self.swapped(desk, swap, SwapEvent::Read(object), around);
            }
            Io::AskTopic => {
                let event = WorkEvent::Topic(around.log.topic());
                self.work(desk, event, around);
            }
            Io::Claim(action) => {
                let event = match action {
                    ClaimAction::Read => {
                        ClaimEvent::Read(match around.store.checkpoints.get(&key) {
                            None => Found::Absent,
                            Some(stored) => {
                                let checkpoint = Box::new(stored.checkpoint.clone());
                                Found::Checkpoint(checkpoint, stored.etag.clone())
                            }
                        })
                    }
                    ClaimAction::ListObjects => {
                        let listed = desk.listed.clone();
                        ClaimEvent::Objects(listed.unwrap_or_else(|| any_object(around)))
                    }
                    ClaimAction::ReadSibling => ClaimEvent::Sibling(
                        around
                            .store
                            .checkpoints
                            .get(&key)
                            .map(|stored| stored.checkpoint.sibling()),
                    ),
                    ClaimAction::AskLog => ClaimEvent::Log(around.log.view()),
                    ClaimAction::AskStart(_) => ClaimEvent::Start(0),
                    ClaimAction::CompareLast(offset) => {
                        ClaimEvent::Last(around.log.record_at(offset))
                    }
                    ClaimAction::ReadGroups => {
                        let others = around.store.checkpoints.iter();
                        let others = others.filter(|(other, _)| **other != key);
                        ClaimEvent::Groups(
                            others
                                .map(|(key, stored)| (key.clone(), stored.checkpoint.clone()))
                                .collect(),
                        )
                    }
                    ClaimAction::Swap { .. } | ClaimAction::Done(_) => unreachable!("no I/O"),
                };
                self.claim_event(desk, event, around);
            }
        }
        self.local(around);
    }

    pub(super) fn swapped(
        &mut self,
        mut desk: Box<Desk>,
        mut swap: Swap,
        event: SwapEvent,
        around: &mut Around<'_>,
    ) {
        let outcome = match swap.step(event.clone()) {
            SwapAction::Resolved(outcome) => outcome,
            SwapAction::PutAgain(_) => {
                if around.seed == Some(Seed::UnknownTakenAsLost) {
                    self.cut_shorter(&mut desk, &mut swap, around);
                }
                desk.io = Io::Put(swap);
                self.desk = Some(desk);
                return;
            }
            SwapAction::Read | SwapAction::ReadAgain(_) => {
                desk.io = Io::Read(swap);
                self.desk = Some(desk);
                return;
            }
        };
        let outcome = match (around.seed, event, outcome) {
            (Some(Seed::FresherETag), SwapEvent::Read(Ok(object)), SwapOutcome::Fenced) => {
                swap.condition = Condition::Matches(object.etag);
                desk.io = Io::Put(swap);
                self.desk = Some(desk);
                return;
            }
            (Some(Seed::UnknownTakenAsLost), SwapEvent::Read(Ok(object)), SwapOutcome::Fenced) => {
                let (found, ours) = (decode(&object.body), decode(&swap.body));
                match (found, ours) {
                    (Ok(found), Ok(ours))
                        if (&found.writer, found.epoch) == (&ours.writer, ours.epoch) =>
                    {
                        SwapOutcome::Won(object.etag)
                    }
                    _ => SwapOutcome::Fenced,
                }
            }
            (_, _, outcome) => outcome,
        };
        match desk.job {
            Job::Claim(_) => self.claim_event(desk, ClaimEvent::Swapped(outcome), around),
            Job::Work { .. } => self.work(desk, WorkEvent::Swapped(outcome), around),
        }
    }

    /// Seeded: a Begin whose answer never came is taken as lost and sent with another end.
    pub(super) fn cut_shorter(&mut self, desk: &mut Desk, swap: &mut Swap, around: &Around<'_>) {
        let Ok(mut checkpoint) = decode(&swap.body) else {
            return;
        };
        let Some(travelling) = self.travelling.as_mut() else {
            return;
        };
        let batch = &travelling.batch;
        if travelling.action != PassageAction::Begin || batch.end - batch.start < 2 {
            return;
        }
        let block = Block {
            epoch: batch.epoch,
            position: batch.end - 1,
            records: batch
                .read
                .minus(&OffsetSet::from_range(batch.end - 1, batch.end)),
            log: batch.log,
            ends: false,
            forced: OffsetSet::default(),
        };
        let shorter = Arc::new(fresh_batch(
            &travelling.holding,
            batch.start,
            &block,
            around,
        ));
        if let Some(reading) = &mut self.reading {
            reading.next = shorter.end;
        }
        if let Some(holding) = &mut self.holding {
            Arc::make_mut(holding).begin = shorter.end;
        }
        self.queue.clear();
        self.blocks.clear();
        if let Some(pending) = &mut checkpoint.pending {
            pending.end = shorter.end;
            pending.keys.clone_from(&shorter.keys);
        }
        travelling.passage = Passage::new(plan(&shorter, &travelling.holding, false)).0;
        travelling.batch = shorter;
        swap.body = encode(&checkpoint);
        if let Job::Work { work, .. } = &mut desk.job {
            let held = self.slot.as_deref().cloned().expect("held");
            let request = Request::Begin(intent(&travelling.batch, around.setup));
            let terms = around.setup.terms(String::new(), Vec::new(), 0);
            let (mut fresh, _) =
                Work::new(terms, around.setup.names.clone(), held, request, &now());
            fresh.step(WorkEvent::Topic(around.log.topic()), &now());
            **work = fresh;
        }
    }

    pub(super) fn claim_event(
        &mut self,
        mut desk: Box<Desk>,
        event: ClaimEvent,
        around: &mut Around<'_>,
    ) {
        let Job::Claim(claim) = &mut desk.job else {
            return;
        };
        match claim.step(event, &now()) {
            ClaimAction::Done(claimed) => self.claimed(&desk, *claimed, around),
            ClaimAction::Swap {
                mut checkpoint,
                condition,
            } => {
                if around.seed == Some(Seed::EpochNotRaised) && condition != Condition::Absent {
                    checkpoint.epoch = 1;
                }
                desk.io = Io::Put(swap_of(&checkpoint, condition, around));
                self.desk = Some(desk);
            }
            action => {
                desk.io = Io::Claim(action);
                self.desk = Some(desk);
            }
        }
    }

    pub(super) fn claimed(&mut self, desk: &Desk, claimed: Claimed, around: &mut Around<'_>) {
        if desk.is_overtaken {
            return;
        }
        let held = Held::of(&claimed).map(|mut held| {
            if around.seed == Some(Seed::EpochNotRaised) {
                held.checkpoint.epoch = 1;
            }
            held
        });
        match (claimed, held) {
            (Claimed::Stopped(cause), _) => self.stopped = Some(cause),
            (Claimed::Land { from, .. }, Some(held)) => {
                self.hold(held, around);
                self.read_from(from, None);
            }
            (Claimed::Replay { from, .. }, Some(held)) => self.replay(held, from, around),
            (Claimed::Gap { to, .. }, Some(held)) => {
                self.ask_work(held, Request::PassGap { to }, Asker::Claim, around);
            }
            _ => self.claim_due = self.is_assigned,
        }
    }

    pub(super) fn replay(&mut self, held: Held, from: i64, around: &Around<'_>) {
        let end = held.checkpoint.pending.as_ref().map(|pending| pending.end);
        self.hold(held, around);
        self.read_from(from, end);
    }

    pub(super) fn hold(&mut self, held: Held, around: &Around<'_>) {
        let checkpoint = &held.checkpoint;
        let pending = match held.task {
            Task::Land => None,
            Task::Replay { .. } => checkpoint.pending.clone(),
        };
        self.held_epoch = checkpoint.epoch;
        self.holding = Some(Arc::new(Holding {
            epoch: checkpoint.epoch,
            identity: identity(checkpoint, around.setup),
            task: held.task,
            begin: checkpoint.next_offset,
            pending,
        }));
        self.slot = Some(Box::new(held));
    }

    /// The consumer takes the answer to its claim, if it still has the partition.
    pub(super) fn read_from(&mut self, next: i64, end: Option<i64>) {
        let epoch = self.holding.as_ref().map_or(0, |holding| holding.epoch);
        self.reading = self.is_assigned.then_some(Reading { epoch, next, end });
    }

    // What is asked of a held checkpoint.

    pub(super) fn ask_work(
        &mut self,
        held: Held,
        request: Request,
        asker: Asker,
        around: &mut Around<'_>,
    ) {
        let epoch = held.checkpoint.epoch;
        let terms = self.terms(around);
        let names = around.setup.names.clone();
        let (work, action) = Work::new(terms, names, held, request, &now());
        let desk = Box::new(Desk {
            job: Job::Work {
                work: Box::new(work),
                epoch,
                asker,
            },
            io: Io::AskTopic,
            is_overtaken: false,
            listed: None,
        });
        self.work_action(desk, action, around);
    }

    pub(super) fn work(&mut self, mut desk: Box<Desk>, event: WorkEvent, around: &mut Around<'_>) {
        let Job::Work { work, .. } = &mut desk.job else {
            return;
        };
        let action = work.step(event, &now());
        self.work_action(desk, action, around);
    }

    pub(super) fn work_action(
        &mut self,
        mut desk: Box<Desk>,
        action: WorkAction,
        around: &mut Around<'_>,
    ) {
        match action {
            WorkAction::AskTopic => desk.io = Io::AskTopic,
            WorkAction::Swap {
                checkpoint,
                condition,
            } => desk.io = Io::Put(swap_of(&checkpoint, condition, around)),
            WorkAction::Done(settled) => return self.settled(*desk, *settled, around),
        }
        self.desk = Some(desk);
    }

    pub(super) fn settled(&mut self, desk: Desk, settled: Settled, around: &mut Around<'_>) {
        let Job::Work { epoch, asker, .. } = desk.job else {
            return;
        };
        let Settled {
            held,
            sealed,
            commit,
            ending,
        } = settled;
        if asker == Asker::Claim {
            match (held, ending) {
                (Some(held), None) => {
                    if desk.is_overtaken {
                        return;
                    }
                    let to = held
                        .checkpoint
                        .pending
                        .as_ref()
                        .map_or(0, |pending| pending.end);
                    self.replay(held, to, around);
                }
                (_, Some(Ending::Refused(refused))) => self.stopped = Some(refused.to_string()),
                (_, Some(Ending::Vanished)) => self.stopped = Some("vanished".into()),
                _ => self.claim_due = self.is_assigned,
            }
            return;
        }
        self.slot = held.map(Box::new);
        if commit.is_some() && asker == Asker::Batch {
            self.forced = OffsetSet::default();
        }
        if let Some(ending) = ending {
            self.ended(epoch, ending);
        }
        if asker == Asker::Batch {
            self.answer_batch(sealed, around);
        }
    }

    pub(super) fn ended(&mut self, epoch: u64, ending: Ending) {
        self.end_claim(epoch);
        let is_stopped = match ending {
            Ending::Forced(offsets) => {
                self.forced = self.forced.union(&offsets);
                None
            }
            Ending::Stopped(cause) => Some(cause),
            Ending::Vanished => Some("vanished".into()),
            Ending::Replayed | Ending::Fenced | Ending::Refused(_) => None,
        };
        // The consumer claims again, unless it is at a newer claim.
        let is_newer = |reading: &Reading| reading.epoch > epoch;
        if self.is_assigned && !self.reading.as_ref().is_some_and(is_newer) {
            self.reading = None;
            self.claim_due = is_stopped.is_none();
            self.stopped = is_stopped;
        }
    }
}

pub(super) fn send(put: Put, fate: Fate, around: &mut Around<'_>) -> Result<ETag, StoreError> {
    let unknown = Err(StoreError::Unknown(String::new()));
    if fate == Fate::Late {
        let put = Arc::new(put);
        if !around.late.contains(&put) {
            around.late.push(put);
        }
        return unknown;
    }
    let answer = around.store.change(|store| store.put(&put));
    if let (Ok(etag), Put::Checkpoint { .. }, Some(versions)) =
        (&answer, &put, &mut around.versions)
    {
        versions.push(etag.0.clone());
    }
    match fate {
        Fate::Answered => answer,
        _ => unknown,
    }
}

pub(super) fn swap_of(checkpoint: &Checkpoint, condition: Condition, around: &Around<'_>) -> Swap {
    Swap {
        body: encode(&version_of(checkpoint, around.seed)),
        condition,
    }
}

pub(super) fn any_object(around: &Around<'_>) -> Option<String> {
    let names = &around.setup.names;
    let folders = [
        format!("{}/", names.data),
        format!("{}/", names.dead_letters),
    ];
    let is_ours = |key: &&String| {
        folders.iter().any(|folder| key.starts_with(folder))
            && names
                .range_in(key)
                .is_some_and(|range| range.partition == PARTITION)
    };
    around.store.files.keys().find(is_ours).cloned()
}

pub(super) fn identity(checkpoint: &Checkpoint, setup: &Setup) -> Identity {
    Identity {
        cluster_id: checkpoint.cluster_id.clone(),
        topic_id: checkpoint.topic_id.clone(),
        topic: TOPIC.into(),
        partition: PARTITION,
        group: setup.names.group.clone(),
    }
}
