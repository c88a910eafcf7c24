//! What may be done in a folder of a bucket, each tried without leaving anything there.

use std::time::{Duration, Instant};

use super::super::item::{Cut, Limit};
use super::super::policy::{GET, LIST, PUT, Place};
use super::super::{Finding, Item, Problem};
use super::Folder;
use super::conditions::tidy;
use crate::store::conditions::{ConditionsError, refuses_to_create_on_match};
use crate::store::{Listed, ObjectStore, StoreError};

/// What a folder answered.
#[derive(Debug)]
pub(super) struct Tried<'a> {
    folder: Folder<'a>,
    took: Duration,
    /// Its first page.
    list: Result<(), Failure>,
    /// The first byte of an object that is there, else of one that is not.
    get: Result<(), Failure>,
    /// One that is not there: that has to be told from one that may not be read.
    absent: Result<(), Failure>,
    /// A put that cannot take effect.
    pub(super) put: Result<(), PutFailure>,
}

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The store's answer.
    Store(StoreError),
    /// There was none.
    Cut(Cut),
}

/// Why a put was not refused as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PutFailure {
    /// Why it has no proper answer; `None`: it took effect.
    pub(super) failure: Option<Failure>,
    /// What it may have made and what is left of that, in words; `None`: nothing.
    pub(super) left: Option<String>,
}

/// Lists, reads and writes.
pub(super) async fn try_folder<'a>(
    store: &dyn ObjectStore,
    folder: Folder<'a>,
    name: &str,
    limit: &Limit,
) -> Tried<'a> {
    let since = Instant::now();
    let root = format!("{}/", folder.path);
    let listed = answered(limit, store.list_page(&root, None)).await;
    let there = match &listed {
        Ok(page) => page.objects.iter().find(|object| object.size_bytes > 0),
        Err(_) => None,
    };
    let missing = format!("{}/{name}", folder.path);
    let absent = read_absent(store, &missing, limit).await;
    let get = match there {
        Some(object) => read(store, object, limit).await,
        None => absent.clone(),
    };
    let put = write(store, &missing, limit).await;
    Tried {
        folder,
        took: since.elapsed(),
        list: listed.map(drop),
        get,
        absent,
        put,
    }
}

async fn answered<T>(
    limit: &Limit,
    request: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Failure> {
    match limit.wait(request).await {
        Ok(answer) => answer.map_err(Failure::Store),
        Err(cut) => Err(Failure::Cut(cut)),
    }
}

async fn read(store: &dyn ObjectStore, there: &Listed, limit: &Limit) -> Result<(), Failure> {
    match answered(limit, store.get_range(&there.key, 0..1)).await {
        // It was removed meanwhile.
        Ok(_) | Err(Failure::Store(StoreError::NotFound)) => Ok(()),
        Err(failure) => Err(failure),
    }
}

async fn read_absent(store: &dyn ObjectStore, missing: &str, limit: &Limit) -> Result<(), Failure> {
    match answered(limit, store.get(missing)).await {
        Ok(_) | Err(Failure::Store(StoreError::NotFound)) => Ok(()),
        Err(failure) => Err(failure),
    }
}

async fn write(store: &dyn ObjectStore, missing: &str, limit: &Limit) -> Result<(), PutFailure> {
    if let Some(cut) = limit.cut() {
        let failure = Some(Failure::Cut(cut));
        return Err(PutFailure {
            failure,
            left: None,
        });
    }
    let failure = match limit.wait(refuses_to_create_on_match(store, missing)).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(ConditionsError::Store(error))) => Some(Failure::Store(error)),
        Ok(Err(_)) => None,
        Err(cut) => Some(Failure::Cut(cut)),
    };
    let left = match &failure {
        Some(Failure::Store(StoreError::Refused(_))) => None,
        // What an answer that never came has made is removed with the rest.
        _ => left_of(store, missing, limit).await,
    };
    Err(PutFailure { failure, left })
}

/// Removes what a put has made, and says what may be left.
pub(super) async fn left_of(store: &dyn ObjectStore, key: &str, limit: &Limit) -> Option<String> {
    let left = match limit.wait_for_tidying(tidy(store, key)).await {
        Ok(Ok(())) => return None,
        Ok(Err(why)) => why,
        Err(_) => "no answer in time".to_owned(),
    };
    let location = store.location();
    Some(format!(
        "{location}/{key} may be left ({left}): remove it by hand, nothing reads it"
    ))
}

impl Tried<'_> {
    pub(super) fn item(&self, place: &Place) -> Item {
        Item {
            name: self.folder.name,
            finding: self.finding(place),
            took: self.took,
        }
    }

    /// What each request was for: the action, and how it went.
    fn answers(&self) -> [(&'static str, Option<&Failure>); 3] {
        let put = self.put.as_ref().err();
        [
            (LIST, self.list.as_ref().err()),
            (GET, self.get.as_ref().err()),
            (PUT, put.and_then(|put| put.failure.as_ref())),
        ]
    }

    fn finding(&self, place: &Place) -> Finding {
        let path = self.folder.path;
        let answers = self.answers();
        let failed = answers.iter().filter_map(|(action, failure)| {
            let failure = (*failure)?;
            (!failure.is_denied()).then(|| failure.problem(action, path))
        });
        if let Some(problem) = { failed }.next() {
            return Finding::Wrong(problem);
        }
        let denied: Vec<&str> = answers
            .iter()
            .filter(|(_, failure)| failure.is_some())
            .map(|(action, _)| *action)
            .collect();
        if denied.is_empty() && self.absent.as_ref().is_err_and(Failure::is_denied) {
            let problem = Problem::new(
                format!(
                    "{path}/: the store answers 403 for an object that is not there, instead of 404: \
                     s3:ListBucket is granted on a condition that a request for one object does not \
                     meet"
                ),
                "grant it without one",
            );
            return Finding::Wrong(problem.by(place.statements(&[LIST], path)));
        }
        let Some(first) = denied.first() else {
            return Finding::Well(format!("{path}/ may be listed, read and written"));
        };
        let doubt = doubt(&denied);
        let granted = match doubt {
            // What may be missing besides is told when this is there.
            Some(_) => &denied[..1],
            None => &denied[..],
        };
        let what = match doubt {
            Some(doubt) => format!("{first} ({doubt})"),
            None => denied.join(" and "),
        };
        let problem = Problem::new(
            format!("{path}/: these credentials lack {what}"),
            "add to their policy (`groundtrack check --policy` prints all of it)",
        );
        Finding::Wrong(problem.by(place.statements(granted, path)))
    }
}

/// S3 answers 403 to who may not list, whether an object that is not there could be read, and
/// takes the right to read for a condition on it: what one missing right hides of others.
fn doubt(denied: &[&str]) -> Option<&'static str> {
    match denied {
        [LIST, _, ..] => Some("without it S3 does not tell whether the others are granted"),
        [GET, PUT] => Some("without it S3 does not tell whether s3:PutObject is granted"),
        _ => None,
    }
}

impl Failure {
    /// Whether the credentials are known and good, but may not do this.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Store(StoreError::Refused(words)) if super::is_denied(words))
    }

    fn problem(&self, action: &str, path: &str) -> Problem {
        match self {
            Self::Store(error) => super::problem(&format!("{path}/: {action}"), error),
            Self::Cut(Cut::Stopped) => Problem::interrupted(),
            Self::Cut(Cut::Late) => Problem::new(
                format!(
                    "{path}/: waited for the store's answer to {action} until the time was over"
                ),
                "ask again later; if it stays so, the store is too slow or hangs",
            ),
        }
    }
}
