//! A folder in a store, whose silence is an error after a while: a person waits.

use std::io;

use bytes::Bytes;

use super::{Error, place::Place};
use crate::config;
use crate::inventory::{answered, each_page};
use crate::store::{self, Listed, SharedStore, StoreError};

/// A folder that is read.
#[derive(Debug, Clone)]
pub struct Asked {
    store: SharedStore,
}

impl Asked {
    /// What these settings speak to.
    pub fn new(store: SharedStore) -> Self {
        Self { store }
    }

    /// A folder beside ours: on S3 by the same endpoint and credentials.
    ///
    /// # Errors
    /// When no client can be made of the settings.
    pub fn at(place: &Place, settings: &config::Store) -> Result<Self, Error> {
        let settings = config::Store {
            location: place.location().clone(),
            ..settings.clone()
        };
        let store = store::open(&settings, None);
        let store = store.map_err(|error| Error::Unanswered(error.to_string()))?;
        Ok(Self { store })
    }

    /// The store itself.
    pub fn store(&self) -> &SharedStore {
        &self.store
    }

    /// All objects below a prefix of which it is known that there are few.
    ///
    /// # Errors
    /// When the store does not answer, or refuses.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        let listed = answered(async || self.store.list(prefix).await).await;
        listed.map_err(|error| self.unanswered("listing", prefix, &error))
    }

    /// Hands over all objects below a prefix, in whichever order, without holding them.
    ///
    /// # Errors
    /// When the store does not answer, or refuses, or what `take` says.
    pub async fn each(
        &self,
        prefix: &str,
        mut take: impl FnMut(Listed) -> io::Result<()>,
    ) -> Result<(), Error> {
        let page = |page: Vec<Listed>| page.into_iter().try_for_each(&mut take);
        let listed = each_page(&*self.store, prefix, page).await;
        listed.map_err(|error| {
            let place = self.store.location();
            Error::Unanswered(format!("listing {place}/{prefix}: {error}"))
        })
    }

    /// An object; `None`: it is not there.
    ///
    /// # Errors
    /// When the store does not answer, or refuses.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        match answered(async || self.store.get(key).await).await {
            Ok(object) => Ok(Some(object.body)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(self.unanswered("reading", key, &error)),
        }
    }

    fn unanswered(&self, what: &str, key: &str, error: &StoreError) -> Error {
        let place = self.store.location();
        Error::Unanswered(format!("{what} {place}/{key}: {error}"))
    }
}
