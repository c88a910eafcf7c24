//! The rendered text, as a person sees it.

use super::*;
use crate::status::snapshot::{ActorSnapshot, FileSnapshot, OpenSnapshot, TroubleSnapshot};

const NOW_MS: i64 = 1_795_000_000_000;

fn actor(name: &'static str, waits_for: Option<&'static str>) -> ActorSnapshot {
    ActorSnapshot {
        name: name.into(),
        waits_for: waits_for.map(Into::into),
        silent_ms: 2_000,
        beats: 7,
    }
}

fn group(name: &'static str, actors: &[(&'static str, &'static str)]) -> GroupSnapshot {
    GroupSnapshot {
        name: name.into(),
        running: true,
        generation: 1,
        restarts: 0,
        last_failure: None,
        actors: actors
            .iter()
            .map(|(name, waits)| {
                actor(name, Some(waits).filter(|waits| !waits.is_empty()).copied())
            })
            .collect(),
    }
}

fn partition(topic: &str, number: i32) -> PartitionSnapshot {
    let key = format!(
        "parquet_files/date=2026-11-18/{topic}-{number:05}-00000000000000000000-00000000000000000999.parquet"
    );
    PartitionSnapshot {
        topic: topic.to_owned(),
        partition: number,
        state: "landing".into(),
        cause: None,
        remedy: None,
        next_offset: Some(1_000),
        position: Some(1_012),
        log_start: Some(0),
        log_end: Some(1_012),
        lag_records: Some(12),
        lag_s: Some(4.2),
        held_back_records: Some(0),
        retention_left_s: None,
        behind_since_ms: Some(NOW_MS - 4_000),
        records_landed: 1_000,
        dead_letters: 1,
        landed_at_ms: Some(NOW_MS - 65_000),
        open: Some(OpenSnapshot {
            rows: 12,
            bytes: 2_048,
            since_ms: NOW_MS - 4_000,
        }),
        last_file: Some(FileSnapshot {
            key,
            rows: 1_000,
            bytes: 12_345,
            landed_at_ms: NOW_MS - 65_000,
        }),
    }
}

fn snapshot(partitions: Vec<PartitionSnapshot>) -> Snapshot {
    Snapshot {
        version: "0.1.0".into(),
        pid: 4711,
        config_file: Some("/etc/groundtrack/groundtrack.toml".to_owned()),
        health: Health::Healthy,
        unhealthy: Vec::new(),
        time_ms: NOW_MS,
        uptime_s: 11_520,
        web: Some("127.0.0.1:9000".to_owned()),
        groups: vec![
            group("control", &[("socket", "requests")]),
            group(
                "ingest",
                &[("poller", "the next poll"), ("publisher", "samples")],
            ),
            group(
                "landing",
                &[
                    ("accumulator", "rows"),
                    ("checkpoint", "claims"),
                    ("flattener", ""),
                    ("subscriber", "records"),
                    ("uploader", "batches"),
                ],
            ),
            group("web", &[("page", "requests")]),
        ],
        last_file: partitions.first().and_then(|one| one.last_file.clone()),
        partitions,
        budget_held_bytes: 12_900_000,
        troubles: Vec::new(),
        needs_restart: Vec::new(),
    }
}

fn trouble(place: &str, text: &str, unhealthy: bool) -> TroubleSnapshot {
    TroubleSnapshot {
        place: place.to_owned(),
        text: text.to_owned(),
        remedy: crate::status::remedy::of_trouble(place).to_owned(),
        since_ms: NOW_MS - 200_000,
        unhealthy,
    }
}

/// What [`render`] gives, after looking that it fits.
fn shown(snapshot: &Snapshot, size: Size) -> String {
    let text = render(snapshot, size);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() < size.lines, "{} lines:\n{text}", lines.len());
    for line in lines {
        assert!(
            width(line) <= size.columns,
            "{} columns: {line}\n{text}",
            width(line)
        );
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    assert!(text.ends_with('\n'));
    text
}

fn four() -> Vec<PartitionSnapshot> {
    (0..4)
        .map(|number| partition("project_topic", number))
        .collect()
}

#[test]
fn four_healthy_partitions_fit_a_small_terminal() {
    let text = shown(&snapshot(four()), Size::default());
    let expected = "\
groundtrack 0.1.0 is healthy
pid 4711, up 3h12m, /etc/groundtrack/groundtrack.toml, page 127.0.0.1:9000
landed 4000 records (4 dead letters); lag 48 records, 4s; 12.3MiB in flight
last file 1m05s ago, 1000 rows, 12.0KiB: parquet_files~00000000000000999.parquet

GROUP    STATE     GEN  FAILED  ACTORS, and what each waits for
control  runs        1       0  socket: requests
ingest   runs        1       0  poller: the next poll, publisher: samples
landing  runs        1       0  flattener works 2s, accumulator: rows,
                                checkpoint: claims, subscriber: records,
                                uploader: batches
web      runs        1       0  page: requests

PARTITION        STATE        LAG BEHIND   OPEN    SIZE    AGE LANDED
project_topic 0  landing       12     4s     12  2.0KiB     4s  1m05s
project_topic 1  landing       12     4s     12  2.0KiB     4s  1m05s
project_topic 2  landing       12     4s     12  2.0KiB     4s  1m05s
project_topic 3  landing       12     4s     12  2.0KiB     4s  1m05s
";
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn what_is_wrong_comes_first_with_what_to_do_and_all_still_fits() {
    let mut snapshot = snapshot(four());
    snapshot.health = Health::Unhealthy;
    let stopped = &mut snapshot.partitions[2];
    stopped.state = "stopped".into();
    let gap = crate::landing::protocol::words::gap("project_topic", 2, 90, [100, 120]);
    stopped.remedy = Some(crate::status::remedy::of_stopped(&gap).to_owned());
    stopped.cause = Some(gap);
    snapshot.troubles = vec![
        trouble(
            "source frozen",
            "the source has answered with the same timestamp for 70 s",
            false,
        ),
        trouble(
            "the store",
            "writing an object: connection refused; asked again until it answers",
            false,
        ),
    ];
    let text = shown(&snapshot, Size::default());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "groundtrack 0.1.0 is unhealthy");
    assert!(
        lines[5].starts_with("!! partition 2 of project_topic is stopped: gap: "),
        "{text}"
    );
    for part in [
        "[[skip]]",
        "first_offset = 90",
        "-> the lost records are gone",
        "and 2 more",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(text.contains("project_topic 3"), "{text}");
    let text = shown(
        &snapshot,
        Size {
            columns: 120,
            lines: 40,
        },
    );
    for part in [
        "! the store",
        "!  the store (3m20s): writing",
        "source frozen",
    ] {
        assert!(
            text.contains(part.trim_start_matches("! ")),
            "{part}\n{text}"
        );
    }
}

#[test]
fn four_hundred_partitions_fold_with_the_worst_first() {
    let mut all: Vec<_> = (0..400)
        .map(|number| partition("project_topic", number))
        .collect();
    all[377].state = "stopped".into();
    all[377].cause = Some("gap: gone".to_owned());
    all[377].remedy = Some("add the word".to_owned());
    all[250].lag_s = Some(7_200.0);
    all[251].lag_records = Some(9_000_000);
    for one in &mut all[300..350] {
        one.state = "not_ours".into();
    }
    let snapshot = snapshot(all);
    let text = shown(&snapshot, Size::default());
    let table: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("PARTITION"))
        .collect();
    assert!(table[1].starts_with("project_topic 377  stopped"), "{text}");
    assert!(
        table[2].starts_with("project_topic 250  landing       12  2h00m"),
        "{text}"
    );
    assert!(
        table[3].starts_with("project_topic 251  landing     9.0M"),
        "{text}"
    );
    let last = table.last().unwrap();
    let rest = 400 - (table.len() - 2);
    assert!(last.starts_with(&format!("and {rest} more: ")), "{text}");
    assert!(last.contains("50 not ours; lag "), "{text}");
    let text = shown(
        &snapshot,
        Size {
            columns: 200,
            lines: 500,
        },
    );
    assert_eq!(
        text.matches("project_topic ").count(),
        400 + 1,
        "all find room\n{text}"
    );
}

#[test]
fn hostile_and_long_names_stay_in_their_places() {
    let topic = "t".repeat(249);
    let mut all: Vec<_> = (0..4)
        .map(|number| partition(&topic, i32::MAX - number))
        .collect();
    for one in &mut all {
        one.state = "\u{1b}[31mlanding\n".into();
        one.lag_records = Some(i64::MAX);
        one.lag_s = Some(1e300);
        one.landed_at_ms = Some(i64::MIN);
        let file = one.last_file.as_mut().unwrap();
        file.key = format!("\u{202e}{}\u{1b}[2J\r\n", "\u{4e00}".repeat(400));
        file.rows = u64::MAX;
        file.bytes = u64::MAX;
    }
    all[0].cause = Some("x".repeat(5_000) + "\n\u{1b}[2J" + &"y\n".repeat(500));
    all[0].remedy = Some("do \u{9b}2J it".to_owned());
    let mut snapshot = snapshot(all);
    snapshot.config_file = Some("/".to_owned() + &"c\u{7}".repeat(300));
    snapshot.version = "9\n".repeat(90).into();
    snapshot.web = Some("w".repeat(200));
    snapshot.needs_restart = vec!["k\n".repeat(100)];
    snapshot.groups[0].name = "g\t".repeat(100).into();
    snapshot.groups[1].actors[0].waits_for = Some("\u{1b}]0;title\u{7}".repeat(50).into());
    snapshot.troubles = (0..50)
        .map(|number| {
            trouble(
                &format!("{number}\n").repeat(100),
                &"\u{202e}z".repeat(3_000),
                true,
            )
        })
        .collect();
    for (columns, lines) in [(80, 24), (40, 16), (132, 50), (250, 100)] {
        shown(&snapshot, Size { columns, lines });
    }
}

#[test]
fn a_process_that_has_just_started_is_shown_too() {
    let mut snapshot = snapshot(Vec::new());
    snapshot.groups.clear();
    let text = shown(&snapshot, Size::default());
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn a_key_that_needs_a_restart_is_named() {
    let mut snapshot = snapshot(four());
    snapshot.needs_restart = vec!["log.format".to_owned()];
    let text = shown(&snapshot, Size::default());
    assert!(
        text.contains("needs a restart of the service: log.format"),
        "{text}"
    );
}

#[test]
fn a_document_of_another_version_is_shown_as_far_as_it_is_known() {
    let mut document = serde_json::to_value(snapshot(four())).unwrap();
    let fields = document.as_object_mut().unwrap();
    for new in ["pid", "config_file", "needs_restart"] {
        fields.remove(new);
    }
    fields.insert("later".to_owned(), true.into());
    let read: Snapshot = serde_json::from_value(document).unwrap();
    assert!(shown(&read, Size::default()).contains("is healthy"));
}
