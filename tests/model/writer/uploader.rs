//! The uploader: a batch on its way.

use super::*;

impl Writer {
    pub(super) fn answer_batch(&mut self, sealed: bool, around: &mut Around<'_>) {
        if let Some(travelling) = &mut self.travelling {
            travelling.is_asked = false;
            let event = match travelling.action {
                PassageAction::Begin | PassageAction::Landed => PassageEvent::Sealed(sealed),
                _ => PassageEvent::Told,
            };
            if travelling.begins_late {
                // Seeded: the objects are there already.
                travelling.begins_late = false;
                travelling.action = match sealed {
                    true => PassageAction::Placed,
                    false => PassageAction::Dropped,
                };
            } else {
                travelling.action = travelling.passage.step(event);
            }
        }
        self.local(around);
    }

    /// Goes as far as the uploader can without an answer from outside.
    pub fn local(&mut self, around: &mut Around<'_>) {
        loop {
            let Some(travelling) = &mut self.travelling else {
                let Some(batch) = self.queue.pop_front() else {
                    return;
                };
                self.start(batch, false, around);
                continue;
            };
            let epoch = travelling.batch.epoch;
            let request = match &travelling.action {
                PassageAction::Upload(_) => return,
                PassageAction::Begin => Request::Begin(intent(&travelling.batch, around.setup)),
                PassageAction::Placed if travelling.begins_late => {
                    Request::Begin(intent(&travelling.batch, around.setup))
                }
                PassageAction::Placed => {
                    let next = self.queue.front().filter(|next| {
                        next.epoch == epoch
                            && continues(travelling.batch.end, next.start, &next.keys)
                    });
                    travelling.next = next.map(|next| intent(next, around.setup));
                    travelling.action = travelling.passage.step(PassageEvent::Told);
                    continue;
                }
                PassageAction::Landed => Request::Landed {
                    last: travelling.batch.last,
                    next: travelling.next.clone(),
                },
                PassageAction::Holes { to } => Request::Holes { to: *to },
                PassageAction::Upset(reason) => Request::Upset(reason.clone()),
                PassageAction::Closed => {
                    travelling.action = travelling.passage.step(PassageEvent::Told);
                    self.end_claim(epoch);
                    continue;
                }
                PassageAction::Done | PassageAction::Dropped => {
                    let is_begun =
                        travelling.action == PassageAction::Done && travelling.next.is_some();
                    self.travelling = None;
                    if let Some(batch) = self.queue.pop_front() {
                        self.start(batch, is_begun, around);
                    }
                    continue;
                }
            };
            if travelling.is_asked || self.desk.is_some() {
                return;
            }
            let held = self
                .slot
                .as_deref()
                .filter(|held| held.checkpoint.epoch == epoch);
            let Some(held) = held.filter(|_| self.is_current(epoch)).cloned() else {
                self.answer_batch(false, around);
                return;
            };
            travelling_mut(&mut self.travelling).is_asked = true;
            self.ask_work(held, request, Asker::Batch, around);
        }
    }

    pub(super) fn start(&mut self, batch: Arc<Batch>, is_begun: bool, around: &mut Around<'_>) {
        let Some(holding) = self
            .holding
            .clone()
            .filter(|holding| holding.epoch == batch.epoch)
        else {
            return;
        };
        let begins_late = around.seed == Some(Seed::BeginAfterUpload)
            && holding.pending.is_none()
            && !batch.keys.is_empty()
            && !is_begun;
        let is_unconfirmed =
            around.seed == Some(Seed::ReplayNotConfirmed) && holding.pending.is_some();
        let is_begun = is_begun || begins_late || is_unconfirmed;
        let (passage, action) = Passage::new(plan(&batch, &holding, is_begun));
        let mut travelling = Travelling {
            passage,
            batch,
            holding,
            action,
            is_asked: false,
            next: None,
            begins_late,
            sent_ahead: false,
        };
        self.believe(&mut travelling, around);
        self.travelling = Some(Box::new(travelling));
    }

    /// Creates or looks at the object that the uploader is at.
    pub fn object_step(&mut self, fate: Fate, around: &mut Around<'_>) {
        let Some(mut travelling) = self.travelling.take() else {
            return;
        };
        let PassageAction::Upload(action) = travelling.action.clone() else {
            self.travelling = Some(travelling);
            return;
        };
        if !travelling.sent_ahead {
            travelling.sent_ahead = true;
            self.send_ahead(&travelling, around);
        }
        let event = match action {
            UploadAction::Create {
                index,
                mut offsets,
                gap,
            } => {
                let planned = &travelling.batch.planned[index];
                if around.seed == Some(Seed::NotMinusWhatIsHeld) {
                    offsets = planned.clone();
                }
                let key = travelling.batch.keys[index].clone();
                let file = Arc::new(file(&travelling, index, offsets, gap, around.setup));
                let put = Put::File {
                    key: key.clone(),
                    file: file.clone(),
                    create_only: around.seed != Some(Seed::Overwrite),
                };
                match send(put, fate, around) {
                    Ok(_) => Some(UploadEvent::Created),
                    Err(StoreError::Precondition) => {
                        let found = &around.store.files[&key];
                        Some(match *found == file {
                            true => UploadEvent::Created,
                            false => exists(found, &travelling, around.seed),
                        })
                    }
                    Err(_) => None,
                }
            }
            UploadAction::Look { index } => {
                let found = around.store.files.get(&travelling.batch.keys[index]);
                Some(match found {
                    Some(found) => exists(found, &travelling, around.seed),
                    None => UploadEvent::Absent,
                })
            }
            _ => unreachable!("no I/O"),
        };
        if let Some(event) = event {
            travelling.action = travelling.passage.step(PassageEvent::Upload(event));
            if around.seed == Some(Seed::LandedWithoutProof) {
                travelling.action = PassageAction::Placed;
                travelling.passage = placed(&travelling);
            }
            if around.seed == Some(Seed::UnplacedDropped)
                && matches!(
                    travelling.action,
                    PassageAction::Upset(UpsetReason::ReplayForced(_))
                )
            {
                travelling.action = PassageAction::Placed;
                travelling.passage = placed(&travelling);
            }
        }
        self.travelling = Some(travelling);
        self.local(around);
    }

    /// Seeded: puts that go ahead of their turn.
    pub(super) fn send_ahead(&mut self, travelling: &Travelling, around: &mut Around<'_>) {
        let batch = &travelling.batch;
        let dead_letters = batch.keys.len() - 1;
        let ahead: Vec<usize> = match around.seed {
            Some(Seed::DataKeysInParallel) => (0..dead_letters).collect(),
            Some(Seed::DeadLettersFirst) if !batch.planned[dead_letters].is_empty() => {
                vec![dead_letters]
            }
            _ => return,
        };
        for index in ahead {
            let offsets = batch.planned[index].clone();
            let file = Arc::new(file(travelling, index, offsets, None, around.setup));
            let put = Put::File {
                key: batch.keys[index].clone(),
                file,
                create_only: true,
            };
            match around.seed {
                Some(Seed::DataKeysInParallel) => around.late.push(Arc::new(put)),
                _ => {
                    let _ = around.store.change(|store| store.put(&put));
                }
            }
        }
    }

    pub(super) fn believe(&self, travelling: &mut Travelling, around: &Around<'_>) {
        if around.seed == Some(Seed::PendingTakenAsLanded)
            && matches!(travelling.holding.task, Task::Replay { .. })
        {
            travelling.action = PassageAction::Placed;
            travelling.passage = placed(travelling);
        }
    }
}

pub(super) fn travelling_mut(travelling: &mut Option<Box<Travelling>>) -> &mut Travelling {
    travelling.as_mut().expect("a batch is on its way")
}

pub(super) fn intent(batch: &Batch, setup: &Setup) -> Intent {
    Intent {
        start: batch.start,
        end: batch.end,
        keys: batch.keys.clone(),
        layout: (*batch.layout).clone(),
        gap: None,
        data: setup.names.data.clone(),
        dead_letters: setup.names.dead_letters.clone(),
    }
}

pub(super) fn plan(batch: &Batch, holding: &Holding, is_begun: bool) -> PassagePlan {
    PassagePlan {
        upload: UploadPlan {
            identity: holding.identity.clone(),
            start: batch.start,
            end: batch.end,
            keys: batch.keys.clone(),
            planned: batch.planned.clone(),
            read: batch.read.clone(),
            lost: lost(holding),
            word: holding.pending.as_ref().and_then(|pending| pending.gap),
        },
        is_begun,
        closes_claim: batch.closes_claim,
    }
}

pub(super) fn lost(holding: &Holding) -> Option<[i64; 2]> {
    match holding.task {
        Task::Replay { lost } => lost,
        Task::Land => None,
    }
}

pub(super) fn placed(travelling: &Travelling) -> Passage {
    let mut plan = plan(&travelling.batch, &travelling.holding, true);
    plan.upload.planned = vec![OffsetSet::default(); plan.upload.keys.len()];
    plan.upload.read = OffsetSet::default();
    plan.upload.lost = None;
    let (mut passage, mut action) = Passage::new(plan);
    while action != PassageAction::Placed {
        action = passage.step(PassageEvent::Upload(UploadEvent::Created));
    }
    passage
}

pub(super) fn file(
    travelling: &Travelling,
    index: usize,
    offsets: OffsetSet,
    gap: Option<[i64; 2]>,
    setup: &Setup,
) -> File {
    let batch = &travelling.batch;
    let is_dead_letters = index + 1 == batch.keys.len();
    let footer = Footer {
        version: setup.decoder.to_string(),
        ..Footer::new(
            travelling.holding.identity.clone(),
            String::new(),
            offsets.digest(),
            is_dead_letters,
            gap,
            BatchFooter {
                start: batch.start,
                end: batch.end,
                keys: batch.keys.clone(),
                layout: (*batch.layout).clone(),
                offsets: batch.read.digest(),
            },
        )
    };
    File {
        footer,
        rows: offsets,
        log: batch.log,
        layout: batch.layout.clone(),
    }
}

pub(super) fn exists(found: &File, travelling: &Travelling, seed: Option<Seed>) -> UploadEvent {
    let mut footer = found.footer.clone();
    if seed == Some(Seed::FoundBelieved) {
        footer.identity = travelling.holding.identity.clone();
        footer.batch.start = travelling.batch.start;
        footer.batch.end = travelling.batch.end;
    }
    UploadEvent::Exists(Ok(Box::new(footer)), found.rows.clone())
}
