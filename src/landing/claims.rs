//! Which claim of each partition is the newest: every stage asks before it works on a message,
//! and drops what belongs to an older one (a partition revoked and given back, and an old block
//! arrives first).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::messages::ClaimId;

/// Shared by the stages of one generation.
#[derive(Debug, Clone, Default)]
pub struct Claims(Arc<RwLock<HashMap<i32, u64>>>);

impl Claims {
    /// From now on this claim is the partition's newest.
    pub fn hold(&self, claim: ClaimId) {
        let mut epochs = self.0.write().unwrap_or_else(PoisonError::into_inner);
        epochs.insert(claim.partition, claim.epoch);
    }

    /// Ends whatever claim the partition has.
    pub fn release(&self, partition: i32) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&partition);
    }

    /// Ends this claim, unless a newer one holds the partition.
    pub fn end(&self, claim: ClaimId) {
        let mut epochs = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if epochs.get(&claim.partition) == Some(&claim.epoch) {
            epochs.remove(&claim.partition);
        }
    }

    /// Whether messages of this claim still count.
    pub fn is_current(&self, claim: ClaimId) -> bool {
        let epochs = self.0.read().unwrap_or_else(PoisonError::into_inner);
        epochs.get(&claim.partition) == Some(&claim.epoch)
    }
}
