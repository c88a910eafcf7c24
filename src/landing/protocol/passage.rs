//! The way of one batch past the store: begun before anything is uploaded, its objects one after
//! another, then said to have landed. Event in, action out; the uploader does what it says.

use super::upload::{Upload, UploadAction, UploadEvent, UploadPlan, UpsetReason};

/// What a batch's way begins with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PassagePlan {
    /// Its objects. Without keys nothing was read in its range but holes.
    pub upload: UploadPlan,
    /// Whether it was begun in the swap that finished the one before it. That of a range read
    /// again says nothing of the topic as it is now, so it is begun like any other.
    pub is_begun: bool,
    /// Whether nothing of its claim follows.
    pub closes_claim: bool,
}

/// A batch on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Passage {
    plan: PassagePlan,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Stage {
    Beginning,
    Uploading(Box<Upload>),
    /// Its objects are there.
    Placed,
    Finishing,
    Closing,
    Upset,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassageEvent {
    /// To [`PassageAction::Begin`] and [`PassageAction::Landed`]: whether it is in the checkpoint.
    Sealed(bool),
    /// To [`PassageAction::Upload`].
    Upload(UploadEvent),
    /// To the actions whose answer says nothing, and to [`PassageAction::Placed`].
    Told,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PassageAction {
    /// Let the range be swapped in as pending, or be confirmed as such.
    Begin,
    /// Create or read an object.
    Upload(UploadAction),
    /// Its objects are there: the time to choose the batch that is begun in the same swap.
    Placed,
    /// Let the range be swapped in as landed.
    Landed,
    /// Let the holes up to here be noted: who comes next need not read them again.
    Holes {
        /// Behind the last of them.
        to: i64,
    },
    /// Say that nothing of the claim is on its way any more.
    Closed,
    /// Say that the objects cannot be completed, which ends the claim.
    Upset(UpsetReason),
    /// It has landed.
    Done,
    /// Its claim has ended.
    Dropped,
}

impl Passage {
    /// A batch on its way, and its first action.
    pub fn new(plan: PassagePlan) -> (Self, PassageAction) {
        let mut passage = Self {
            plan,
            stage: Stage::Beginning,
        };
        let action = match () {
            () if !passage.has_keys() => passage.go(Stage::Placed, PassageAction::Placed),
            () if passage.plan.is_begun => passage.upload(),
            () => PassageAction::Begin,
        };
        (passage, action)
    }

    /// The next step.
    pub fn step(&mut self, event: PassageEvent) -> PassageAction {
        match (&mut self.stage, event) {
            (Stage::Beginning, PassageEvent::Sealed(true)) => self.upload(),
            (Stage::Uploading(upload), PassageEvent::Upload(event)) => {
                let action = upload.step(event);
                self.uploading(action)
            }
            (Stage::Placed, PassageEvent::Told) => {
                let range = self.plan.upload.start..self.plan.upload.end;
                match () {
                    () if self.has_keys() => self.go(Stage::Finishing, PassageAction::Landed),
                    () if range.is_empty() => self.close(),
                    () => self.go(Stage::Finishing, PassageAction::Holes { to: range.end }),
                }
            }
            (Stage::Finishing, PassageEvent::Sealed(true) | PassageEvent::Told) => self.close(),
            (Stage::Closing, PassageEvent::Told) => PassageAction::Done,
            _ => PassageAction::Dropped,
        }
    }

    fn has_keys(&self) -> bool {
        !self.plan.upload.keys.is_empty()
    }

    fn go(&mut self, stage: Stage, action: PassageAction) -> PassageAction {
        self.stage = stage;
        action
    }

    fn upload(&mut self) -> PassageAction {
        let (upload, action) = Upload::new(self.plan.upload.clone());
        self.stage = Stage::Uploading(Box::new(upload));
        self.uploading(action)
    }

    fn uploading(&mut self, action: UploadAction) -> PassageAction {
        let reason = match action {
            UploadAction::Create { .. } | UploadAction::Look { .. } => {
                return PassageAction::Upload(action);
            }
            UploadAction::Finished => return self.go(Stage::Placed, PassageAction::Placed),
            UploadAction::ReplayForced(offsets) => UpsetReason::ReplayForced(offsets),
            UploadAction::AwaitWord => UpsetReason::AwaitWord,
            UploadAction::Foreign { key, why } => UpsetReason::Foreign { key, why },
        };
        self.go(Stage::Upset, PassageAction::Upset(reason))
    }

    fn close(&mut self) -> PassageAction {
        match self.plan.closes_claim {
            true => self.go(Stage::Closing, PassageAction::Closed),
            false => PassageAction::Done,
        }
    }
}

/// Whether the batch that waits can be begun in the swap that finishes the one before it, both
/// being of one claim.
pub fn continues(end: i64, next_start: i64, next_keys: &[String]) -> bool {
    next_start == end && !next_keys.is_empty()
}

#[cfg(test)]
mod tests;
