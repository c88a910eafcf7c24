//! Secrets that are changed while the service runs: a password of Kafka's at a reload, keys of S3 by
//! themselves.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::{Member, Rig, Stream, until};
use crate::secure::{Secure, told, variable};

const PARTITIONS: i32 = 2;

/// How often the password is changed.
fn rounds() -> usize {
    let told = std::env::var("GROUNDTRACK_TEST_ROTATIONS");
    told.map_or(3, |rounds| rounds.parse().unwrap())
}

fn reload(config: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_groundtrack"))
        .args(["reload", "--config"])
        .arg(config)
        .output()
        .unwrap()
}

/// Waits until everything has landed that was there when it was called.
fn wait_for_what_is_there(secure: &Secure) {
    for (partition, (_, end)) in secure.rig.watermarks() {
        let what = format!("partition {partition} to land up to {end}");
        until(&what, || {
            (secure.rig.landed_to(partition) >= end).then_some(())
        });
    }
}

#[test]
#[ignore = "needs real servers"]
fn a_changed_password_takes_effect_at_a_reload_and_nothing_is_lost() {
    let secure = Secure::new("scram-1", PARTITIONS);
    secure.set_password("first-password");
    let socket = secure.rig.folder.path().join("socket");
    let config = secure.config(
        "service",
        &format!(
            "{}[files]\nmax_rows = 700\nmax_age = \"500ms\"\n[store]\nurl = \"file://{}\"\n\
             [web]\nlisten = \"127.0.0.1:0\"\n[status]\nsocket = {socket:?}\n[log]\nformat = \"json\"\n",
            secure.kafka(),
            secure.rig.store().display(),
        ),
    );
    let environment = [("CREDENTIALS_DIRECTORY", secure.directory())];
    let service = Member::start_in(&config, &[], &environment);
    let stream = Stream::start(&secure.rig, PARTITIONS);
    service.wait_for("file landed", 2);
    for round in 1..=rounds() {
        // A file that is wrong for a while: its consumer is refused, waits, and says why.
        secure.write("password", "not-the-password");
        let applied = reload(&config);
        assert!(applied.status.success(), "{}", told(&applied));
        assert!(
            told(&applied).contains("landing restarted: kafka.options"),
            "{}",
            told(&applied)
        );
        until("the refusal to be told", || {
            let status = service.get("/api/status")?.to_string();
            status.contains("uthentication").then_some(())
        });
        let password = format!("password-of-round-{round}");
        secure.set_password(&password);
        let applied = reload(&config);
        assert!(applied.status.success(), "{}", told(&applied));
        wait_for_what_is_there(&secure);
        let text = service.text();
        for secret in ["first-password", "not-the-password", &password] {
            assert!(!text.contains(secret), "{secret} is in the log");
        }
        until("the end of the trouble", || {
            let status = service.get("/api/status")?.to_string();
            (!status.contains("uthentication")).then_some(())
        });
    }
    // Without a change nothing is restarted.
    let applied = reload(&config);
    assert!(
        told(&applied).contains("nothing has changed"),
        "{}",
        told(&applied)
    );
    stream.end();
    secure.rig.wait_until_landed();
    service.drain();
    secure.rig.audit_all();
}

#[test]
#[ignore = "needs real servers"]
fn rotated_keys_of_s3_are_taken_up_by_rusoto_and_nothing_is_lost() {
    keys_are_taken_up("rusoto");
}

#[test]
#[ignore = "needs real servers"]
fn rotated_keys_of_s3_are_taken_up_by_object_store_and_nothing_is_lost() {
    keys_are_taken_up("object_store");
}

/// Keys of S3 that are refused are a trouble that ends by itself once their file holds others:
/// without a reload, and whatever was read meanwhile lands.
fn keys_are_taken_up(client: &str) {
    let rig = Rig::on(variable("GROUNDTRACK_TEST_SECURE"), "keys", PARTITIONS);
    let path = rig.folder.path().join("aws");
    let write = |secret: &str| {
        let id = variable("AWS_ACCESS_KEY_ID");
        let text =
            format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
        std::fs::write(&path, text).unwrap();
    };
    let right = variable("AWS_SECRET_ACCESS_KEY");
    write("not-the-key");
    let config = rig.folder.path().join("service.toml");
    let text = format!(
        "[kafka]\nbrokers = [{:?}]\ntopic = {topic:?}\ngroup = {topic:?}\ninstance_id = \"\"\n\
         [kafka.options]\n\"session.timeout.ms\" = 6000\n[files]\nmax_age = \"500ms\"\n\
         [store]\nurl = \"s3://{}/{topic}\"\n[store.s3]\nendpoint = {:?}\npath_style = true\n\
         client = {client:?}\ncredentials_file = {path:?}\n[web]\nlisten = \"127.0.0.1:0\"\n\
         [status]\nsocket = {:?}\n[log]\nformat = \"json\"\n",
        rig.brokers,
        variable("GROUNDTRACK_TEST_BUCKET"),
        variable("GROUNDTRACK_TEST_MINIO"),
        rig.folder.path().join("socket"),
        topic = rig.topic,
    );
    std::fs::write(&config, text).unwrap();
    rig.producer().fill(PARTITIONS, 100);
    let service = Member::start(&config, &[], "");
    let refused = || {
        until("the refusal to be told", || {
            let status = service.get("/api/status")?.to_string();
            let is_told = status.contains("SignatureDoesNotMatch") && status.contains("[default]");
            is_told.then_some(())
        });
    };
    let landed = |end: i64| {
        until("the records to land", || {
            let next = |partition| service.partition_status(partition)?["next_offset"].as_i64();
            let is_there = (0..PARTITIONS).all(|partition| next(partition) >= Some(end));
            is_there.then_some(())
        });
    };
    refused();
    write(&right);
    landed(100);
    write("not-the-key");
    // The old ones hold until the file is read again, after a minute at most.
    let stream = Stream::start(&rig, PARTITIONS);
    refused();
    stream.end();
    write(&right);
    let end = rig.watermarks()[&0].1;
    landed(end);
    let text = service.text();
    assert!(!text.contains("not-the-key") && !text.contains(&right));
    service.drain();
    let proven = Command::new(env!("CARGO_BIN_EXE_groundtrack"))
        .args(["verify", "--topic", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert!(proven.status.success(), "{}", told(&proven));
}
