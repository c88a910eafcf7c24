use super::*;
use crate::landing::offsets::OffsetSet;
use crate::landing::protocol::footer::Identity;

fn plan(keys: &[&str], is_begun: bool, closes_claim: bool) -> PassagePlan {
    let read = OffsetSet::from_range(0, if keys.is_empty() { 0 } else { 3 });
    let mut planned = vec![OffsetSet::default(); keys.len()];
    if let Some(first) = planned.first_mut() {
        *first = read.clone();
    }
    PassagePlan {
        upload: UploadPlan {
            identity: Identity {
                cluster_id: String::new(),
                topic_id: String::new(),
                topic: "iss".into(),
                partition: 0,
                group: "g".into(),
            },
            start: 0,
            end: 3,
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            planned,
            read,
            lost: None,
            word: None,
        },
        is_begun,
        closes_claim,
    }
}

fn is_create(action: &PassageAction) -> bool {
    matches!(action, PassageAction::Upload(UploadAction::Create { .. }))
}

#[test]
fn nothing_is_uploaded_before_its_range_is_begun() {
    let (mut passage, action) = Passage::new(plan(&["a", "dead"], false, false));
    assert_eq!(action, PassageAction::Begin);
    assert!(is_create(&passage.step(PassageEvent::Sealed(true))));
    let (mut passage, _) = Passage::new(plan(&["a", "dead"], false, false));
    assert_eq!(
        passage.step(PassageEvent::Sealed(false)),
        PassageAction::Dropped
    );
}

#[test]
fn a_batch_that_was_begun_is_uploaded_at_once_and_lands_when_all_is_there() {
    let (mut passage, action) = Passage::new(plan(&["a", "dead"], true, true));
    assert!(is_create(&action));
    let created = PassageEvent::Upload(UploadEvent::Created);
    assert_eq!(passage.step(created), PassageAction::Placed);
    assert_eq!(passage.step(PassageEvent::Told), PassageAction::Landed);
    assert_eq!(
        passage.step(PassageEvent::Sealed(true)),
        PassageAction::Closed
    );
    assert_eq!(passage.step(PassageEvent::Told), PassageAction::Done);
}

#[test]
fn a_claim_that_ended_before_its_batch_landed_does_not_close() {
    let (mut passage, _) = Passage::new(plan(&["a", "dead"], true, true));
    passage.step(PassageEvent::Upload(UploadEvent::Created));
    passage.step(PassageEvent::Told);
    assert_eq!(
        passage.step(PassageEvent::Sealed(false)),
        PassageAction::Dropped
    );
}

#[test]
fn a_batch_of_holes_begins_nothing_and_notes_them() {
    let (mut passage, action) = Passage::new(plan(&[], false, true));
    assert_eq!(action, PassageAction::Placed);
    assert_eq!(
        passage.step(PassageEvent::Told),
        PassageAction::Holes { to: 3 }
    );
    assert_eq!(passage.step(PassageEvent::Told), PassageAction::Closed);
}

#[test]
fn an_upload_that_cannot_be_finished_is_said_and_dropped() {
    let (mut passage, _) = Passage::new(plan(&["a", "dead"], true, true));
    let foreign = UploadEvent::Exists(Err("no footer".into()), OffsetSet::default());
    let action = passage.step(PassageEvent::Upload(foreign));
    assert!(matches!(
        action,
        PassageAction::Upset(UpsetReason::Foreign { .. })
    ));
    assert_eq!(passage.step(PassageEvent::Told), PassageAction::Dropped);
}

#[test]
fn only_a_batch_with_keys_right_behind_is_begun_in_the_same_swap() {
    let keys = ["k".to_owned()];
    assert!(continues(3, 3, &keys));
    assert!(!continues(3, 4, &keys) && !continues(3, 3, &[]));
}
