//! The landing protocol against a store that fails: the actors that ship, every kind of request,
//! every fault, at every occurrence. Whatever happens, each record lands exactly once.

mod kafka;
mod rig;
mod rules;
mod witness;

use std::time::Duration;

use groundtrack::messages::Command;
use groundtrack::store::StoreError;
use groundtrack::store::faulty::{Fault, Kind};

use rig::{Ended, Member, Rig};

/// The kinds of requests that landing makes.
const KINDS: [Kind; 5] = [
    Kind::CheckpointCreate,
    Kind::CheckpointReplace,
    Kind::ObjectCreate,
    Kind::Get,
    Kind::List,
];

fn cut() -> StoreError {
    StoreError::Unknown("cut".into())
}

/// Every way in which one request can go wrong and the caller lives.
fn faults() -> Vec<Fault> {
    let mut faults = vec![Fault::Slow(Duration::from_secs(60))];
    for error in [
        StoreError::Conflict,
        StoreError::Precondition,
        StoreError::Refused("403".into()),
        cut(),
    ] {
        faults.push(Fault::Before(error.clone()));
        faults.push(Fault::After(error));
    }
    for requests in [0, 1, 2, 3, 5, 8] {
        faults.push(Fault::Late(cut(), requests));
    }
    faults
}

/// A first generation lands eight records, a second the rest, a third finds nothing to do.
async fn three_generations(rig: &Rig) {
    for end in [8, 14, 14] {
        rig.kafka.fill_to(end);
        let member = rig.member();
        assert_eq!(member.land(0).await, Ended::Landed);
        rig.audit(0).await;
        member.kill().await;
    }
}

/// How often each kind of request is made where nothing fails.
fn occurrences() -> Vec<(Kind, u64)> {
    let rig = Rig::new(0);
    rig::run(three_generations(&rig));
    let seen = rig.store.seen();
    assert_eq!(seen.get(&Kind::Overwrite), None);
    KINDS
        .into_iter()
        .flat_map(|kind| (1..=seen.get(&kind).copied().unwrap_or_default()).map(move |n| (kind, n)))
        .collect()
}

#[test]
fn every_test_that_the_page_of_rules_names_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/landing.md")).unwrap();
    let mut sources = String::new();
    let mut folders = vec![root.join("src"), root.join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension().and_then(|extension| extension.to_str()) {
                None => folders.extend(path.is_dir().then_some(path)),
                Some("rs") => sources.push_str(&std::fs::read_to_string(&path).unwrap()),
                Some(_) => {}
            }
        }
    }
    // Paths and keys are no sentences: a test's name has at least three words.
    let named = page.split('`').skip(1).step_by(2);
    let tests: Vec<&str> = named
        .filter(|name| name.matches('_').count() >= 2 && !name.contains(['/', '.']))
        .collect();
    assert!(tests.len() > 50, "{tests:?}");
    let missing: Vec<_> = tests
        .into_iter()
        .filter(|name| !sources.contains(&format!("fn {name}(")))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

/// Runs each case by itself and says which failed.
fn all_hold(cases: impl Iterator<Item = (String, Box<dyn FnOnce()>)>) {
    let (mut count, mut failed) = (0, Vec::new());
    for (name, case) in cases {
        println!("=== {name}");
        count += 1;
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(case)).is_err() {
            failed.push(name);
        }
    }
    println!("{count} cases");
    assert!(count > 0 && failed.is_empty(), "of {count}: {failed:#?}");
}

#[test]
fn whatever_happens_to_one_request_every_record_lands_once() {
    let cases = occurrences().into_iter().flat_map(|(kind, occurrence)| {
        faults().into_iter().map(move |fault| {
            let name = format!("{kind:?} {occurrence}: {fault:?}");
            let case = move || {
                let rig = Rig::new(0);
                rig.store.plan(kind, occurrence, fault);
                rig::run(three_generations(&rig));
                assert_eq!(rig.store.fired(), 1);
            };
            (name, Box::new(case) as Box<dyn FnOnce()>)
        })
    });
    all_hold(cases);
}

/// Where a writer can stand still.
fn stand_stills() -> Vec<(Kind, u64, Fault)> {
    let at = |(kind, occurrence)| {
        [Fault::HeldBefore, Fault::HeldAfter].map(|fault| (kind, occurrence, fault))
    };
    occurrences().into_iter().flat_map(at).collect()
}

#[test]
fn a_writer_killed_at_any_request_is_followed_by_one_that_lands_the_rest_once() {
    let mut cases: Vec<(String, Box<dyn FnOnce()>)> = Vec::new();
    for (kind, occurrence, fault) in stand_stills() {
        // What the killed one sent may also arrive when the next one is well under way.
        for late in [None, Some(2), Some(4), Some(8)] {
            let fault = match late {
                None => fault.clone(),
                Some(requests) if fault == Fault::HeldBefore => Fault::Late(cut(), requests),
                Some(_) => continue,
            };
            let name = format!("{kind:?} {occurrence}: killed at {fault:?}");
            cases.push((name, Box::new(move || killed_at(kind, occurrence, fault))));
        }
    }
    all_hold(cases.into_iter());
}

fn killed_at(kind: Kind, occurrence: u64, fault: Fault) {
    let rig = Rig::new(0);
    rig.store.plan(kind, occurrence, fault.clone());
    rig::run(async {
        for end in [8, 14, 14] {
            rig.kafka.fill_to(end);
            let member = rig.member();
            let fired_before = rig.store.fired() == 1;
            let died = tokio::select! {
                ended = member.land(0) => {
                    assert_eq!(ended, Ended::Landed);
                    false
                }
                () = until_fired(&rig, &fault), if !fired_before => true,
            };
            if died {
                nothing_was_committed_ahead(&rig, &member).await;
            }
            member.kill().await;
            if died {
                rig.store.release();
                let next = rig.member();
                assert_eq!(next.land(0).await, Ended::Landed);
                next.kill().await;
            }
            rig.audit(0).await;
        }
    });
    assert_eq!(rig.store.fired(), 1);
}

/// Kafka is told of no offset that the checkpoint has not reached.
async fn nothing_was_committed_ahead(rig: &Rig, member: &Member) {
    let reached = rig
        .witness
        .checkpoint(0)
        .await
        .map_or(0, |held| held.next_offset);
    for command in member.heard() {
        if let Command::Commit { offset, .. } = command {
            assert!(offset <= reached, "{offset} committed, {reached} landed");
        }
    }
}

async fn until_fired(rig: &Rig, fault: &Fault) {
    match fault {
        Fault::HeldBefore | Fault::HeldAfter => rig.store.until_held().await,
        _ => {
            while rig.store.fired() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

#[test]
fn a_zombie_that_wakes_up_at_any_request_changes_nothing() {
    let cases = stand_stills().into_iter().map(|(kind, occurrence, fault)| {
        let name = format!("{kind:?} {occurrence}: asleep at {fault:?}");
        let case = move || asleep_at(kind, occurrence, fault);
        (name, Box::new(case) as Box<dyn FnOnce()>)
    });
    all_hold(cases);
}

fn asleep_at(kind: Kind, occurrence: u64, fault: Fault) {
    let rig = Rig::new(0);
    rig.store.plan(kind, occurrence, fault);
    rig::run(async {
        for end in [8, 14, 14] {
            rig.kafka.fill_to(end);
            let member = rig.member();
            {
                let mut landing = std::pin::pin!(member.land(0));
                let slept_before = rig.store.fired() == 1;
                tokio::select! {
                    ended = &mut landing => assert_eq!(ended, Ended::Landed),
                    () = rig.store.until_held(), if !slept_before => {
                        let next = rig.member();
                        assert_eq!(next.land(0).await, Ended::Landed);
                        rig.audit(0).await;
                        rig.store.release();
                        // It claims again, as one whose partition was not taken away, and finds
                        // all done.
                        assert_eq!(landing.await, Ended::Landed);
                        next.kill().await;
                    }
                }
            }
            rig.audit(0).await;
            member.kill().await;
        }
    });
    assert_eq!(rig.store.fired(), 1);
}
