//! One budget in bytes for everything in flight. It is taken at the subscriber, for a record's
//! whole way; later stages never wait for it, they only give back what they no longer hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// The shared account.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit_bytes: u64,
    held_bytes: AtomicU64,
    /// Wakes who waits for room.
    freed: Notify,
    /// Wakes who can make room.
    asked: Notify,
}

/// Bytes held from a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub struct Grant {
    account: Arc<Account>,
    bytes: u64,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(limit_bytes: u64) -> Self {
        Self(Arc::new(Account {
            limit_bytes,
            held_bytes: AtomicU64::new(0),
            freed: Notify::new(),
            asked: Notify::new(),
        }))
    }

    /// The limit, in bytes.
    pub fn limit_bytes(&self) -> u64 {
        self.0.limit_bytes
    }

    /// What is held now, in bytes; above the limit while a replay or one large record exceeds it.
    pub fn held_bytes(&self) -> u64 {
        self.0.held_bytes.load(Ordering::Relaxed)
    }

    /// Takes bytes if they fit, or if nothing else is held (a single record larger than the whole
    /// budget passes alone).
    pub fn try_take(&self, bytes: u64) -> Option<Grant> {
        self.0
            .held_bytes
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |held| {
                let after = held.checked_add(bytes)?;
                (held == 0 || after <= self.0.limit_bytes).then_some(after)
            })
            .ok()
            .map(|_| Grant {
                account: self.0.clone(),
                bytes,
            })
    }

    /// Takes bytes whether they fit or not: for replays, which run one at a time, and for what a
    /// stage makes from what it already holds.
    pub fn take(&self, bytes: u64) -> Grant {
        self.0.held_bytes.fetch_add(bytes, Ordering::AcqRel);
        Grant {
            account: self.0.clone(),
            bytes,
        }
    }

    /// Says that the subscriber found no room: whoever holds the largest open file closes it early.
    pub fn ask_for_room(&self) {
        self.0.asked.notify_one();
    }

    /// Waits until the subscriber asks for room. One waiter; a request made before it waits counts.
    pub async fn wait_asked(&self) {
        self.0.asked.notified().await;
    }

    /// Waits until something is given back.
    pub async fn freed(&self) {
        self.0.freed.notified().await;
    }
}

impl Grant {
    /// The bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Holds so many bytes from now on: less gives back, more exceeds the limit if it must, since
    /// a stage that waited here for the ones behind it could wait for ever.
    pub fn resize(&mut self, bytes: u64) {
        if bytes > self.bytes {
            self.account
                .held_bytes
                .fetch_add(bytes - self.bytes, Ordering::AcqRel);
        } else if bytes < self.bytes {
            self.account
                .held_bytes
                .fetch_sub(self.bytes - bytes, Ordering::AcqRel);
            self.account.freed.notify_one();
        }
        self.bytes = bytes;
    }

    /// Takes over what another grant holds.
    pub fn merge(&mut self, mut other: Grant) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Hands so many of its bytes (all, if it holds fewer) to a grant of their own.
    pub fn split(&mut self, bytes: u64) -> Grant {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Grant {
            account: self.account.clone(),
            bytes,
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.account
                .held_bytes
                .fetch_sub(self.bytes, Ordering::AcqRel);
            self.account.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_gives_back_exactly_what_it_holds() {
        let budget = Budget::new(100);
        let mut first = budget.try_take(60).unwrap();
        assert!(budget.try_take(41).is_none());
        let second = budget.try_take(40).unwrap();
        first.resize(10);
        assert_eq!(budget.held_bytes(), 50);
        first.merge(second);
        assert_eq!(budget.held_bytes(), 50);
        let part = first.split(20);
        drop(first);
        assert_eq!(budget.held_bytes(), 20);
        drop(part);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[test]
    fn one_record_larger_than_the_budget_passes_alone() {
        let budget = Budget::new(100);
        let large = budget.try_take(500).unwrap();
        assert!(budget.try_take(1).is_none());
        drop(large);
        assert!(budget.try_take(100).is_some());
    }
}
