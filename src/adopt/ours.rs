//! Our side of a takeover: the group's checkpoints and objects in the configured store.

use std::collections::BTreeMap;

use super::Error;
use super::asked::Asked;
use super::spark::logs::SINK_LOG;
use crate::inventory::answered;
use crate::landing::ledger::{decode, encode};
use crate::landing::protocol::checkpoint::Checkpoint;
use crate::landing::protocol::keys::Names;
use crate::landing::protocol::swap::{Swap, SwapAction, SwapEvent, SwapOutcome};
use crate::store::Condition;

/// What lies under a checkpoint's key; `Err`: why it cannot be read.
pub type Existing = BTreeMap<i32, Result<Checkpoint, String>>;

/// The group in its store.
#[derive(Debug)]
pub struct Ours {
    /// The store.
    pub asked: Asked,
    /// Folders and names.
    pub names: Names,
}

impl Ours {
    /// The group's checkpoints of the topic.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn checkpoints(&self) -> Result<Existing, Error> {
        let folder = self.names.checkpoints_of_topic();
        let mut existing = Existing::new();
        for object in self.asked.list(&folder).await? {
            let name = object.key.strip_prefix(&folder).unwrap_or_default();
            let partition = name
                .strip_suffix(".json")
                .and_then(|name| name.parse().ok());
            let Some(partition) = partition else {
                continue;
            };
            if let Some(body) = self.asked.get(&object.key).await? {
                let checkpoint = decode(&body).map_err(|why| format!("{} {why}", object.key));
                existing.insert(partition, checkpoint);
            }
        }
        Ok(existing)
    }

    /// An object of each partition that has any.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn objects(&self) -> Result<BTreeMap<i32, String>, Error> {
        let mut found = BTreeMap::new();
        for folder in [&self.names.data, &self.names.dead_letters] {
            self.asked
                .each(&format!("{folder}/"), |object| {
                    if let Some(range) = self.names.range_in(&object.key) {
                        found.entry(range.partition).or_insert(object.key);
                    }
                    Ok(())
                })
                .await?;
        }
        Ok(found)
    }

    /// The one of our folders that Spark's readers read by a sink's log, if any.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn folder_with_sink_log(&self) -> Result<Option<String>, Error> {
        for folder in [&self.names.data, &self.names.dead_letters] {
            let log = self.asked.list(&format!("{folder}/{SINK_LOG}/")).await?;
            if !log.is_empty() {
                return Ok(Some(folder.clone()));
            }
        }
        Ok(None)
    }

    /// Creates a checkpoint; whether it is ours that is there now.
    ///
    /// # Errors
    /// When the store does not answer, or refuses.
    pub async fn create(&self, partition: i32, checkpoint: &Checkpoint) -> Result<bool, Error> {
        let key = self.names.checkpoint(partition);
        let swap = Swap {
            body: encode(checkpoint),
            condition: Condition::Absent,
        };
        let store = self.asked.store();
        let put = answered(async || {
            let condition = Some(swap.condition.clone());
            store.put(&key, swap.body.clone(), condition).await
        });
        let mut action = swap.step(SwapEvent::Put(put.await));
        if action == SwapAction::Read {
            let read = answered(async || store.get(&key).await);
            action = swap.step(SwapEvent::Read(read.await));
        }
        match action {
            SwapAction::Resolved(SwapOutcome::Won(_)) => Ok(true),
            SwapAction::Resolved(SwapOutcome::Fenced | SwapOutcome::Vanished) => Ok(false),
            SwapAction::PutAgain(error) | SwapAction::ReadAgain(error) => {
                Err(Error::Unanswered(format!(
                    "creating {}/{key}: {error}; whether it is there is not known: run this again, \
                     which finds out",
                    store.location()
                )))
            }
            SwapAction::Read => Ok(false),
        }
    }
}
