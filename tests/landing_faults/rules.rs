//! Single rules, through the whole chain.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use groundtrack::config::{ColumnType, PartitionUnit, Skip};
use groundtrack::fault;
use groundtrack::landing::ledger::encode;
use groundtrack::landing::parquet_file::read_back;
use groundtrack::messages::{ClaimAnswer, ClaimId, Command};
use groundtrack::store::faulty::{CarelessStore, Carelessness, Fault, FaultyStore, Kind};
use groundtrack::store::memory::MemoryStore;
use groundtrack::store::{Condition, ObjectStore, StoreError};

use crate::cut;
use crate::rig::{Ended, Rig, run, run_alone};

fn stopped(ended: Ended) -> String {
    match ended {
        Ended::Stopped(cause) => cause,
        Ended::Landed => panic!("it landed"),
    }
}

fn landing(answer: ClaimAnswer) -> (ClaimId, i64) {
    match answer {
        ClaimAnswer::Land { claim, from } => (claim, from),
        other => panic!("{other:?}"),
    }
}

async fn all_keys(store: &dyn ObjectStore) -> Vec<String> {
    let listed = store.list("").await.unwrap();
    listed.into_iter().map(|object| object.key).collect()
}

#[test]
fn a_server_that_does_not_keep_a_condition_is_refused_until_it_is_mended() {
    for (breaks, words) in [
        (Carelessness::IgnoresIfNoneMatch, "ignores If-None-Match"),
        (Carelessness::IgnoresIfMatch, "ignores If-Match"),
        (
            Carelessness::CreatesOnIfMatch,
            "creates an object though If-Match",
        ),
    ] {
        run(async {
            let rig = Rig::new(7);
            let store = CarelessStore::new(Arc::new(MemoryStore::new()), breaks);
            let member = rig.member_on(store.clone());
            let cause = stopped(member.land(0).await);
            assert!(
                cause.contains(words) && cause.contains("use a server"),
                "{cause}"
            );
            let checkpoint = "checkpoints/demo/t/0.json";
            assert_eq!(
                all_keys(&*store).await,
                [checkpoint],
                "no trace and no object"
            );
            *store.breaks.lock().unwrap_or_else(PoisonError::into_inner) = None;
            assert_eq!(member.land(0).await, Ended::Landed);
            assert!(all_keys(&*store).await.len() > 1);
        });
    }
}

/// The probe of a missing key is repeated under another name; all of them are removed.
#[test]
fn a_probe_whose_answer_was_lost_leaves_nothing_and_hides_nothing() {
    run(async {
        let rig = Rig::new(7);
        let breaks = Carelessness::CreatesOnIfMatch;
        let careless = CarelessStore::new(Arc::new(MemoryStore::new()), breaks);
        let store = Arc::new(FaultyStore::new(careless, "checkpoints"));
        // The second replace of a first claim: the first probes the checkpoint's own version.
        store.plan(Kind::CheckpointReplace, 2, Fault::After(cut()));
        let member = rig.member_on(store.clone());
        let cause = stopped(member.land(0).await);
        assert!(
            cause.contains("creates an object though If-Match"),
            "{cause}"
        );
        assert_eq!(store.fired(), 1);
        assert_eq!(all_keys(&*store).await, ["checkpoints/demo/t/0.json"]);
    });
}

#[test]
fn offsets_are_committed_to_kafka_only_after_the_checkpoint_has_them() {
    run(async {
        let rig = Rig::new(3);
        // Two replaces probe the conditions, the third begins, the fourth lands.
        rig.store.plan(Kind::CheckpointReplace, 4, Fault::HeldAfter);
        let member = rig.member();
        let (claim, from) = landing(member.claim(0).await);
        member.send(member.block(claim, from, 3, None)).await;
        rig.store.until_held().await;
        assert_eq!(rig.witness.checkpoint(0).await.unwrap().next_offset, 3);
        assert!(member.heard().is_empty());
        rig.store.release();
        while member.claims.is_current(claim) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let heard = member.heard();
        let [
            Command::Commit {
                partition: 0,
                offset: 3,
            },
        ] = heard[..]
        else {
            panic!("{heard:?}");
        };
    });
}

#[test]
fn a_checkpoint_deleted_while_it_is_held_stops_the_partition_and_is_not_made_again() {
    run(async {
        let rig = Rig::new(8);
        rig.store
            .plan(Kind::CheckpointReplace, 3, Fault::HeldBefore);
        let member = rig.member();
        let deleted = async {
            rig.store.until_held().await;
            rig.witness
                .delete("checkpoints/demo/t/0.json")
                .await
                .unwrap();
            rig.store.release();
        };
        let (ended, ()) = tokio::join!(member.land(0), deleted);
        assert!(stopped(ended).contains("deleted while it was held"));
        assert_eq!(all_keys(&*rig.witness).await, Vec::<String>::new());
    });
}

#[test]
fn a_checkpoint_of_an_unknown_format_waits_and_is_not_touched() {
    run(async {
        let rig = Rig::new(8);
        let (key, body) = ("checkpoints/demo/t/0.json", &br#"{"format": 7}"#[..]);
        let store = Arc::new(MemoryStore::new());
        store
            .put(key, Bytes::from_static(body), None)
            .await
            .unwrap();
        let cause = stopped(rig.member_on(store.clone()).land(0).await);
        assert!(
            cause.contains("has format 7") && cause.contains("upgrade"),
            "{cause}"
        );
        assert_eq!(store.get(key).await.unwrap().body, body);
        assert_eq!(all_keys(&*store).await, [key]);
    });
}

#[test]
fn objects_without_their_checkpoint_are_foreign() {
    run(async {
        let rig = Rig::new(8);
        let member = rig.member();
        assert_eq!(member.land(0).await, Ended::Landed);
        let before = rig.witness.keys("parquet_files").await;
        rig.witness
            .delete("checkpoints/demo/t/0.json")
            .await
            .unwrap();
        let cause = stopped(member.land(0).await);
        assert!(
            cause.starts_with("foreign") && cause.contains("put the checkpoint back"),
            "{cause}"
        );
        assert_eq!(rig.witness.keys("parquet_files").await, before);
        assert_eq!(rig.witness.checkpoint(0).await, None);
        // Dead letters alone are objects too.
        for key in before {
            rig.witness.delete(&key).await.unwrap();
        }
        assert!(stopped(member.land(0).await).contains("dead_letters/"));
    });
}

#[test]
fn a_listing_older_than_the_read_is_not_believed() {
    run(async {
        let rig = Rig::new(8);
        let member = rig.member();
        landing(member.claim(0).await);
        // Of partition 1, there since the list for partition 0.
        let other = Rig::new(8);
        assert_eq!(other.member().land(1).await, Ended::Landed);
        let object = &other.witness.keys("parquet_files").await[0];
        let body = other.witness.get(object).await.unwrap().body;
        let absent = Some(Condition::Absent);
        rig.witness.put(object, body, absent).await.unwrap();
        assert!(stopped(member.land(1).await).starts_with("foreign"));
    });
}

#[test]
fn a_checkpoint_that_appears_before_the_list_is_found_by_the_second_read() {
    run(async {
        let rig = Rig::new(8);
        rig.store.plan(Kind::List, 1, Fault::HeldBefore);
        let slow = rig.member();
        let meanwhile = async {
            rig.store.until_held().await;
            let fast = rig.member();
            assert_eq!(fast.land(0).await, Ended::Landed);
            rig.store.release();
        };
        let (ended, ()) = tokio::join!(slow.land(0), meanwhile);
        assert_eq!(ended, Ended::Landed);
        rig.audit(0).await;
    });
}

#[test]
fn partitions_claimed_together_share_their_lists() {
    run(async {
        let rig = Rig::new(8);
        // One lists already while the others read and wait.
        rig.store
            .plan(Kind::List, 1, Fault::Slow(Duration::from_secs(5)));
        let member = rig.member();
        tokio::join!(
            member.claim(0),
            member.claim(1),
            member.claim(2),
            member.claim(3),
            member.claim(4)
        );
        let lists = rig.store.seen()[&Kind::List];
        // Two folders of objects, the topic's checkpoints and all groups': each by the first, and
        // once more for the rest.
        assert!(lists <= 8 + 2, "{lists} lists for five partitions");
    });
}

#[test]
fn two_groups_that_start_at_once_in_one_folder_do_not_both_land() {
    run(async {
        let ours = Rig::new(8);
        let mut theirs = Rig::new(8);
        theirs.config.kafka.group = "other".into();
        ours.store.plan(Kind::CheckpointCreate, 1, Fault::HeldAfter);
        let first = ours.member();
        let second = theirs.member_on(ours.witness.clone());
        let meanwhile = async {
            ours.store.until_held().await;
            let cause = stopped(second.land(0).await);
            assert!(cause.contains("checkpoints/demo/t/0.json"), "{cause}");
            ours.store.release();
        };
        let (ended, ()) = tokio::join!(first.land(0), meanwhile);
        let cause = stopped(ended);
        assert!(cause.contains("another group lands this topic"), "{cause}");
        assert_eq!(
            ours.witness.keys("parquet_files").await,
            Vec::<String>::new()
        );
    });
}

#[test]
fn blocks_of_an_ended_claim_land_nowhere() {
    run(async {
        let rig = Rig::new(8);
        let member = rig.member();
        let (old, _) = landing(member.claim(0).await);
        member.release(0).await;
        let (new, from) = landing(member.claim(0).await);
        assert!(new.epoch > old.epoch);
        let before = rig.witness.checkpoint(0).await;
        member.send(member.block(old, 0, 8, None)).await;
        assert_eq!(rig.witness.checkpoint(0).await, before);
        assert!(member.claims.is_current(new));

        member.send(member.block(new, from, 8, None)).await;
        assert_eq!(member.end_of(new).await, None);
        rig.audit(0).await;
    });
}

#[test]
fn who_is_fenced_drops_what_it_has_and_claims_again_after_a_jitter() {
    run(async {
        let rig = Rig::new(8);
        let (older, newer) = (rig.member(), rig.member());
        let (claim, from) = landing(older.claim(0).await);
        let (winner, _) = landing(newer.claim(0).await);
        older.send(older.block(claim, from, 8, None)).await;
        let after = older.end_of(claim).await.expect("it claims again");
        assert!((2.0..4.0).contains(&after.as_secs_f64()), "{after:?}");
        assert_eq!(
            rig.witness.keys("parquet_files").await,
            Vec::<String>::new()
        );
        newer.send(newer.block(winner, 0, 8, None)).await;
        assert_eq!(newer.end_of(winner).await, None);
        // It claims while nobody else writes, and finds all done.
        assert_eq!(older.land(0).await, Ended::Landed);
        rig.audit(0).await;
    });
}

/// What lies under a key: its offsets, columns and bytes.
async fn object(rig: &Rig, key: &str) -> Bytes {
    rig.witness.get(key).await.unwrap().body
}

/// A member that dies when its first batch is begun and nothing of it is uploaded.
async fn dies_after_begin(rig: &Rig) -> Vec<String> {
    rig.store.plan(Kind::ObjectCreate, 1, Fault::HeldBefore);
    dies_when_held(rig).await
}

async fn dies_when_held(rig: &Rig) -> Vec<String> {
    let member = rig.member();
    tokio::select! {
        ended = member.land(0) => panic!("{ended:?}"),
        () = rig.store.until_held() => {}
    }
    member.kill().await;
    rig.store.release();
    rig.witness
        .checkpoint(0)
        .await
        .unwrap()
        .pending
        .unwrap()
        .keys
}

#[test]
fn a_replay_under_another_configuration_makes_the_very_same_objects() {
    run(async {
        let undisturbed = Rig::new(8);
        assert_eq!(undisturbed.member().land(0).await, Ended::Landed);

        let mut rig = Rig::new(8);
        let keys = dies_after_begin(&rig).await;
        rig.config.store.data = "elsewhere".into();
        rig.config.store.dead_letters = "dead_elsewhere".into();
        rig.config.files.partition_by = vec![PartitionUnit::Date, PartitionUnit::Hour];
        rig.config.files.max_rows = 2;
        rig.config.table.extra = true;
        rig.config.table.columns[0].kind = ColumnType::Float64;
        assert_eq!(rig.member().land(0).await, Ended::Landed);
        assert!(keys.len() > 2, "several folders: {keys:?}");
        for key in &keys {
            let same = object(&rig, key).await == object(&undisturbed, key).await;
            assert!(same, "{key} is byte for byte as it was begun");
        }
        let checkpoint = rig.witness.checkpoint(0).await.unwrap();
        let roots: Vec<_> = checkpoint
            .roots
            .iter()
            .map(|root| (root.from_offset, &*root.data))
            .collect();
        assert_eq!(roots, [(0, "parquet_files"), (5, "elsewhere")]);
        assert_eq!(checkpoint.roots[0].columns[0].kind, "int64");
        assert_eq!(checkpoint.columns[0].kind, "float64");
        rig.audit(0).await;
    });
}

#[test]
fn an_object_of_somebody_elses_under_a_listed_key_stops_the_partition_until_it_is_gone() {
    run(async {
        let rig = Rig::new(8);
        let keys = dies_after_begin(&rig).await;
        let absent = Some(Condition::Absent);
        rig.witness
            .put(&keys[0], Bytes::from_static(b"theirs"), absent)
            .await
            .unwrap();
        let cause = stopped(rig.member().land(0).await);
        assert!(
            cause.contains(&keys[0]) && cause.contains("move it away"),
            "{cause}"
        );
        let held = rig.witness.checkpoint(0).await.unwrap();
        assert_eq!(held.stopped.map(|stopped| stopped.cause), Some(cause));
        assert_eq!(object(&rig, &keys[0]).await, "theirs");
        rig.witness.delete(&keys[0]).await.unwrap();
        assert_eq!(rig.member().land(0).await, Ended::Landed);
        rig.audit(0).await;
    });
}

#[test]
fn records_compacted_away_after_their_batch_was_begun_stop_nothing() {
    run(async {
        let rig = Rig::new(8);
        // The first data key is there, the second is not.
        rig.store.plan(Kind::ObjectCreate, 2, Fault::HeldBefore);
        let keys = dies_when_held(&rig).await;
        let (_, first) = read_back(object(&rig, &keys[0]).await).unwrap();
        let compacted = (0..5).find(|offset| !first.contains(*offset) && offset % 5 != 3);
        let compacted = compacted.expect("a row of the second key");
        rig.kafka.state().records[compacted as usize] = None;
        assert_eq!(rig.member().land(0).await, Ended::Landed);
        let footers = rig.audit(0).await;
        let gap = footers[keys.last().unwrap()]
            .file
            .gap
            .expect("it is recorded");
        assert!((gap[0]..gap[1]).contains(&compacted), "{gap:?}");
    });
}

/// A server that says of a key that it exists, and that it does not.
#[test]
fn a_key_that_is_neither_there_nor_free_is_not_asked_for_without_a_pause() {
    run(async {
        let rig = Rig::new(3);
        for occurrence in 1..=20 {
            let fault = Fault::Before(StoreError::Precondition);
            rig.store.plan(Kind::ObjectCreate, occurrence, fault);
        }
        let began = tokio::time::Instant::now();
        assert_eq!(rig.member().land(0).await, Ended::Landed);
        assert!(
            began.elapsed() > Duration::from_secs(60),
            "{:?}",
            began.elapsed()
        );
        rig.audit(0).await;
    });
}

#[test]
fn holes_at_the_end_move_the_checkpoint_but_not_the_next_batch() {
    run(async {
        let rig = Rig::new(8);
        assert_eq!(rig.member().land(0).await, Ended::Landed);
        rig.kafka.state().records.extend([None, None]);
        let member = rig.member();
        assert_eq!(member.land(0).await, Ended::Landed);
        let held = rig.witness.checkpoint(0).await.unwrap();
        assert_eq!((held.next_offset, held.holes_to), (8, 10));
        let (claim, from) = landing(member.claim(0).await);
        assert_eq!(from, 10);
        rig.kafka.fill_to(13);
        member.send(member.block(claim, from, 13, None)).await;
        assert_eq!(member.end_of(claim).await, None);
        let footers = rig.audit(0).await;
        assert!(footers.values().any(|footer| footer.batch.start == 8));
    });
}

#[test]
fn a_checkpoint_of_nothing_but_its_claim_reads_back() {
    run(async {
        let rig = Rig::new(0);
        landing(rig.member().claim(0).await);
        let held = rig.witness.checkpoint(0).await.unwrap();
        let body = rig
            .witness
            .get("checkpoints/demo/t/0.json")
            .await
            .unwrap()
            .body;
        assert_eq!(encode(&held), body);
    });
}

/// Both partitions begin a batch and die before anything of it is uploaded.
async fn two_die_after_begin(rig: &Rig) {
    for occurrence in [1, 2] {
        rig.store
            .plan(Kind::ObjectCreate, occurrence, Fault::HeldBefore);
    }
    let member = rig.member();
    let both_held = async {
        while rig.store.fired() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        ended = async { tokio::join!(member.land(0), member.land(1)) } => panic!("{ended:?}"),
        () = both_held => {}
    }
    member.kill().await;
    rig.store.release();
}

#[test]
fn replays_run_one_at_a_time() {
    run(async {
        let rig = Rig::new(8);
        two_die_after_begin(&rig).await;
        let member = rig.member();
        let ClaimAnswer::Replay {
            claim,
            end,
            layout,
            forced,
            ..
        } = member.claim(0).await
        else {
            panic!("no replay");
        };
        let mut second = std::pin::pin!(member.claim(1));
        let waited = tokio::time::timeout(Duration::from_secs(5), &mut second).await;
        assert!(waited.is_err(), "{waited:?}");
        // Only replays wait.
        landing(member.claim(2).await);
        member
            .send(member.block(claim, 0, end, Some((layout, forced))))
            .await;
        assert_eq!(member.end_of(claim).await, Some(Duration::ZERO));
        let ClaimAnswer::Replay { claim, .. } = second.await else {
            panic!("no replay");
        };
        member.release(claim.partition).await;
        let (first, second) = tokio::join!(member.land(0), member.land(1));
        assert_eq!((first, second), (Ended::Landed, Ended::Landed));
        rig.audit(0).await;
        rig.audit(1).await;
    });
}

#[test]
fn a_replay_that_gets_nothing_from_kafka_does_not_hold_up_the_others_for_ever() {
    run(async {
        let rig = Rig::new(8);
        two_die_after_begin(&rig).await;
        let member = rig.member();
        let ClaimAnswer::Replay { claim, .. } = member.claim(0).await else {
            panic!("no replay");
        };
        assert_eq!(member.land(1).await, Ended::Landed);
        assert!(member.claims.is_current(claim));
        rig.audit(1).await;
    });
}

/// A loss that reaches behind the range that was begun: what is left of it is landed, the word is
/// asked for once, and it passes all of it.
#[test]
fn one_word_passes_a_loss_within_a_begun_range_and_behind_it() {
    run(async {
        let mut rig = Rig::new(14);
        let keys = dies_after_begin(&rig).await;
        rig.kafka.state().low = 8;
        let cause = stopped(rig.member().land(0).await);
        assert!(cause.contains("first_offset = 0"), "{cause}");
        let held = rig.witness.checkpoint(0).await.unwrap();
        assert_eq!((held.next_offset, held.pending.unwrap().gap), (0, None));
        let dead_letters = keys.last().unwrap();
        for key in &keys {
            let is_there = rig.witness.head(key).await.is_ok();
            assert_eq!(is_there, key != dead_letters, "{key}");
        }
        for (first_offset, lands) in [(5, false), (0, true)] {
            rig.config.skip = vec![Skip {
                topic: "t".into(),
                partition: 0,
                first_offset,
            }];
            let ended = rig.member().land(0).await;
            assert_eq!(ended == Ended::Landed, lands, "{first_offset}: {ended:?}");
        }
        let footers = rig.audit(0).await;
        assert_eq!(footers[dead_letters].file.gap, Some([0, 5]));
        let behind = footers.values().find(|footer| footer.batch.start == 5);
        assert_eq!(behind.unwrap().file.gap, Some([5, 8]));
    });
}

#[test]
fn a_piece_of_work_that_hangs_is_seen_while_another_waits_for_the_store() {
    run_alone(async {
        let rig = Rig::new(8);
        rig.store.plan(Kind::Get, 2, Fault::HeldBefore);
        let member = rig.member();
        let (other, _) = landing(member.claim(1).await);
        let actors = member.status.group("landing").actors();
        let checkpoint = actors.into_iter().find(|(name, _)| *name == "checkpoint");
        let (_, pulse) = checkpoint.unwrap();
        let hangs = async {
            rig.store.until_held().await;
            assert_eq!(pulse.waits_for(), "the store's checkpoints");
            assert!(!pulse.is_hung(Duration::ZERO), "what waits does not hang");
            fault::plan("hand-command:before=hang");
            member.send(member.block(other, 0, 8, None)).await;
            let seen = async {
                while !pulse.is_hung(Duration::from_millis(5)) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            seen.await;
        };
        tokio::select! {
            answer = member.claim(0) => panic!("{answer:?}"),
            () = hangs => {}
        }
    });
}
