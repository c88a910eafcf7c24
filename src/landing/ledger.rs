//! The checkpoints in the store, and what is listed beside them: the I/O of the protocol, each
//! request repeated until it is answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use slog::{Logger, error, warn};
use tokio::sync::Mutex;

use crate::fault::{Step, Stepped};
use crate::landing::patience::{Patience, Question};
use crate::landing::protocol::checkpoint::{Checkpoint, FORMAT, Sibling};
use crate::landing::protocol::claim::Found;
use crate::landing::protocol::keys::{Names, encoded_group};
use crate::landing::protocol::swap::{Swap, SwapAction, SwapEvent, SwapOutcome};
use crate::logging::events;
use crate::status::Pulse;
use crate::store::conditions::{
    ConditionsError, honours_conditions, probe_name, refuses_to_create_on_match,
};
use crate::store::{Condition, ObjectStore, StoreError};

/// The checkpoints of one group and topic.
#[derive(Debug, Clone)]
pub struct Ledger {
    store: Stepped<dyn ObjectStore>,
    names: Names,
    patience: Patience,
    log: Logger,
    /// Listings, by prefix, with the time at which each began: partitions claimed together share
    /// one.
    listings: Arc<Mutex<HashMap<String, Listing>>>,
    /// Whether the server was found to honour conditions.
    is_fit: Arc<Mutex<bool>>,
}

/// When a listing began, and the keys.
type Listing = (Instant, Arc<Vec<String>>);

/// What was found under a checkpoint's key.
#[derive(Debug)]
pub struct Read {
    /// It.
    pub found: Found,
    /// When the answer had come: a listing that begins later is younger than this answer.
    pub at: Instant,
}

impl Ledger {
    /// The checkpoints of these names.
    pub fn new(
        store: Stepped<dyn ObjectStore>,
        names: Names,
        patience: Patience,
        log: Logger,
    ) -> Self {
        Self {
            store,
            names,
            patience,
            log,
            listings: Arc::default(),
            is_fit: Arc::default(),
        }
    }

    /// The same, on behalf of one piece of an actor's work.
    pub fn of_piece(&self, pulse: Arc<Pulse>) -> Self {
        Self {
            patience: self.patience.of_piece(pulse),
            ..self.clone()
        }
    }

    /// Reads a partition's checkpoint.
    pub async fn read(&self, partition: i32) -> Read {
        let key = self.names.checkpoint(partition);
        let found = self.read_key(Step::ReadCheckpoint, &key).await;
        Read {
            found,
            at: Instant::now(),
        }
    }

    /// Swaps a checkpoint in, until that is resolved. The step says what for.
    pub async fn swap(
        &self,
        step: Step,
        partition: i32,
        next: &Checkpoint,
        condition: Condition,
    ) -> SwapOutcome {
        let key = self.names.checkpoint(partition);
        let swap = Swap {
            body: encode(next),
            condition,
        };
        let mut asking = self.patience.ask();
        let mut event = self.put(step, &key, &swap).await;
        loop {
            event = match swap.step(event) {
                SwapAction::Resolved(outcome) => {
                    asking.answered();
                    return outcome;
                }
                SwapAction::PutAgain(error) => {
                    asking
                        .failed(Question::Key("replacing", &key), &error)
                        .await;
                    self.put(step, &key, &swap).await
                }
                SwapAction::Read => self.look(&key).await,
                SwapAction::ReadAgain(error) => {
                    asking.failed(Question::Key("reading", &key), &error).await;
                    self.look(&key).await
                }
            };
        }
    }

    async fn look(&self, key: &str) -> SwapEvent {
        SwapEvent::Read(self.store.at(Step::LookAtSwap).get(key).await)
    }

    async fn put(&self, step: Step, key: &str, swap: &Swap) -> SwapEvent {
        SwapEvent::Put(
            self.store
                .at(step)
                .put(key, swap.body.clone(), Some(swap.condition.clone()))
                .await,
        )
    }

    /// Any object of the topic and partition, by a listing that began after `since`.
    pub async fn any_object(&self, partition: i32, since: Instant) -> Option<String> {
        for folder in [&self.names.data, &self.names.dead_letters] {
            let prefix = format!("{folder}/");
            let keys = self.list(Step::ListObjects, &prefix, since).await;
            let ours = |key: &&String| {
                self.names
                    .range_in(key)
                    .is_some_and(|range| range.partition == partition)
            };
            if let Some(key) = keys.iter().find(ours) {
                return Some(key.clone());
            }
        }
        None
    }

    /// What any checkpoint of the group and topic tells of the group's beginning.
    pub async fn sibling(&self, since: Instant) -> Option<Sibling> {
        let prefix = self.names.checkpoints_of_topic();
        for key in self.list(Step::ReadSibling, &prefix, since).await.iter() {
            if let Found::Checkpoint(checkpoint, _) = self.read_key(Step::ReadSibling, key).await {
                return Some(checkpoint.sibling());
            }
        }
        None
    }

    /// The checkpoints that other groups have of this topic and partition.
    pub async fn other_groups(&self, partition: i32, since: Instant) -> Vec<(String, Checkpoint)> {
        let ours = encoded_group(&self.names.group);
        let root = format!("{}/", self.names.checkpoints);
        let mut found = Vec::new();
        for key in self.list(Step::ReadGroups, &root, since).await.iter() {
            let mut parts = key.strip_prefix(&root).unwrap_or_default().split('/');
            let (group, topic, file) = (parts.next(), parts.next(), parts.next());
            let is_same_partition = topic == Some(self.names.topic.as_str())
                && file.and_then(|file| file.strip_suffix(".json"))
                    == Some(partition.to_string().as_str());
            if group == Some(ours.as_str()) || !is_same_partition {
                continue;
            }
            if let Found::Checkpoint(checkpoint, _) = self.read_key(Step::ReadGroups, key).await {
                found.push((key.clone(), *checkpoint));
            }
        }
        found
    }

    /// Why this server cannot be trusted with checkpoints; `None`: it honours conditions. Found
    /// out once, with a checkpoint that we have just swapped in, by putting its own bytes, and
    /// with a key that nothing lies under. A server that was found out may be mended: the next
    /// claim looks again.
    pub async fn unfit(&self, partition: i32, checkpoint: &Checkpoint) -> Option<String> {
        let _waiting = self.patience.waiting();
        let mut is_fit = self.is_fit.lock().await;
        if *is_fit {
            return None;
        }
        let unfit = self.probe(partition, checkpoint).await.err();
        *is_fit = unfit.is_none();
        unfit
    }

    async fn probe(&self, partition: i32, checkpoint: &Checkpoint) -> Result<(), String> {
        let key = self.names.checkpoint(partition);
        let mut asking = self.patience.ask();
        let mut missing_keys = Vec::new();
        loop {
            let missing = format!("{}{}", self.names.checkpoints_of_topic(), probe_name());
            missing_keys.push(missing.clone());
            let store = self.store.at(Step::Probe);
            let honours = async {
                honours_conditions(&store, &key, encode(checkpoint)).await?;
                refuses_to_create_on_match(&store, &missing).await
            };
            match honours.await {
                Ok(()) => {
                    asking.answered();
                    return Ok(());
                }
                Err(ConditionsError::Store(error)) => {
                    asking
                        .failed(Question::Key("probing conditions at", &missing), &error)
                        .await
                }
                Err(ignored) => {
                    asking.answered();
                    error!(self.log, "the store cannot be trusted"; events::STORE_UNFIT, "error" => %ignored);
                    self.tidy(&ignored, &missing_keys).await;
                    return Err(ignored.to_string());
                }
            }
        }
    }

    /// Removes what the probe may have made on a server that refuses nothing.
    async fn tidy(&self, ignored: &ConditionsError, keys: &[String]) {
        if *ignored != ConditionsError::CreatesOnIfMatch {
            return;
        }
        for key in keys {
            if let Err(error) = self.store.at(Step::Probe).delete(key).await {
                warn!(self.log, "a probe may be left in the store, remove it"; "key" => key, "error" => %error);
            }
        }
    }

    async fn read_key(&self, step: Step, key: &str) -> Found {
        let mut asking = self.patience.ask();
        loop {
            match self.store.at(step).get(key).await {
                Ok(object) => {
                    asking.answered();
                    return match decode(&object.body) {
                        Ok(checkpoint) => Found::Checkpoint(Box::new(checkpoint), object.etag),
                        Err(why) => Found::Unreadable(format!("{key} {why}")),
                    };
                }
                Err(StoreError::NotFound) => {
                    asking.answered();
                    return Found::Absent;
                }
                Err(error) => asking.failed(Question::Key("reading", key), &error).await,
            }
        }
    }

    /// All keys below a prefix, by a listing that began after `since`.
    async fn list(&self, step: Step, prefix: &str, since: Instant) -> Arc<Vec<String>> {
        let _waiting = self.patience.waiting();
        let mut listings = self.listings.lock().await;
        if let Some((_, keys)) = listings.get(prefix).filter(|(began, _)| *began > since) {
            return keys.clone();
        }
        let question = Question::Key("listing", prefix);
        let listing = self.patience.until_answered(question, async || {
            let began = Instant::now();
            let listed = self.store.at(step).list(prefix).await?;
            Ok::<_, StoreError>((began, listed))
        });
        let (began, listed) = listing.await;
        let keys: Arc<Vec<String>> =
            Arc::new(listed.into_iter().map(|object| object.key).collect());
        listings.insert(prefix.to_owned(), (began, keys.clone()));
        keys
    }
}

/// A checkpoint as an object.
pub fn encode(checkpoint: &Checkpoint) -> Bytes {
    // A structure of numbers, strings and lists always has a JSON form.
    Bytes::from(serde_json::to_vec_pretty(checkpoint).unwrap_or_default())
}

/// An object as a checkpoint.
///
/// # Errors
/// Why it is none that this version understands.
pub fn decode(body: &[u8]) -> Result<Checkpoint, String> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let format: Format =
        serde_json::from_slice(body).map_err(|error| format!("is no checkpoint: {error}"))?;
    if format.format != FORMAT {
        return Err(format!(
            "has format {}, this version knows {FORMAT}: it was written by another version, upgrade this one",
            format.format
        ));
    }
    serde_json::from_slice(body).map_err(|error| format!("is no checkpoint: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_of_another_format_is_not_read_as_ours() {
        let why = decode(br#"{"format": 2, "next_offset": 5}"#).unwrap_err();
        assert!(why.contains("format 2") && why.contains("knows 1"), "{why}");
        for body in [&b"{}"[..], b"", b"\xff", br#"{"format": 1}"#] {
            let why = decode(body).unwrap_err();
            assert!(why.starts_with("is no checkpoint"), "{why}");
        }
    }
}
