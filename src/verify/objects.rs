//! Looks at one object: whose it is, whether it belongs under its key, and what its rows hold.

use std::collections::BTreeMap;

use crate::inventory::{Amount, Entry, Rows, RowsError, Said, open};
use crate::landing::protocol::footer::Identity;
use crate::landing::protocol::keys::Names;
use crate::store::{ObjectStore, StoreError};

use super::finding::{Finding, Kind};
use super::member::{Member, misplaced};
use super::scope::{Place, Scope};

/// What an object turned out to be.
#[derive(Debug)]
pub(super) enum Looked {
    /// Of the batch that its name says. Its rows were read where they are to be proven.
    Member(Box<Member>),
    /// Something that is to be told, and no part of a batch.
    Found(Finding),
    /// It could not be read, which is to be told.
    Unread(Finding),
    /// It was removed since it was listed.
    Gone,
}

/// Looks at an object.
pub(super) async fn look(
    store: &dyn ObjectStore,
    names: &Names,
    scopes: &BTreeMap<i32, Scope>,
    entry: &Entry,
) -> Looked {
    let Entry { key, name, .. } = entry;
    let is_wanted = name.is_some_and(|name| {
        let scope = scopes.get(&name.partition);
        scope.is_some_and(|scope| scope.place(name.first, name.last + 1) == Place::Proven)
    });
    let about = |finding: Finding| {
        let finding = finding.in_object(key);
        match name {
            Some(name) => finding.of(name.partition).at(name.first, name.last + 1),
            None => finding,
        }
    };
    let unread = |why: String| Looked::Unread(about(Finding::new(Kind::Unread, why)));
    let amount = match is_wanted {
        true => Amount::Rows,
        false => Amount::Footer,
    };
    let opened = match open(store, key, entry.size_bytes, amount).await {
        Ok(opened) => opened,
        Err(StoreError::NotFound) => return Looked::Gone,
        Err(error) => return unread(error.to_string()),
    };
    let footer = match &opened.said {
        Said::Ours(footer) => footer.clone(),
        Said::Unknown(why) => return unread(why.clone()),
        Said::NotOurs(why) => {
            return Looked::Found(about(match name {
                Some(_) => Finding::new(
                    Kind::Foreign,
                    format!("{why}, though it has a name of ours"),
                ),
                None => Finding::new(Kind::Other, why.clone()),
            }));
        }
    };
    let ours = match scopes.get(&footer.identity.partition) {
        Some(scope) => scope.identity.clone(),
        None => Identity {
            cluster_id: String::new(),
            topic_id: String::new(),
            topic: names.topic.clone(),
            partition: footer.identity.partition,
            group: names.group.clone(),
        },
    };
    if let Some(finding) = misplaced(key, *name, &footer, &ours) {
        return Looked::Found(finding);
    }
    let rows = match is_wanted {
        true => opened.rows(store, key).await,
        false => Ok(Rows::default()),
    };
    match rows {
        Ok(rows) => Looked::Member(Box::new(Member {
            key: key.clone(),
            footer: *footer,
            rows,
            modified_ms: entry.modified_ms,
        })),
        Err(RowsError::Store(StoreError::NotFound)) => Looked::Gone,
        Err(error) => unread(error.to_string()),
    }
}
