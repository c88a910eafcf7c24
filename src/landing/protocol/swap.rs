//! One compare-and-swap of a checkpoint, from the first put until it is resolved.

use bytes::Bytes;

use crate::store::{Condition, ETag, Object, StoreError};

/// A swap under way. Until it is resolved the same bytes are put under the same condition, never
/// with a fresher ETag and never with another content: a lost answer may have taken effect, and a
/// late one may yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Swap {
    /// The whole new checkpoint.
    pub body: Bytes,
    /// What it replaces.
    pub condition: Condition,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwapEvent {
    /// The answer to a put.
    Put(Result<ETag, StoreError>),
    /// The answer to a read.
    Read(Result<Object, StoreError>),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwapAction {
    /// Put the same again, after a back-off.
    PutAgain(StoreError),
    /// Read what is there.
    Read,
    /// Read again, after a back-off.
    ReadAgain(StoreError),
    /// It is resolved.
    Resolved(SwapOutcome),
}

/// How a swap ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SwapOutcome {
    /// Our content is the checkpoint, in this version.
    Won(ETag),
    /// Another writer's content is, or was: our claim has ended.
    Fenced,
    /// The checkpoint is gone: somebody deleted it, and whatever we wrote now would land records
    /// again.
    Vanished,
}

impl Swap {
    /// The next step.
    pub fn step(&self, event: SwapEvent) -> SwapAction {
        match event {
            SwapEvent::Put(Ok(etag)) => SwapAction::Resolved(SwapOutcome::Won(etag)),
            SwapEvent::Put(Err(StoreError::Precondition)) => SwapAction::Read,
            SwapEvent::Put(Err(StoreError::NotFound)) if self.replaces() => {
                SwapAction::Resolved(SwapOutcome::Vanished)
            }
            SwapEvent::Put(Err(error)) => SwapAction::PutAgain(error),
            SwapEvent::Read(Ok(object)) if object.body == self.body => {
                SwapAction::Resolved(SwapOutcome::Won(object.etag))
            }
            SwapEvent::Read(Ok(_)) => SwapAction::Resolved(SwapOutcome::Fenced),
            SwapEvent::Read(Err(StoreError::NotFound)) if self.replaces() => {
                SwapAction::Resolved(SwapOutcome::Vanished)
            }
            // Somebody's new checkpoint, gone again, and we held none: whether objects came with
            // it only a claim from its beginning can tell.
            SwapEvent::Read(Err(StoreError::NotFound)) => SwapAction::Resolved(SwapOutcome::Fenced),
            SwapEvent::Read(Err(error)) => SwapAction::ReadAgain(error),
        }
    }

    fn replaces(&self) -> bool {
        matches!(self.condition, Condition::Matches(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swap() -> Swap {
        Swap {
            body: Bytes::from_static(b"ours"),
            condition: Condition::Matches(ETag("1".into())),
        }
    }

    fn read(body: &'static [u8]) -> SwapEvent {
        SwapEvent::Read(Ok(Object {
            body: Bytes::from_static(body),
            etag: ETag("2".into()),
        }))
    }

    #[test]
    fn an_unknown_answer_puts_the_same_again() {
        for error in [
            StoreError::Unknown("cut".into()),
            StoreError::Conflict,
            StoreError::Refused("expired".into()),
        ] {
            let action = swap().step(SwapEvent::Put(Err(error.clone())));
            assert_eq!(action, SwapAction::PutAgain(error));
        }
    }

    #[test]
    fn a_lost_answer_is_ours_only_if_the_whole_body_reads_back_equal() {
        assert_eq!(
            swap().step(SwapEvent::Put(Err(StoreError::Precondition))),
            SwapAction::Read
        );
        let won = SwapAction::Resolved(SwapOutcome::Won(ETag("2".into())));
        assert_eq!(swap().step(read(b"ours")), won);
        assert_eq!(
            swap().step(read(b"ours!")),
            SwapAction::Resolved(SwapOutcome::Fenced)
        );
    }

    #[test]
    fn a_checkpoint_that_is_gone_is_not_made_again() {
        let gone = SwapAction::Resolved(SwapOutcome::Vanished);
        assert_eq!(swap().step(SwapEvent::Put(Err(StoreError::NotFound))), gone);
        assert_eq!(
            swap().step(SwapEvent::Read(Err(StoreError::NotFound))),
            gone
        );
        let create = Swap {
            condition: Condition::Absent,
            ..swap()
        };
        let action = create.step(SwapEvent::Put(Err(StoreError::NotFound)));
        assert_eq!(action, SwapAction::PutAgain(StoreError::NotFound));
    }

    #[test]
    fn a_new_checkpoint_that_was_there_and_is_gone_is_claimed_from_the_beginning() {
        let create = Swap {
            condition: Condition::Absent,
            ..swap()
        };
        assert_eq!(
            create.step(SwapEvent::Read(Err(StoreError::NotFound))),
            SwapAction::Resolved(SwapOutcome::Fenced)
        );
    }
}
