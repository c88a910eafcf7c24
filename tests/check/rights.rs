//! What is allowed: exactly what `--policy` prints, and each part of it missing in turn.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use super::place::{Found, Place, Written, variable};

/// Keys of MinIO's that may do what this policy says.
fn credentials(place: &Place, policy: &Value) -> BTreeMap<String, String> {
    let path = place.path().join("policy.json");
    std::fs::write(&path, policy.to_string()).unwrap();
    let output = Command::new("python3")
        .arg(variable("CONTROL"))
        .arg("credentials")
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A topic on the Kafka with access-control lists, made by its administrator.
fn with_topic(written: &Written) -> Place {
    let place = Place::new(written);
    place.administrate(&format!(
        "kafka-topics.sh --bootstrap-server {} --create --topic {} --partitions 2",
        variable("SECURE"),
        place.topic
    ));
    place
}

/// Produces as the administrator.
fn fill(place: &Place, records: usize) {
    let mut client = rdkafka::ClientConfig::new();
    client.set("bootstrap.servers", variable("SECURE"));
    super::common::Source::new(&place.topic, &client).fill(2, records);
}

fn land(place: &Place) {
    let output = place.run("run", &["--until-caught-up"]);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
}

#[test]
#[ignore = "needs kafka-secure and minio: tests/servers/servers.py run"]
fn with_exactly_what_policy_prints_the_service_lands_and_a_check_is_green() {
    let mut place = with_topic(&Written::secure("policy"));
    let all: Value = serde_json::from_str(&place.policy("--policy")).unwrap();
    let policy: Value = serde_json::from_str(&place.policy("--policy=iam")).unwrap();
    let acls = place.policy("--policy=acl");
    assert_eq!(all["iam"], policy);
    let lines: Vec<&str> = acls.lines().collect();
    assert_eq!(all["acl"], serde_json::json!(lines));

    place.environment = credentials(&place, &policy);
    // Not before it is allowed.
    assert_eq!(place.check().level("topic"), "fail");
    for line in lines {
        place.administrate(line);
    }
    place.check().assert_green();
    fill(&place, 300);
    land(&place);
    let found = place.check();
    found.assert_green();
    let group = found.text("group", "answer");
    assert!(group.contains("committed"), "{group}");
    assert!(place.run("verify", &[]).status.success());
}

#[test]
#[ignore = "needs kafka-secure and minio: tests/servers/servers.py run"]
fn each_right_of_kafkas_that_is_missing_is_named_with_the_command_that_grants_it() {
    let mut written = Written::secure("acl");
    // With a source, so that it publishes too.
    written.more = "[source]\nurl = \"http://127.0.0.1:9/\"".to_owned();
    let place = with_topic(&written);
    fill(&place, 10);
    let acls = place.policy("--policy=acl");
    for line in acls.lines() {
        place.administrate(line);
    }
    let well = |found: &Found| {
        let not_ok = found.not_ok();
        assert_eq!(not_ok, ["source"], "{:#}", found.0);
    };
    well(&place.check());
    for (operation, kind, item, level) in [
        ("Read", "topic", "read", "fail"),
        ("Write", "topic", "publish", "fail"),
        ("DescribeConfigs", "topic", "topic", "note"),
        ("Read", "group", "group", "fail"),
    ] {
        place.administrate(&format!(
            "kafka-acls.sh --bootstrap-server {} --remove --force --allow-principal \
             User:groundtrack --operation {operation} --{kind} {}",
            variable("SECURE"),
            place.topic
        ));
        let found = place.check();
        assert_eq!(found.level(item), level, "{:#}", found.0);
        let grant = match level {
            "fail" => {
                let answer = found.text(item, "answer");
                assert!(
                    answer.contains(&format!("lacks {operation} on the {kind}")),
                    "{answer}"
                );
                found.text(item, "command")
            }
            _ => acls.lines().next().unwrap().to_owned(),
        };
        place.administrate(&grant);
        well(&place.check());
    }
}

/// The policy without an action in one folder, or on the bucket.
fn without(policy: &Value, action: &str, folder: &str) -> Value {
    let mut policy = policy.clone();
    let statements = policy["Statement"].as_array_mut().unwrap();
    if action == "s3:ListBucket" {
        statements.retain(|statement| statement["Sid"] != "Listings");
        return policy;
    }
    let objects = statements.remove(0);
    for resource in objects["Resource"].as_array().unwrap() {
        let is_its = resource
            .as_str()
            .unwrap()
            .ends_with(&format!("/{folder}/*"));
        for one in ["s3:GetObject", "s3:PutObject"] {
            if !(is_its && one == action) {
                statements.push(serde_json::json!({
                    "Effect": "Allow", "Action": [one], "Resource": resource,
                }));
            }
        }
    }
    policy
}

#[test]
#[ignore = "needs kafka and minio: tests/servers/servers.py run"]
fn each_right_in_the_bucket_that_is_missing_is_named_with_the_line_that_grants_it() {
    let mut place = Place::new(&Written::plain("iam"));
    let policy: Value = serde_json::from_str(&place.policy("--policy=iam")).unwrap();
    let folders = [
        ("data", "parquet_files"),
        ("dead_letters", "dead_letters"),
        ("checkpoints", "checkpoints"),
    ];
    for (item, folder) in folders {
        for action in ["s3:ListBucket", "s3:GetObject", "s3:PutObject"] {
            let less = without(&policy, action, folder);
            place.environment = credentials(&place, &less);
            let found = place.check();
            assert_eq!(found.level(item), "fail", "{action}: {:#}", found.0);
            let answer = found.text(item, "answer");
            assert!(answer.contains(&format!("lack {action}")), "{answer}");
            let command = found.text(item, "command");
            for (other, _) in folders.iter().filter(|(other, _)| *other != item) {
                let expected = if action == "s3:ListBucket" {
                    "fail"
                } else {
                    "ok"
                };
                assert_eq!(found.level(other), expected, "{:#}", found.0);
            }
            // What it says to add is enough.
            let mut more = less.clone();
            let line: Value = serde_json::from_str(&command).unwrap();
            more["Statement"].as_array_mut().unwrap().push(line);
            place.environment = credentials(&place, &more);
            assert_eq!(place.check().level(item), "ok", "{command}");
        }
    }
}

#[test]
#[ignore = "needs kafka and minio: tests/servers/servers.py run"]
fn a_bucket_that_may_not_be_looked_at_is_said_and_no_failure() {
    let mut place = Place::new(&Written::plain("unseen"));
    let mut policy: Value = serde_json::from_str(&place.policy("--policy=iam")).unwrap();
    let statements = policy["Statement"].as_array_mut().unwrap();
    statements.retain(|statement| statement["Sid"] != "LookedAtByCheck");
    place.environment = credentials(&place, &policy);
    let found = place.check();
    assert_eq!(found.level("bucket"), "ok", "{:#}", found.0);
    assert_eq!(found.level("data"), "ok");
    assert_eq!(found.level("versions"), "note");
    let mend = found.text("versions", "mend");
    assert!(mend.contains("s3:GetBucketVersioning"), "{mend}");
}
