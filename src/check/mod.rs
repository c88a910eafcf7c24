//! `groundtrack check`: whether what the configuration names is there and does what it must.
//!
//! Safe beside a running service: it subscribes to nothing, so it joins no group and has no
//! `instance_id`; what it commits to Kafka is what it has just read there; and what it puts into
//! a bucket depends on a version that no object has. Everything is asked side by side under one
//! deadline.

mod bucket;
mod closer;
mod cost;
mod diagnosis;
mod item;
mod kafka;
pub mod policy;
mod report;
mod source;
mod tls;

use tokio_util::sync::CancellationToken;

pub use self::cost::Cost;
use self::item::Limit;
pub use self::item::{Finding, Item, Problem};
pub use self::report::{Layout, Report};
use crate::config::Config;
use crate::store::{OpenError, SharedStore};

/// Asks everything that a valid configuration names, for less than ten seconds. `store` is what
/// [`open`](crate::store::open) made of it. Cancelling `stop` ends it early, but not before the
/// store is tidy again.
pub async fn examine(
    config: &Config,
    store: Result<SharedStore, OpenError>,
    stop: &CancellationToken,
) -> Report {
    let limit = Limit::from_now(stop.clone());
    let (source, kafka, bucket) = tokio::join!(
        source::ask(config, &limit),
        kafka::ask(config, &limit),
        bucket::ask(&config.store, store, &limit),
    );
    let partitions = kafka.partitions;
    let mut items = vec![source];
    items.extend(kafka.items);
    items.extend(bucket);
    Report {
        items,
        cost: Some(Cost::of(config, partitions)),
    }
}
