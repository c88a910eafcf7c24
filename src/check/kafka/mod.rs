//! Kafka: whether brokers answer and can be reached at the addresses that they give out, whether
//! the topic is there and keeps its records long enough, and what this user may do.
//!
//! A consumer asks that subscribes to nothing: it is no member of the group, whose name it needs to
//! ask for the offsets that the group has committed.

mod access;
mod brokers;
mod client;
mod clock;
mod group;
mod topic;

use std::sync::Arc;
use std::time::Instant;

use tokio::task::spawn_blocking;

use self::client::Asking;
use super::item::{Cut, Limit};
use super::{Finding, Item, Problem};
use crate::config::Config;

const BROKERS: &str = "brokers";
const TOPIC: &str = "topic";
const READ: &str = "read";
const PUBLISH: &str = "publish";
const GROUP: &str = "group";
const CLOCK: &str = "kafka clock";

/// What Kafka answered.
pub(super) struct Kafka {
    pub(super) items: Vec<Item>,
    /// Of the topic, where it exists.
    pub(super) partitions: Option<u64>,
}

pub(super) async fn ask(config: &Config, limit: &Limit) -> Kafka {
    let since = Instant::now();
    let asking = {
        let (kafka, limit) = (config.kafka.clone(), limit.clone());
        off_thread(limit.clone(), move || Asking::begin(&kafka, limit)).await
    };
    let (asking, view) = match asking {
        Ok(Ok(begun)) => begun,
        Ok(Err(problem)) | Err(problem) => return unasked(config, since, problem),
    };
    let asking = Arc::new(asking);
    let unreachable = brokers::unreachable(&view.brokers, limit).await;
    let brokers = Item::new(BROKERS, since, brokers::judge(&view, &unreachable));
    let partitions = match &view.topic {
        Ok(partitions) => partitions.clone(),
        Err(problem) => {
            let mut items = vec![brokers, Item::new(TOPIC, Instant::now(), problem.clone())];
            items.extend(
                rest(config).map(|name| Item::new(name, Instant::now(), Problem::not_asked(TOPIC))),
            );
            return Kafka {
                items,
                partitions: None,
            };
        }
    };
    let count = partitions.len();
    let partitions = Arc::new(partitions);
    let (topic, read, publish, group, clock) = tokio::join!(
        topic::ask(config, count, limit),
        one(READ, &asking, &partitions, access::read),
        publish(config, &asking, &partitions),
        one(GROUP, &asking, &partitions, group::ask),
        one(CLOCK, &asking, &partitions, clock::ask),
    );
    let mut items = vec![brokers, topic, read];
    items.extend(publish);
    items.extend([group, clock]);
    Kafka {
        items,
        partitions: Some(count as u64),
    }
}

async fn publish(
    config: &Config,
    asking: &Arc<Asking>,
    partitions: &Arc<Vec<client::Partition>>,
) -> Option<Item> {
    config.source.as_ref()?;
    Some(one(PUBLISH, asking, partitions, access::publish).await)
}

/// One question, on a thread of its own: librdkafka's calls block.
async fn one(
    name: &'static str,
    asking: &Arc<Asking>,
    partitions: &Arc<Vec<client::Partition>>,
    question: fn(&Asking, &[client::Partition]) -> Finding,
) -> Item {
    let since = Instant::now();
    let (its, partitions) = (asking.clone(), partitions.clone());
    let limit = asking.limit.clone();
    let finding = off_thread(limit, move || question(&its, &partitions)).await;
    Item::new(name, since, finding.unwrap_or_else(Finding::Wrong))
}

/// A thread that is still waiting when the time is over is left to itself: the process ends.
async fn off_thread<T: Send + 'static>(
    limit: Limit,
    question: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    match limit.wait(spawn_blocking(question)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(panic)) => Err(Problem::new(panic.to_string(), "report this")),
        Err(Cut::Stopped) => Err(Problem::interrupted()),
        Err(late) => {
            Err(late.problem(&limit, "kafka", "ask again later; look at the brokers' log"))
        }
    }
}

/// The items behind `topic`.
fn rest(config: &Config) -> impl Iterator<Item = &'static str> {
    let publish = config.source.is_some().then_some(PUBLISH);
    [READ].into_iter().chain(publish).chain([GROUP, CLOCK])
}

fn unasked(config: &Config, since: Instant, problem: Problem) -> Kafka {
    let mut items = vec![Item::new(BROKERS, since, problem)];
    items.extend(
        [TOPIC]
            .into_iter()
            .chain(rest(config))
            .map(|name| Item::new(name, Instant::now(), Problem::not_asked(BROKERS))),
    );
    Kafka {
        items,
        partitions: None,
    }
}

#[cfg(test)]
mod tests;
