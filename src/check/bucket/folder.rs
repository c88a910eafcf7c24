//! A folder of this machine: each of its folders is written, read, listed and tidied.

use std::time::Instant;

use bytes::Bytes;

use super::super::item::Limit;
use super::super::{Item, Problem};
use super::conditions::{PROBE, and_left, by_an_object};
use super::rights::left_of;
use super::{BUCKET, CONDITIONS, Folder, problem};
use crate::config;
use crate::store::conditions::probe_name;
use crate::store::{Condition, ObjectStore, StoreError};

pub(super) async fn ask(
    settings: &config::Store,
    store: &dyn ObjectStore,
    limit: &Limit,
) -> Vec<Item> {
    let name = probe_name();
    let since = Instant::now();
    let mut folders = Vec::new();
    for folder in Folder::of(settings) {
        let since = Instant::now();
        let key = format!("{}/{name}", folder.path);
        let tried = match limit.wait(write_and_read(store, &key)).await {
            Ok(tried) => tried,
            Err(cut) => Err(cut.problem(limit, &key, "ask again later")),
        };
        let tried = match (tried, left_of(store, &key, limit).await) {
            (Ok(_), Some(left)) => Err(Problem::new(left, "remove it by hand")),
            (tried, left) => tried.map_err(|problem| and_left(problem, left)),
        };
        folders.push(Item::new(folder.name, since, tried));
    }
    let is_well = folders.iter().all(|item| item.finding.is_well());
    let bucket = match is_well {
        true => Ok(store.location()),
        false => Err(Problem::new(
            format!("{}: see its folders", store.location()),
            "mend them first",
        )),
    };
    let mut items = vec![Item::new(BUCKET, since, bucket)];
    items.append(&mut folders);
    let since = Instant::now();
    let key = format!("{}/{name}-conditions", settings.checkpoints);
    let conditions = match is_well {
        true => by_an_object(store, &key, limit).await,
        false => Problem::not_asked(BUCKET).into(),
    };
    items.push(Item::new(CONDITIONS, since, conditions));
    items
}

async fn write_and_read(store: &dyn ObjectStore, key: &str) -> Result<String, Problem> {
    let body = Bytes::from_static(PROBE);
    let wrong = |what: &'static str| {
        move |error: StoreError| problem(&format!("{}: {what} {key}", store.location()), &error)
    };
    store
        .put(key, body.clone(), Some(Condition::Absent))
        .await
        .map_err(wrong("creating"))?;
    let read = store.get(key).await.map_err(wrong("reading"))?;
    if read.body != body {
        return Err(Problem::new(
            format!("{key} was read with other bytes than were written"),
            "use a disk that keeps what it is given",
        ));
    }
    let listed = store.list(key).await.map_err(wrong("listing"))?;
    if !listed.iter().any(|object| object.key == key) {
        return Err(Problem::new(
            format!("{key}: a file just written is not in its folder"),
            "use a file system whose listings are consistent: a claim believes them",
        ));
    }
    let folder = key.rsplit_once('/').map_or(key, |(folder, _)| folder);
    Ok(format!("{folder}/ was written, read, listed and tidied"))
}
