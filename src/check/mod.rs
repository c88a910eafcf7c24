//! `groundtrack check`: whether what the configuration names is there and does what it must.
//!
//! Safe beside a running service: it asks Kafka through a client that is no consumer, so it joins
//! no group and has no `instance_id`, and what it puts into the store has names of its own and is
//! removed again. Every wait has a deadline.

mod bucket;
mod cost;
mod kafka;
mod report;
mod source;

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

pub use self::cost::Cost;
pub use self::report::Report;
use crate::config::Config;
use crate::store::{OpenError, SharedStore};

/// What was asked, what it answered, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// `configuration`, `source`, `brokers`, `topic`, `bucket` or `conditions`.
    pub name: &'static str,
    /// What it answered, or what is wrong and how to mend it.
    pub finding: Finding,
    /// How long that took.
    pub took: Duration,
}

/// What an item answered.
pub type Finding = Result<String, Problem>;

/// What is wrong, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What was answered, or that nothing was.
    pub answer: String,
    /// What the operator can do.
    pub mend: String,
}

impl Problem {
    fn new(answer: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            answer: answer.into(),
            mend: mend.into(),
        }
    }
}

impl Item {
    fn new(name: &'static str, since: Instant, finding: Finding) -> Self {
        Self {
            name,
            finding,
            took: since.elapsed(),
        }
    }
}

/// Asks everything that a valid configuration names. `store` is what
/// [`open`](crate::store::open) made of it. Cancelling `stop` ends it early, but not before the
/// store is tidy again.
pub async fn examine(
    config: &Config,
    store: Result<SharedStore, OpenError>,
    stop: &CancellationToken,
) -> Report {
    let (source, kafka, bucket) = tokio::join!(
        source::ask(config, stop),
        kafka::ask(config, stop),
        bucket::ask(&config.store, store, stop),
    );
    let partitions = kafka.partitions;
    let mut items = vec![source];
    items.extend(kafka.items);
    items.extend(bucket);
    Report {
        items,
        cost: Some(Cost::of(&config.files, partitions)),
    }
}

/// What an item says that was cut short.
fn interrupted() -> Finding {
    Err(Problem::new("interrupted", "run the check again"))
}
