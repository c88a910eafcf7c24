//! A store that fails as it is told, in process: each kind of request at each of its occurrences,
//! before or after it took effect, late, or held until it is let go.
//!
//! It is compiled into the library so that unit tests and tests of the whole chain use the same.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, watch};

use super::{Condition, ETag, Object, ObjectStore, Page, SharedStore, StoreError};

/// The kinds of requests, as the landing protocol tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A put below the folder of the checkpoints, `If-None-Match: *`.
    CheckpointCreate,
    /// A put below the folder of the checkpoints, `If-Match`.
    CheckpointReplace,
    /// A put of any other object, `If-None-Match: *`.
    ObjectCreate,
    /// A put that no rule of the protocol makes: of an object with `If-Match`, or of anything
    /// without a condition.
    Overwrite,
    /// A read, of a whole object or of a part.
    Get,
    /// A look at size and version.
    Head,
    /// A page of a listing.
    List,
    /// A removal.
    Delete,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is answered so, and has no effect.
    Before(StoreError),
    /// It takes effect, and is answered so.
    After(StoreError),
    /// It is answered so, and takes effect when this many further requests were answered: the
    /// caller has long given up, or has repeated it.
    Late(StoreError, u64),
    /// It takes effect, and is answered so much later.
    Slow(Duration),
    /// It waits for [`FaultyStore::release`], then goes on as usual.
    HeldBefore,
    /// It takes effect, and its answer waits for [`FaultyStore::release`].
    HeldAfter,
}

/// A store whose requests fail as planned.
#[derive(Debug)]
pub struct FaultyStore {
    store: SharedStore,
    /// With its slash.
    checkpoints: String,
    plan: Mutex<Plan>,
    /// How many requests are held, or were.
    held: watch::Sender<u64>,
    gate: Semaphore,
}

#[derive(Debug, Default)]
struct Plan {
    seen: BTreeMap<Kind, u64>,
    /// By kind and occurrence, 1 is the first.
    faults: BTreeMap<(Kind, u64), Fault>,
    fired: u64,
    /// Puts that take effect later, with the number of requests to wait for.
    late: Vec<(u64, LatePut)>,
}

#[derive(Debug)]
struct LatePut {
    key: String,
    body: Bytes,
    condition: Option<Condition>,
}

impl FaultyStore {
    /// Fails requests to `store`, whose checkpoints lie in the folder `checkpoints`.
    pub fn new(store: SharedStore, checkpoints: &str) -> Self {
        Self {
            store,
            checkpoints: format!("{checkpoints}/"),
            plan: Mutex::default(),
            held: watch::Sender::new(0),
            gate: Semaphore::new(0),
        }
    }

    /// Has this happen to the request of this kind that is the `occurrence`th of its kind, counted
    /// from 1 since the store was made.
    pub fn plan(&self, kind: Kind, occurrence: u64, fault: Fault) {
        self.lock().faults.insert((kind, occurrence), fault);
    }

    /// How many requests of each kind were made.
    pub fn seen(&self) -> BTreeMap<Kind, u64> {
        self.lock().seen.clone()
    }

    /// How many of the planned faults have happened.
    pub fn fired(&self) -> u64 {
        self.lock().fired
    }

    /// Waits until a request is held.
    pub async fn until_held(&self) {
        // The sender is ours: it is never gone.
        let _ = self.held.subscribe().wait_for(|held| *held > 0).await;
    }

    /// Lets all held requests go on.
    pub fn release(&self) {
        self.gate
            .add_permits(usize::try_from(u32::MAX).unwrap_or_default());
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_kind(&self, key: &str, condition: Option<&Condition>) -> Kind {
        match (key.starts_with(&self.checkpoints), condition) {
            (true, Some(Condition::Absent)) => Kind::CheckpointCreate,
            (true, Some(Condition::Matches(_))) => Kind::CheckpointReplace,
            (false, Some(Condition::Absent)) => Kind::ObjectCreate,
            _ => Kind::Overwrite,
        }
    }

    fn arrives(&self, kind: Kind) -> Option<Fault> {
        let mut plan = self.lock();
        let seen = plan.seen.entry(kind).or_default();
        *seen += 1;
        let occurrence = *seen;
        let fault = plan.faults.remove(&(kind, occurrence));
        plan.fired += u64::from(fault.is_some());
        fault
    }

    async fn hold(&self) {
        self.held.send_modify(|held| *held += 1);
        // The semaphore is never closed.
        if let Ok(permit) = self.gate.acquire().await {
            permit.forget();
        }
    }

    /// Lets late puts take effect whose time has come. What comes of them nobody hears.
    async fn let_late_ones_in(&self) {
        let due: Vec<LatePut> = {
            let mut plan = self.lock();
            plan.late
                .iter_mut()
                .for_each(|(left, _)| *left = left.saturating_sub(1));
            let late = std::mem::take(&mut plan.late);
            let (due, waiting) = late.into_iter().partition(|(left, _)| *left == 0);
            plan.late = waiting;
            due.into_iter().map(|(_, put)| put).collect()
        };
        for put in due {
            let _ = self.store.put(&put.key, put.body, put.condition).await;
        }
    }

    /// A request whose effect is `effect`; one that changes something can take effect later.
    async fn request<T>(
        &self,
        kind: Kind,
        late: impl FnOnce() -> Option<LatePut>,
        effect: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let answer = match self.arrives(kind) {
            None => effect.await,
            Some(Fault::Before(error)) => Err(error),
            Some(Fault::After(error)) => {
                let _ = effect.await;
                Err(error)
            }
            Some(Fault::Late(error, requests)) => {
                if let Some(put) = late() {
                    // This request's own answer counts as one.
                    self.lock().late.push((requests + 1, put));
                }
                Err(error)
            }
            Some(Fault::Slow(delay)) => {
                let answer = effect.await;
                tokio::time::sleep(delay).await;
                answer
            }
            Some(Fault::HeldBefore) => {
                self.hold().await;
                effect.await
            }
            Some(Fault::HeldAfter) => {
                let answer = effect.await;
                self.hold().await;
                answer
            }
        };
        self.let_late_ones_in().await;
        answer
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: Option<Condition>,
    ) -> Result<ETag, StoreError> {
        let kind = self.put_kind(key, condition.as_ref());
        let late = || {
            Some(LatePut {
                key: key.to_owned(),
                body: body.clone(),
                condition: condition.clone(),
            })
        };
        let effect = self.store.put(key, body.clone(), condition.clone());
        self.request(kind, late, effect).await
    }

    async fn get(&self, key: &str) -> Result<Object, StoreError> {
        self.request(Kind::Get, || None, self.store.get(key)).await
    }

    async fn head(&self, key: &str) -> Result<(u64, ETag), StoreError> {
        self.request(Kind::Head, || None, self.store.head(key))
            .await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let read = self.store.get_range(key, range);
        self.request(Kind::Get, || None, read).await
    }

    async fn list_page(&self, prefix: &str, from: Option<&str>) -> Result<Page, StoreError> {
        let page = self.store.list_page(prefix, from);
        self.request(Kind::List, || None, page).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.request(Kind::Delete, || None, self.store.delete(key))
            .await
    }

    fn location(&self) -> String {
        self.store.location()
    }
}

/// A server that does not keep one of the rules on conditions, for tests of what finds it out.
#[derive(Debug)]
pub struct CarelessStore {
    /// What keeps the objects.
    pub store: SharedStore,
    /// Which rule it does not keep; `None`: it keeps them all.
    pub breaks: Mutex<Option<Carelessness>>,
}

/// A rule that some servers do not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carelessness {
    /// `If-None-Match: *` is ignored.
    IgnoresIfNoneMatch,
    /// `If-Match` is ignored where there is an object.
    IgnoresIfMatch,
    /// `If-Match` creates an object where there is none.
    CreatesOnIfMatch,
}

impl CarelessStore {
    /// A store over `store` that breaks this rule.
    pub fn new(store: SharedStore, breaks: Carelessness) -> Arc<Self> {
        Arc::new(Self {
            store,
            breaks: Mutex::new(Some(breaks)),
        })
    }

    async fn kept(&self, key: &str, condition: Option<Condition>) -> Option<Condition> {
        let breaks = *self.breaks.lock().unwrap_or_else(PoisonError::into_inner);
        let ignored = match (breaks, &condition) {
            (Some(Carelessness::IgnoresIfNoneMatch), Some(Condition::Absent)) => true,
            (Some(Carelessness::IgnoresIfMatch), Some(Condition::Matches(_))) => {
                self.store.head(key).await.is_ok()
            }
            (Some(Carelessness::CreatesOnIfMatch), Some(Condition::Matches(_))) => {
                self.store.head(key).await.is_err()
            }
            _ => false,
        };
        condition.filter(|_| !ignored)
    }
}

#[async_trait]
impl ObjectStore for CarelessStore {
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        condition: Option<Condition>,
    ) -> Result<ETag, StoreError> {
        let kept = self.kept(key, condition).await;
        self.store.put(key, body, kept).await
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{conformance, memory::MemoryStore};

    fn cut() -> StoreError {
        StoreError::Unknown("cut".into())
    }

    fn store() -> FaultyStore {
        FaultyStore::new(Arc::new(MemoryStore::new()), "c")
    }

    async fn create(store: &FaultyStore, key: &str) -> Result<ETag, StoreError> {
        store
            .put(key, Bytes::from_static(b"1"), Some(Condition::Absent))
            .await
    }

    #[tokio::test]
    async fn without_a_plan_it_keeps_the_contract() {
        conformance::all(Arc::new(store()), "m").await;
    }

    #[tokio::test]
    async fn a_fault_happens_to_its_request_alone_and_at_its_time() {
        let store = store();
        store.plan(Kind::ObjectCreate, 2, Fault::Before(cut()));
        store.plan(Kind::ObjectCreate, 3, Fault::After(StoreError::Conflict));
        store.plan(Kind::CheckpointCreate, 1, Fault::Late(cut(), 1));
        assert!(create(&store, "a").await.is_ok());
        assert_eq!(create(&store, "b").await, Err(cut()));
        assert_eq!(store.get("b").await, Err(StoreError::NotFound));
        assert_eq!(create(&store, "b").await, Err(StoreError::Conflict));
        assert!(store.get("b").await.is_ok());
        assert_eq!(create(&store, "c/k").await, Err(cut()));
        assert_eq!(store.get("c/k").await, Err(StoreError::NotFound));
        assert!(store.get("c/k").await.is_ok());
        assert_eq!(store.fired(), 3);
        assert_eq!(store.seen()[&Kind::ObjectCreate], 3);
    }

    #[tokio::test]
    async fn a_held_request_waits_for_its_release() {
        let store = Arc::new(store());
        store.plan(Kind::ObjectCreate, 1, Fault::HeldAfter);
        let held = tokio::spawn({
            let store = store.clone();
            async move { create(&store, "a").await }
        });
        store.until_held().await;
        assert!(store.get("a").await.is_ok() && !held.is_finished());
        store.release();
        assert!(held.await.unwrap().is_ok());
    }
}
