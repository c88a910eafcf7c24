//! The store: whether it answers, whether its folders can be listed, read and written, whether it
//! honours the conditions that exactly-once rests on, and what a bucket says of itself.
//!
//! A bucket is tried without writing to it: each put depends on a version that no object has. Only
//! a server other than Amazon's is also given an object, of a random name right below the
//! checkpoints' folder, to see whether it replaces it, and only where that can be removed again
//! without a trace. A claim takes only `GROUP/TOPIC/PARTITION.json` from there for a checkpoint, and
//! readers never look there. A folder of this machine keeps no versions: there each try writes.

mod conditions;
mod folder;
mod rights;
mod settings;

use std::time::Instant;

use super::closer::explain;
use super::diagnosis::{Peer, of_words, with_words};
use super::item::Limit;
use super::policy::Place;
use super::tls::Trust;
use super::{Item, Problem};
use crate::config;
use crate::store::conditions::probe_name;
use crate::store::s3::S3Store;
use crate::store::{ObjectStore, OpenError, SharedStore, StoreError, address_of};

const BUCKET: &str = "bucket";
const CONDITIONS: &str = "conditions";

/// One of the three folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Folder<'a> {
    /// Its key in the configuration, and the item's name.
    name: &'static str,
    /// Below the store's prefix, without slashes at its ends.
    path: &'a str,
}

impl Folder<'_> {
    fn of(settings: &config::Store) -> [Folder<'_>; 3] {
        [
            ("data", &settings.data),
            ("dead_letters", &settings.dead_letters),
            ("checkpoints", &settings.checkpoints),
        ]
        .map(|(name, path)| Folder { name, path })
    }
}

pub(super) async fn ask(
    settings: &config::Store,
    store: Result<SharedStore, OpenError>,
    limit: &Limit,
) -> Vec<Item> {
    let since = Instant::now();
    let unusable = |error: OpenError| {
        let problem = Problem::new(error.to_string(), "correct [store.s3]");
        unasked(settings, Item::new(BUCKET, since, problem))
    };
    let store = match store {
        Ok(store) => store,
        Err(error) => return unusable(error),
    };
    let config::StoreLocation::S3 { bucket, prefix } = &settings.location else {
        return folder::ask(settings, &*store, limit).await;
    };
    // The bucket's own settings are asked by one client, whichever speaks of the objects.
    let about = match S3Store::open(&settings.s3, bucket, prefix, None) {
        Ok(about) => about,
        Err(error) => return unusable(error),
    };
    let versioning = limit.wait(about.setting("versioning")).await;
    // Known by now, if there are any.
    let identity = limit.wait(about.identity()).await;
    let identity = identity.ok().and_then(Result::ok).flatten();
    let seen = settings::seen(settings, &store.location(), &versioning, limit);
    let mut seen = seen.map(|location| match identity {
        Some(place) => format!("{location}, with the credentials of {place}"),
        None => location,
    });
    if let Err(problem) = &seen
        && let Ok(address) = address_of(&settings.s3, bucket)
        && let Some(closer) = explain(
            Peer::Store,
            &address,
            trust(&settings.s3),
            &problem.answer,
            limit,
        )
        .await
    {
        seen = Err(closer);
    }
    let bucket = Item::new(BUCKET, since, seen);
    let Ok(Ok(versioning)) = versioning else {
        return unasked(settings, bucket);
    };
    if !bucket.finding.is_well() {
        return unasked(settings, bucket);
    }
    let clock = settings::clock(since, &versioning);
    let versions = settings::versioning(&versioning);
    let name = probe_name();
    let folders = Folder::of(settings);
    let [data, dead_letters, checkpoints] = folders;
    let (data, dead_letters, checkpoints, lifecycle) = tokio::join!(
        rights::try_folder(&*store, data, &name, limit),
        rights::try_folder(&*store, dead_letters, &name, limit),
        rights::try_folder(&*store, checkpoints, &name, limit),
        settings::lifecycle(&about, &versions, settings, limit),
    );
    let tried = [data, dead_letters, checkpoints];
    let mut items = vec![bucket];
    if let Some(place) = Place::of(settings) {
        items.extend(tried.iter().map(|tried| tried.item(&place)));
    }
    items.push(conditions::ask(settings, &*store, &tried, &versions, &name, limit).await);
    items.push(lifecycle);
    items.push(clock);
    items
}

/// What both clients believe.
fn trust(s3: &config::S3) -> Trust {
    Trust {
        file: s3.ca_file.as_ref().map(|file| file.path.clone()),
        is_system_trusted: true,
        checks_name: true,
        ..Trust::default()
    }
}

/// All of them, where the first says why no more is asked.
fn unasked(settings: &config::Store, bucket: Item) -> Vec<Item> {
    let mut items = vec![bucket];
    for name in Folder::of(settings).map(|folder| folder.name) {
        items.push(Item::new(name, Instant::now(), Problem::not_asked(BUCKET)));
    }
    items.push(Item::new(
        CONDITIONS,
        Instant::now(),
        Problem::not_asked(BUCKET),
    ));
    items
}

/// What is wrong where the store answered with an error; `doing` is what it was asked for.
fn problem(doing: &str, error: &StoreError) -> Problem {
    let answer = format!("{doing}: {error}");
    match of_words(Peer::Store, &answer) {
        Some(problem) => with_words(problem, &answer),
        None => Problem::new(answer, mend(error)),
    }
}

/// What to do about an error of the store that says no more than its words.
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

/// Whether a refusal is one of the right to do this, not of the credentials themselves.
fn is_denied(words: &str) -> bool {
    const OF_THE_CREDENTIALS: [&str; 6] = [
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "RequestTimeTooSkewed",
    ];
    words.contains("AccessDenied")
        || (words.starts_with("403") && !OF_THE_CREDENTIALS.iter().any(|code| words.contains(code)))
}

#[cfg(test)]
mod tests;
