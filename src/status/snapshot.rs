//! What is known about the process at one moment, as `/api/status` and `status --json` print it,
//! and whether that is well.

use std::borrow::Cow;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::remedy;
use super::{GroupStatus, LandedFile, PartitionState, PartitionStatus, Pulse, Status, now_ms};

/// All of it. Times are in milliseconds since 1970 UTC. It is read again by the command
/// `status`, also where a process of an older version wrote it: what is new has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Of this program.
    pub version: Cow<'static, str>,
    /// Of the process.
    #[serde(default)]
    pub pid: u32,
    /// The configuration file; `None`: there is none.
    #[serde(default)]
    pub config_file: Option<String>,
    /// In one word.
    pub health: Health,
    /// Why it is unhealthy, in plain words; empty: it is not.
    pub unhealthy: Vec<String>,
    /// When this was taken.
    pub time_ms: i64,
    /// How long the process has run.
    pub uptime_s: u64,
    /// Where the page listens.
    pub web: Option<String>,
    /// By name.
    pub groups: Vec<GroupSnapshot>,
    /// By topic and number.
    pub partitions: Vec<PartitionSnapshot>,
    /// Bytes in flight.
    pub budget_held_bytes: u64,
    /// The file that landed last.
    pub last_file: Option<FileSnapshot>,
    /// What is wrong now.
    pub troubles: Vec<TroubleSnapshot>,
    /// Keys of the configuration whose new value waits for a restart of the process.
    #[serde(default)]
    pub needs_restart: Vec<String>,
}

/// The process in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Nothing is wrong.
    Healthy,
    /// It lands, but something is wrong.
    Degraded,
    /// `/healthz` answers 503.
    Unhealthy,
}

/// One group of actors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupSnapshot {
    /// `ingest`, `landing`, `web` or `control`.
    pub name: Cow<'static, str>,
    /// Whether a generation runs.
    pub running: bool,
    /// Number of its current generation.
    pub generation: u64,
    /// Generations that ended though they should run.
    pub restarts: u64,
    /// Why the last of them did.
    pub last_failure: Option<String>,
    /// By name.
    pub actors: Vec<ActorSnapshot>,
}

/// One actor of a group's current generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActorSnapshot {
    /// Its name.
    pub name: Cow<'static, str>,
    /// `None`: it works.
    pub waits_for: Option<Cow<'static, str>>,
    /// Since it last made progress or began to wait.
    pub silent_ms: u64,
    /// Progress made so far.
    pub beats: u64,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionSnapshot {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// `not_ours`, `claiming`, `replaying`, `landing` or `stopped`.
    pub state: Cow<'static, str>,
    /// Why it is stopped, and how to go on.
    pub cause: Option<String>,
    /// Where it is stopped or behind: what to do, in short.
    #[serde(default)]
    pub remedy: Option<String>,
    /// The checkpoint's next offset.
    pub next_offset: Option<i64>,
    /// Where it is read.
    pub position: Option<i64>,
    /// First offset of the log.
    pub log_start: Option<i64>,
    /// Behind the last offset of the log.
    pub log_end: Option<i64>,
    /// Records of the log that have not landed.
    pub lag_records: Option<i64>,
    /// Age of the last record landed, while something is left to land; else 0.
    pub lag_s: Option<f64>,
    /// Offsets behind the log's end that wait for the end of an open transaction.
    pub held_back_records: Option<i64>,
    /// Until Kafka may delete the next record to land; `None`: nothing is left to land, or Kafka
    /// keeps it for ever, or that is not known.
    pub retention_left_s: Option<f64>,
    /// Since when something is to be landed and none of it is.
    pub behind_since_ms: Option<i64>,
    /// By this process.
    pub records_landed: u64,
    /// Of them, dead letters.
    pub dead_letters: u64,
    /// When something last landed.
    pub landed_at_ms: Option<i64>,
    /// The batch that is being filled.
    #[serde(default)]
    pub open: Option<OpenSnapshot>,
    /// Its file that landed last.
    #[serde(default)]
    pub last_file: Option<FileSnapshot>,
}

/// A batch that is being filled; most have one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenSnapshot {
    /// Records so far, dead letters included.
    pub rows: u64,
    /// Encoded so far.
    pub bytes: u64,
    /// When its first record was read.
    pub since_ms: i64,
}

/// A file that landed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileSnapshot {
    /// Its full key.
    pub key: String,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// When.
    pub landed_at_ms: i64,
}

impl FileSnapshot {
    /// The same of a file that landed.
    pub fn of(file: &LandedFile) -> Self {
        Self {
            key: file.key.clone(),
            rows: file.rows,
            bytes: file.bytes,
            landed_at_ms: file.landed_at_ms,
        }
    }
}

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TroubleSnapshot {
    /// Where.
    pub place: String,
    /// What.
    pub text: String,
    /// How to mend it.
    #[serde(default)]
    pub remedy: String,
    /// Since when.
    pub since_ms: i64,
    /// Whether `/healthz` answers 503 because of it.
    pub unhealthy: bool,
}

impl Status {
    /// What is known now. `max_age` is the age at which a file is closed: nothing landed for
    /// three times that, though there is something to land, is unhealthy.
    pub fn snapshot(&self, max_age: Duration) -> Snapshot {
        let time_ms = now_ms();
        self.note_lag(time_ms);
        let groups = self.groups().into_iter();
        let partitions = self.partitions().into_iter();
        let last_file = super::lock(&self.last_file).clone();
        let troubles = self.troubles().into_iter();
        let snapshot = Snapshot {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            config_file: self.config_file(),
            health: Health::Healthy,
            unhealthy: Vec::new(),
            time_ms,
            uptime_s: self.started().elapsed().as_secs(),
            web: self.web_address().map(|address| address.to_string()),
            groups: groups.map(|(name, group)| of_group(name, &group)).collect(),
            partitions: partitions
                .map(|((topic, number), state)| of_partition(topic, number, &state, time_ms))
                .collect(),
            budget_held_bytes: self.budget_held_bytes.load(Relaxed),
            last_file: last_file.as_ref().map(FileSnapshot::of),
            needs_restart: self.needs_restart(),
            troubles: troubles
                .map(|(place, trouble)| TroubleSnapshot {
                    remedy: remedy::of_trouble(&place).to_owned(),
                    place,
                    text: trouble.text,
                    since_ms: trouble.since_ms,
                    unhealthy: trouble.unhealthy,
                })
                .collect(),
        };
        snapshot.judged(max_age)
    }
}

impl Snapshot {
    fn judged(mut self, max_age: Duration) -> Self {
        self.unhealthy = self.why_unhealthy(max_age);
        let patience = max_age * 3;
        let time_ms = self.time_ms;
        for partition in &mut self.partitions {
            let cause = partition.cause.as_deref();
            let is_idle = idle_ms(partition, time_ms, patience).is_some();
            let idle = is_idle.then_some(remedy::OF_IDLE);
            let remedy = cause.map(remedy::of_stopped).or(idle);
            partition.remedy = remedy.map(str::to_owned);
        }
        self.health = if !self.unhealthy.is_empty() {
            Health::Unhealthy
        } else if self.troubles.is_empty() {
            Health::Healthy
        } else {
            Health::Degraded
        };
        self
    }

    fn why_unhealthy(&self, max_age: Duration) -> Vec<String> {
        let patience = max_age * 3;
        let stopped = self.partitions.iter().filter_map(|partition| {
            let cause = partition.cause.as_deref()?;
            Some(format!("{} is stopped: {cause}", name_of(partition)))
        });
        let idle = self.partitions.iter().filter_map(|partition| {
            let behind_ms = idle_ms(partition, self.time_ms, patience)?;
            Some(format!(
                "{} has {} records to land and landed none for {} s",
                name_of(partition),
                partition.lag_records.unwrap_or(0),
                behind_ms / 1000,
            ))
        });
        let troubles = self.troubles.iter().filter(|trouble| trouble.unhealthy);
        let troubles = troubles.map(|trouble| format!("{}: {}", trouble.place, trouble.text));
        stopped.chain(idle).chain(troubles).collect()
    }
}

/// For how long it has had something to land and landed none of it, where that is too long.
fn idle_ms(partition: &PartitionSnapshot, time_ms: i64, patience: Duration) -> Option<i64> {
    let behind_ms = time_ms.saturating_sub(partition.behind_since_ms?);
    (i128::from(behind_ms) > patience.as_millis() as i128).then_some(behind_ms)
}

fn name_of(partition: &PartitionSnapshot) -> String {
    format!("partition {} of {}", partition.partition, partition.topic)
}

fn of_group(name: &'static str, group: &GroupStatus) -> GroupSnapshot {
    let last_failure = super::lock(&group.last_failure).clone();
    let actors = group.actors().into_iter();
    GroupSnapshot {
        name: name.into(),
        running: group.running.load(Relaxed),
        generation: group.generation.load(Relaxed),
        restarts: group.restarts.load(Relaxed),
        last_failure: Some(last_failure).filter(|text| !text.is_empty()),
        actors: actors.map(|(name, pulse)| of_actor(name, &pulse)).collect(),
    }
}

fn of_actor(name: &'static str, pulse: &Pulse) -> ActorSnapshot {
    let waits_for = Some(pulse.waits_for()).filter(|reason| !reason.is_empty());
    ActorSnapshot {
        name: name.into(),
        waits_for: waits_for.map(Cow::from),
        silent_ms: pulse.silent_ms(),
        beats: pulse.beats.load(Relaxed),
    }
}

fn of_partition(
    topic: String,
    partition: i32,
    status: &PartitionStatus,
    time_ms: i64,
) -> PartitionSnapshot {
    let known = |value: i64| Some(value).filter(|value| *value >= 0);
    let time = |value: i64| Some(value).filter(|value| *value > 0);
    let (state, cause) = match status.state() {
        PartitionState::NotOurs => ("not_ours", None),
        PartitionState::Claiming => ("claiming", None),
        PartitionState::Replaying => ("replaying", None),
        PartitionState::Landing => ("landing", None),
        PartitionState::Stopped(cause) => ("stopped", Some(cause)),
    };
    let lag_records = status.lag_records();
    let last_timestamp_ms = time(status.last_timestamp_ms.load(Relaxed));
    let lag_s = match lag_records {
        Some(0) => Some(0.0),
        Some(_) => last_timestamp_ms.map(|at_ms| (time_ms - at_ms).max(0) as f64 / 1000.0),
        None => None,
    };
    PartitionSnapshot {
        topic,
        partition,
        state: state.into(),
        cause,
        remedy: None,
        next_offset: known(status.next_offset.load(Relaxed)),
        position: known(status.position.load(Relaxed)),
        log_start: known(status.log_start.load(Relaxed)),
        log_end: known(status.log_end.load(Relaxed)),
        lag_records,
        lag_s,
        held_back_records: status.held_back_records(),
        retention_left_s: time(status.kept_until_ms.load(Relaxed))
            .map(|until_ms| (until_ms - time_ms).max(0) as f64 / 1000.0),
        behind_since_ms: status.behind_since_ms(),
        records_landed: status.records_landed.load(Relaxed),
        dead_letters: status.dead_letters.load(Relaxed),
        landed_at_ms: time(status.landed_at_ms.load(Relaxed)),
        open: status.open().map(|open| OpenSnapshot {
            rows: open.rows,
            bytes: open.bytes,
            since_ms: open.since_ms,
        }),
        last_file: status.last_file().as_ref().map(FileSnapshot::of),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const MAX_AGE: Duration = Duration::from_secs(300);

    fn lagging(status: &Status) -> Arc<PartitionStatus> {
        let partition = status.partition("t", 0);
        *partition.state.lock().unwrap() = PartitionState::Landing;
        partition.next_offset.store(5, Relaxed);
        partition.log_end.store(8, Relaxed);
        partition
    }

    #[test]
    fn a_fresh_process_is_healthy() {
        let snapshot = Status::new().snapshot(MAX_AGE);
        assert_eq!(snapshot.health, Health::Healthy);
        assert_eq!(snapshot.unhealthy, [""; 0]);
    }

    #[test]
    fn what_an_open_transaction_holds_back_is_no_lag() {
        let status = Status::new();
        let partition = lagging(&status);
        assert_eq!(
            status.snapshot(MAX_AGE).partitions[0].held_back_records,
            None
        );
        partition.next_offset.store(8, Relaxed);
        partition.log_high.store(20, Relaxed);
        let snapshot = status.snapshot(MAX_AGE);
        assert_eq!(snapshot.partitions[0].held_back_records, Some(12));
        assert_eq!(snapshot.partitions[0].lag_records, Some(0));
    }

    #[test]
    fn a_stopped_partition_is_unhealthy_and_says_why() {
        let status = Status::new();
        let cause = PartitionState::Stopped("gap: 3 to 7 is gone".to_owned());
        *status.partition("t", 2).state.lock().unwrap() = cause;
        let snapshot = status.snapshot(MAX_AGE);
        assert_eq!(snapshot.health, Health::Unhealthy);
        assert_eq!(
            snapshot.unhealthy,
            ["partition 2 of t is stopped: gap: 3 to 7 is gone"]
        );
    }

    #[test]
    fn lag_alone_is_healthy_until_nothing_landed_for_three_times_the_age() {
        let status = Status::new();
        let partition = lagging(&status);
        let now = now_ms();
        status.note_lag(now - 899_000);
        assert_eq!(status.snapshot(MAX_AGE).health, Health::Healthy);

        let landed_part = 6;
        partition.next_offset.store(landed_part, Relaxed);
        status.note_lag(now - 901_000);
        let snapshot = status.snapshot(MAX_AGE);
        assert_eq!(
            snapshot.unhealthy,
            ["partition 0 of t has 2 records to land and landed none for 901 s"]
        );
    }

    #[test]
    fn a_record_after_a_silent_night_is_no_reason_to_be_unhealthy() {
        let status = Status::new();
        let partition = lagging(&status);
        partition.next_offset.store(8, Relaxed);
        partition.landed_at_ms.store(1, Relaxed);
        status.note_lag(now_ms() - 10_000_000);
        partition.log_end.store(9, Relaxed);
        assert_eq!(status.snapshot(MAX_AGE).health, Health::Healthy);
    }

    #[test]
    fn troubles_degrade_and_unhealthy_ones_are_said() {
        let status = Status::new();
        status.trouble("source", "it is frozen", false);
        assert_eq!(status.snapshot(MAX_AGE).health, Health::Degraded);
        status.trouble("topic", "it is gone", true);
        let snapshot = status.snapshot(MAX_AGE);
        assert_eq!(snapshot.health, Health::Unhealthy);
        assert_eq!(snapshot.unhealthy, ["topic: it is gone"]);
    }
}
