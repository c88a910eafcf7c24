//! `groundtrack adopt`: checkpoints for a group that does not begin at nothing.
//!
//! [`take_over`] goes on where a Spark Structured Streaming job ended: [`spark`] reads what the
//! job left, [`takeover`] decides. [`from_files()`] rebuilds lost checkpoints from the footers of our
//! own files: [`rebuild`] decides. Both only ever create checkpoints, and may be run again after
//! a crash half-way. [`watch`] finds out whether somebody still writes.

pub mod asked;
pub mod from_files;
pub mod ours;
pub mod place;
pub mod rebuild;
pub mod report;
pub mod spark;
pub mod takeover;
pub mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

pub use self::from_files::{Rebuilding, from_files};
pub use self::place::Place;
pub use self::report::Report;

use self::asked::Asked;
use self::ours::Ours;
use self::spark::job::{Folders, Job};
use self::takeover::{Evidence, Plan, Terms};
use self::watch::Patience;
use crate::config::Config;
use crate::landing::broker::{Broker, TopicView};
use crate::landing::layout::Layout;
use crate::landing::protocol::Now;
use crate::landing::protocol::keys::Names;
use crate::status::now_ms;
use crate::store::SharedStore;

/// Why nothing was found out, or nothing may be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// All that is wrong, each with how to go on.
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
    /// Kafka or a store did not answer, or refused.
    #[error("{0}")]
    Unanswered(String),
}

impl Error {
    fn refused(why: impl Into<String>) -> Self {
        Self::Refused(vec![why.into()])
    }
}

/// What a takeover is asked for.
#[derive(Debug, Clone)]
pub struct Takeover {
    /// The job's checkpoint folder.
    pub checkpoint: Place,
    /// The folder of its files; `None`: looked for beside the checkpoint folder.
    pub sink: Option<Place>,
    /// The operator's word that it has ended: its last write may be recent.
    pub is_stopped: bool,
    /// Only find out what would be done.
    pub dry_run: bool,
    /// [`watch::QUIET`], or less in tests.
    pub quiet: Duration,
}

/// Makes the group's checkpoints where the job ended. What goes on meanwhile is told to `say`.
///
/// # Errors
/// [`Error`] where not even a table could be made; else the report has the refusals.
pub async fn take_over(
    config: &Config,
    store: SharedStore,
    broker: &dyn Broker,
    asked: &Takeover,
    say: &dyn Fn(&str),
) -> Result<Report, Error> {
    let ours = Ours {
        asked: Asked::new(store),
        names: Names::of(config),
    };
    let folders = Folders::find(&asked.checkpoint, asked.sink.as_ref(), &config.store).await?;
    let job = folders.read(&ours.names.topic).await?;
    let (topic, logs) = ask_kafka(broker, &ours.names.topic).await?;
    let now = Now::at(now_ms());
    let mut plan = decide(config, &ours, &job, &topic, &logs, &now).await?;
    if plan.refusals.is_empty() {
        plan.refusals
            .extend(still_writes(&folders, &job, asked, say).await?);
    }
    let mut made = 0;
    if plan.refusals.is_empty() && !asked.dry_run {
        made = make(&ours, &folders, &job, &mut plan).await?;
    }
    Ok(Report::of_takeover(
        &folders,
        job,
        plan,
        &ours.names,
        asked.dry_run,
        made,
    ))
}

async fn decide(
    config: &Config,
    ours: &Ours,
    job: &Job,
    topic: &TopicView,
    logs: &BTreeMap<i32, (i64, i64)>,
    now: &Now,
) -> Result<Plan, Error> {
    let layout = Layout::of(config);
    let skips = config.skip.iter();
    let skips: Vec<(i32, i64)> = skips
        .filter(|skip| skip.topic == ours.names.topic)
        .map(|skip| (skip.partition, skip.first_offset))
        .collect();
    let (existing, objects) = (ours.checkpoints().await?, ours.objects().await?);
    let folder_with_sink_log = ours.folder_with_sink_log().await?;
    let evidence = Evidence {
        job,
        topic,
        logs,
        existing: &existing,
        objects: &objects,
        folder_with_sink_log: folder_with_sink_log.as_deref(),
    };
    let terms = Terms {
        names: &ours.names,
        layout: &layout,
        skips: &skips,
        writer: &writer(),
    };
    Ok(takeover::plan(&evidence, &terms, now))
}

/// Unique for each run, so that no two runs ever write the same bytes.
fn writer() -> String {
    format!("adopt-{:016x}", fastrand::u64(..))
}

async fn ask_kafka(
    broker: &dyn Broker,
    name: &str,
) -> Result<(TopicView, BTreeMap<i32, (i64, i64)>), Error> {
    let unanswered = |error: &dyn std::fmt::Display| {
        Error::Unanswered(format!(
            "kafka: {error}; `groundtrack check` tells what is wrong"
        ))
    };
    let topic = broker.topic().await.map_err(|error| unanswered(&error))?;
    let topic = topic.ok_or_else(|| Error::refused(format!("topic {name} does not exist")))?;
    let mut logs = BTreeMap::new();
    for partition in 0..topic.partitions {
        let log = broker.watermarks(partition).await;
        logs.insert(partition, log.map_err(|error| unanswered(&error))?);
    }
    Ok((topic, logs))
}

/// Why the job cannot be taken for ended.
async fn still_writes(
    folders: &Folders,
    job: &Job,
    asked: &Takeover,
    say: &dyn Fn(&str),
) -> Result<Option<String>, Error> {
    let newest_ms = watch::newest_ms(&job.seen).filter(|_| !asked.is_stopped);
    let pause = match watch::patience(newest_ms, now_ms(), job.interval, asked.quiet) {
        Patience::LookAgain(pause) => pause,
        Patience::TooSeldom { age, interval } => {
            return Ok(Some(format!(
                "the job wrote {} s ago, and a batch every {} s before: it may still run; stop it, \
                 and give --job-stopped, or come back {} s later",
                age.as_secs(),
                interval.as_secs(),
                (2 * interval).saturating_sub(age).as_secs() + 1
            )));
        }
    };
    if pause > watch::LOOK_AGAIN {
        say(&format!(
            "the job's last write is less than {} s old: watching for {} s whether it still writes",
            asked.quiet.as_secs(),
            pause.as_secs()
        ));
    }
    tokio::time::sleep(pause).await;
    let seen = folders.look().await?;
    Ok(watch::changed(&job.seen, &seen).map(|what| {
        format!("the job still writes ({what} has changed while we looked): stop it, then adopt")
    }))
}

/// Creates the planned checkpoints; says how many. Others that appeared meanwhile, or a job that
/// was started again, become refusals.
async fn make(ours: &Ours, folders: &Folders, job: &Job, plan: &mut Plan) -> Result<usize, Error> {
    let mut made = 0;
    for (partition, checkpoint) in &plan.make {
        if ours.create(*partition, checkpoint).await? {
            made += 1;
        } else {
            plan.refusals.push(format!(
                "{} was made by somebody else meanwhile: stop what runs as group {}, then adopt \
                 again, which finds out whether they fit together",
                ours.names.checkpoint(*partition),
                ours.names.group
            ));
        }
    }
    let seen = folders.look().await?;
    if let Some(what) = watch::changed(&job.seen, &seen) {
        plan.refusals.push(format!(
            "the job was started again meanwhile ({what} has changed): stop it, delete {} before \
             groundtrack runs, and adopt again",
            ours.names.checkpoints_of_topic()
        ));
    }
    Ok(made)
}
