//! A password that is changed in Kafka and in its file takes effect at a reload.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::{Member, Stream, until};
use crate::secure::{Secure, told};

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
