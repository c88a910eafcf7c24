//! A store in memory that holds every write to the rules, whoever writes.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use groundtrack::landing::ledger::decode;
use groundtrack::landing::protocol::checkpoint::Checkpoint;
use groundtrack::landing::protocol::keys::Names;
use groundtrack::store::memory::MemoryStore;
use groundtrack::store::{Condition, ETag, Object, ObjectStore, Page, StoreError};

/// Objects in memory, and what was done against the rules.
#[derive(Debug)]
pub struct Witness {
    store: MemoryStore,
    names: Names,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Every content that a checkpoint has had.
    contents: HashSet<Bytes>,
    wrongs: Vec<String>,
}

impl Witness {
    pub fn new(names: Names) -> Self {
        Self {
            store: MemoryStore::new(),
            names,
            seen: Mutex::default(),
        }
    }

    /// What was done against the rules so far.
    pub fn wrongs(&self) -> Vec<String> {
        self.seen().wrongs.clone()
    }

    pub async fn checkpoint(&self, partition: i32) -> Option<Checkpoint> {
        let object = self.store.get(&self.names.checkpoint(partition)).await;
        object.ok().map(|object| decode(&object.body).unwrap())
    }

    /// Keys below a folder.
    pub async fn keys(&self, folder: &str) -> Vec<String> {
        let listed = self.store.list(&format!("{folder}/")).await.unwrap();
        listed.into_iter().map(|object| object.key).collect()
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exists(&self, key: &str) -> bool {
        self.store.head(key).await.is_ok()
    }

    /// A checkpoint that was replaced: revision and content are new, it moved only over a pending
    /// range whose objects are there, and what is pending stays as it was begun.
    async fn replaced(&self, old: &Checkpoint, new: &Checkpoint, body: &Bytes) -> Vec<String> {
        let mut wrongs = Vec::new();
        let mut hold = |holds: bool, rule: &str| {
            if !holds {
                wrongs.push(format!("{rule}: {old:?} became {new:?}"));
            }
        };
        hold(
            new.revision == old.revision + 1,
            "every write raises the revision by one",
        );
        hold(
            !self.seen().contents.contains(body),
            "content never comes back",
        );
        hold(new.epoch >= old.epoch, "epochs only rise");
        hold(
            new.epoch > old.epoch || new.writer == old.writer,
            "another writer raises the epoch",
        );
        match &old.pending {
            None => hold(
                new.next_offset == old.next_offset,
                "only a begun batch lands",
            ),
            Some(begun) if new.next_offset == old.next_offset => {
                let kept = new.pending.as_ref().is_some_and(|pending| {
                    (pending.end, &pending.keys, &pending.layout)
                        == (begun.end, &begun.keys, &begun.layout)
                });
                hold(kept, "a begun batch stays as it is until it lands");
            }
            Some(begun) => {
                hold(new.next_offset == begun.end, "batches tile");
                let (dead_letters, data) = begun.keys.split_last().unwrap();
                for key in data {
                    hold(
                        self.exists(key).await,
                        "no checkpoint over a missing object",
                    );
                }
                let recorded = begun.gap.is_none() || self.exists(dead_letters).await;
                hold(recorded, "a loss is recorded before the batch lands");
            }
        }
        wrongs
    }

    /// An object that was created: begun before, and behind the keys listed before it.
    async fn created(&self, key: &str) -> Vec<String> {
        let Some(range) = self.names.range_in(key) else {
            return vec![format!("{key} is no object of the topic")];
        };
        let pending = self
            .checkpoint(range.partition)
            .await
            .and_then(|held| held.pending);
        let listed = pending.and_then(|pending| {
            let at = pending.keys.iter().position(|listed| listed == key)?;
            Some(pending.keys[..at].to_vec())
        });
        let Some(before) = listed else {
            return vec![format!("{key} was created, but is not begun")];
        };
        let mut wrongs = Vec::new();
        for missing in before {
            if !self.exists(&missing).await {
                wrongs.push(format!("{key} was created before {missing}"));
            }
        }
        wrongs
    }
}

#[async_trait]
impl ObjectStore for Witness {
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: Option<Condition>,
    ) -> Result<ETag, StoreError> {
        let old = self.store.get(key).await.ok();
        let is_create = condition == Some(Condition::Absent);
        let etag = self.store.put(key, body.clone(), condition).await?;
        let wrongs = match (key.starts_with("checkpoints/"), old) {
            (true, Some(old)) => {
                let (old, new) = (decode(&old.body).unwrap(), decode(&body).unwrap());
                self.replaced(&old, &new, &body).await
            }
            (true, None) => self.checkpoint_created(is_create, &body),
            (false, None) if is_create => self.created(key).await,
            (false, _) => vec![format!("{key} was overwritten")],
        };
        let mut seen = self.seen();
        seen.wrongs.extend(wrongs);
        if key.starts_with("checkpoints/") {
            seen.contents.insert(body);
        }
        Ok(etag)
    }

    async fn get(&self, key: &str) -> Result<Object, StoreError> {
        self.store.get(key).await
    }

    async fn head(&self, key: &str) -> Result<(u64, ETag), StoreError> {
        self.store.head(key).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.store.get_range(key, range).await
    }

    async fn list_page(&self, prefix: &str, from: Option<&str>) -> Result<Page, StoreError> {
        self.store.list_page(prefix, from).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.store.delete(key).await
    }

    fn location(&self) -> String {
        self.store.location()
    }
}

impl Witness {
    fn checkpoint_created(&self, is_create: bool, body: &Bytes) -> Vec<String> {
        match decode(body) {
            _ if !is_create => vec!["a checkpoint was made though it should exist".to_owned()],
            Ok(checkpoint) if checkpoint.pending.is_none() => Vec::new(),
            other => vec![format!("a new checkpoint is {other:?}")],
        }
    }
}
