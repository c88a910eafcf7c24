//! The store: whether its folders can be written, read, listed and tidied, and whether it honours
//! the conditions that exactly-once rests on.
//!
//! The probe is one object of a random name right below the checkpoints' folder. A claim takes
//! only `GROUP/TOPIC/PARTITION.json` from there for a checkpoint, and readers never look there.
//! It is removed whatever happened; before it is made, it is found out whether it can be.

use std::time::Instant;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{Finding, Item, Problem};
use crate::config;
use crate::store::conditions::{
    ConditionsError, honours_conditions, probe_name, refuses_to_create_on_match,
};
use crate::store::{Condition, ObjectStore, OpenError, SharedStore, StoreError};

const BUCKET: &str = "bucket";
const CONDITIONS: &str = "conditions";

/// An answer that never came may still take effect: so often it is removed and looked for again.
const TIDYINGS_MAX: usize = 3;

/// What is written: says what it is, should it ever be found.
const PROBE: &[u8] = b"written by groundtrack check, to be removed\n";

pub(super) async fn ask(
    settings: &config::Store,
    store: Result<SharedStore, OpenError>,
    stop: &CancellationToken,
) -> [Item; 2] {
    match store {
        Ok(store) => probe(settings, &*store, stop).await,
        Err(error) => {
            let problem = Problem::new(error.to_string(), "correct [store.s3]");
            [
                Item::new(BUCKET, Instant::now(), Err(problem)),
                Item::new(CONDITIONS, Instant::now(), not_asked()),
            ]
        }
    }
}

fn not_asked() -> Finding {
    Err(Problem::new("not asked", "mend the bucket first"))
}

async fn probe(
    settings: &config::Store,
    store: &dyn ObjectStore,
    stop: &CancellationToken,
) -> [Item; 2] {
    let name = probe_name();
    let folders = [
        &settings.checkpoints,
        &settings.data,
        &settings.dead_letters,
    ];
    let keys = folders.map(|folder| format!("{folder}/{name}"));
    let since = Instant::now();
    if let Err(problem) = removable(store, &keys).await {
        let unasked = Item::new(CONDITIONS, Instant::now(), not_asked());
        return [Item::new(BUCKET, since, Err(problem)), unasked];
    }
    let bucket = write_and_read(store, &keys[0], stop).await;
    let mut took = since.elapsed();
    let since = Instant::now();
    let honoured = match bucket {
        Ok(_) => conditions(store, &keys, stop).await,
        Err(_) => not_asked(),
    };
    let conditions = Item::new(CONDITIONS, since, honoured);
    let since = Instant::now();
    let tidied = tidy(store, &keys[0]).await;
    took += since.elapsed();
    let bucket = Item {
        name: BUCKET,
        finding: and_tidied(bucket, tidied),
        took,
    };
    [bucket, conditions]
}

/// Whether what is to be written could be removed again, asked while there is nothing.
async fn removable(store: &dyn ObjectStore, keys: &[String]) -> Result<(), Problem> {
    for key in keys {
        store.delete(key).await.map_err(|error| {
            let problem = wrong(store, "removing", key, &error);
            match error {
                StoreError::Refused(_) => Problem::new(
                    problem.answer,
                    format!(
                        "{}; if only removing is refused, allow it (s3:DeleteObject on \
                         */.check-*): the check removes its own probe, the service removes \
                         nothing",
                        problem.mend
                    ),
                ),
                _ => problem,
            }
        })?;
    }
    Ok(())
}

async fn write_and_read(store: &dyn ObjectStore, key: &str, stop: &CancellationToken) -> Finding {
    let body = Bytes::from_static(PROBE);
    let wrong = |what, error: StoreError| wrong(store, what, key, &error);
    proceed(stop)?;
    store
        .put(key, body.clone(), Some(Condition::Absent))
        .await
        .map_err(|error| wrong("creating", error))?;
    proceed(stop)?;
    let read = store
        .get(key)
        .await
        .map_err(|error| wrong("reading", error))?;
    if read.body != body {
        return Err(Problem::new(
            format!(
                "{}/{key} was read with other bytes than were written",
                store.location()
            ),
            "use a store that keeps what it is given; is a proxy or a gateway in between?",
        ));
    }
    proceed(stop)?;
    let listed = store
        .list(key)
        .await
        .map_err(|error| wrong("listing", error))?;
    if !listed.iter().any(|object| object.key == key) {
        return Err(Problem::new(
            format!(
                "{}: an object just written is not in the listing",
                store.location()
            ),
            "use a store whose listings are consistent: a claim believes them",
        ));
    }
    Ok(format!(
        "{}: written, read, listed and removed",
        store.location()
    ))
}

async fn conditions(store: &dyn ObjectStore, keys: &[String], stop: &CancellationToken) -> Finding {
    proceed(stop)?;
    let probe = &keys[0];
    honours_conditions(store, probe, Bytes::from_static(PROBE))
        .await
        .map_err(|error| distrusted(store, probe, &error))?;
    // A name beside the probe's, and one in each other folder: a folder that may not be written
    // refuses it too.
    let missing = format!("{probe}-missing");
    for key in [&missing, &keys[1], &keys[2]] {
        proceed(stop)?;
        let refused = refuses_to_create_on_match(store, key).await;
        if let Err(error) = refused {
            // What an answer that never came has made is removed with the rest.
            let tidied = tidy(store, key).await;
            return and_tidied(Err(distrusted(store, key, &error)), tidied);
        }
    }
    Ok("If-None-Match and If-Match are honoured".to_owned())
}

fn distrusted(store: &dyn ObjectStore, key: &str, error: &ConditionsError) -> Problem {
    match error {
        ConditionsError::Store(error) => wrong(store, "a conditional put of", key, error),
        ignored => Problem::new(
            ignored.to_string(),
            "use a server or a release that honours conditions on PUT: without them two writers \
             could land a record twice",
        ),
    }
}

fn proceed(stop: &CancellationToken) -> Result<(), Problem> {
    match stop.is_cancelled() {
        true => super::interrupted().map(|_| ()),
        false => Ok(()),
    }
}

/// Removes an object and makes sure of it.
async fn tidy(store: &dyn ObjectStore, key: &str) -> Result<(), Problem> {
    let mut why = String::new();
    for _ in 0..TIDYINGS_MAX {
        let deleted = store.delete(key).await;
        why = match (deleted, store.head(key).await) {
            (_, Err(StoreError::NotFound)) => return Ok(()),
            (Err(error), _) | (_, Err(error)) => error.to_string(),
            (Ok(()), Ok(_)) => "it is still there".to_owned(),
        };
    }
    Err(Problem::new(
        format!("{}/{key} may be left: {why}", store.location()),
        "remove it by hand if it is there; nothing reads it",
    ))
}

/// A finding, and what is left of the probe.
fn and_tidied(finding: Finding, tidied: Result<(), Problem>) -> Finding {
    match (finding, tidied) {
        (finding, Ok(())) => finding,
        (Ok(_), Err(problem)) => Err(problem),
        (Err(problem), Err(left)) => Err(Problem::new(
            format!("{}; {}", problem.answer, left.answer),
            format!("{}; {}", problem.mend, left.mend),
        )),
    }
}

fn wrong(store: &dyn ObjectStore, what: &str, key: &str, error: &StoreError) -> Problem {
    let answer = format!("{}: {what} {key}: {error}", store.location());
    Problem::new(answer, mend(error))
}

/// What to do about an error of the store.
fn mend(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unknown(_) => {
            "start the store, correct store.url and store.s3.endpoint, or let this machine reach it"
        }
        StoreError::Refused(_) => {
            "correct store.url, the bucket, the credentials or their permissions, as the answer says"
        }
        StoreError::Precondition | StoreError::NotFound | StoreError::Conflict => {
            "use a store that answers as S3 does: this answer does not fit the request"
        }
    }
}

#[cfg(test)]
mod tests;
