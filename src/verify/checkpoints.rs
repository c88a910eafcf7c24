//! The checkpoints of the group and topic, as they are now.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::inventory::{answered, each_page, listing::ListingError};
use crate::landing::ledger::decode;
use crate::landing::protocol::checkpoint::Checkpoint;
use crate::landing::protocol::keys::Names;
use crate::store::{ObjectStore, StoreError};

use super::READERS_MAX;

/// By partition; or why one cannot be read by this version. Held in memory: there is one small
/// object for each partition of the topic.
pub(super) type Checkpoints = BTreeMap<i32, Result<Checkpoint, String>>;

/// Reads all of them.
pub(super) async fn read(
    store: &dyn ObjectStore,
    names: &Names,
) -> Result<Checkpoints, ListingError> {
    let folder = names.checkpoints_of_topic();
    let mut partitions: Vec<i32> = Vec::new();
    each_page(store, &folder, |page| {
        let numbers = page.iter().filter_map(|object| {
            let name = object.key.strip_prefix(&folder)?.strip_suffix(".json")?;
            name.parse()
                .ok()
                .filter(|number: &i32| number.to_string() == name && *number >= 0)
        });
        partitions.extend(numbers);
        Ok(())
    })
    .await?;
    let read = stream::iter(partitions)
        .map(|partition| read_one(store, names, partition))
        .buffer_unordered(READERS_MAX)
        .try_filter_map(async |found| Ok(found));
    let all: Vec<_> = read.try_collect().await?;
    Ok(all.into_iter().collect())
}

/// `None`: it is gone since it was listed.
async fn read_one(
    store: &dyn ObjectStore,
    names: &Names,
    partition: i32,
) -> Result<Option<(i32, Result<Checkpoint, String>)>, StoreError> {
    let key = names.checkpoint(partition);
    match answered(async || store.get(&key).await).await {
        Ok(object) => Ok(Some((partition, decode(&object.body)))),
        Err(StoreError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
