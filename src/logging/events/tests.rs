//! The events against the code that logs them and against the catalog that explains them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::*;
use crate::logging::journal::field_name;

const CATALOG: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/systemd/groundtrack.catalog"
));

/// What journald and the journal's drain add to every entry.
const STANDARD: [&str; 3] = ["MESSAGE", "EVENT", "_SYSTEMD_UNIT"];

/// What a group's and an actor's logger carry.
const CARRIED: [&str; 4] = ["group", "generation", "actor", "topic"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path.file_name().is_some_and(|name| name != "tests.rs")
        {
            found.push(path);
        }
    }
}

/// The code of this crate by path, without its unit tests.
fn code() -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut paths,
    );
    let code = paths.into_iter().map(|path| {
        let text = std::fs::read_to_string(&path).unwrap();
        text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        (path, text.to_owned())
    });
    code.collect()
}

/// What stands between the parentheses of every call that logs or makes a logger.
fn calls() -> Vec<(PathBuf, String)> {
    let mut calls = Vec::new();
    for (path, text) in code() {
        for name in ["error!(", "warn!(", "info!(", "debug!(", "trace!(", "o!("] {
            for (at, _) in text.match_indices(name) {
                let is_word = text[..at].ends_with(|before: char| before.is_alphanumeric());
                if !is_word {
                    let call = inside(&text[at + name.len()..]).to_owned();
                    calls.push((path.clone(), call));
                }
            }
        }
    }
    calls
}

/// Up to the parenthesis that closes; parentheses in text count for nothing.
fn inside(text: &str) -> &str {
    let (mut depth, mut is_text, mut is_escaped) = (1, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_text => is_escaped = true,
            '"' => is_text = !is_text,
            '(' if !is_text => depth += 1,
            ')' if !is_text => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    panic!("no end: {text}");
}

/// The keys of a call: text before an arrow.
fn keys(call: &str) -> BTreeSet<&str> {
    let before = call.split(" =>").collect::<Vec<_>>();
    let keys = before[..before.len() - 1].iter().filter_map(|part| {
        let part = part.strip_suffix('"')?;
        part.rsplit('"').next()
    });
    keys.collect()
}

/// The names of the events that a call may be of.
fn events_of(call: &str) -> Vec<&'static str> {
    let named = |event: &&Event| {
        let constant = event.name.to_uppercase().replace('-', "_");
        let ends =
            |rest: &str| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_');
        call.split("events::")
            .skip(1)
            .any(|rest| rest.strip_prefix(constant.as_str()).is_some_and(ends))
    };
    ALL.iter().filter(named).map(|event| event.name).collect()
}

/// The catalog: by message id the subject and the text.
fn catalog() -> BTreeMap<String, (String, String)> {
    let mut entries = BTreeMap::new();
    for entry in CATALOG.split("\n-- ").skip(1) {
        let (id, rest) = entry.split_once('\n').unwrap();
        let (head, text) = rest.split_once("\n\n").unwrap();
        let subject = head.lines().find_map(|line| line.strip_prefix("Subject: "));
        let entry = (subject.unwrap().to_owned(), text.trim().to_owned());
        assert!(head.contains("\nDefined-By: groundtrack\n"), "{head}");
        assert_eq!(
            entries.insert(id.to_owned(), entry),
            None,
            "{id} is there twice"
        );
    }
    entries
}

#[test]
fn names_and_ids_are_each_there_once() {
    let names: BTreeSet<&str> = ALL.iter().map(|event| event.name).collect();
    let ids: BTreeSet<u128> = ALL.iter().map(|event| event.id).collect();
    assert_eq!((names.len(), ids.len()), (ALL.len(), ALL.len()));
}

#[test]
fn every_event_is_explained_and_nothing_else_is() {
    let explained: BTreeSet<String> = catalog().into_keys().collect();
    let known: BTreeSet<String> = ALL.iter().map(Event::message_id).collect();
    let named = |ids: BTreeSet<&String>| {
        let event = |id: &&String| ALL.iter().find(|event| event.message_id() == **id);
        let names = ids
            .iter()
            .map(|id| event(id).map_or(id.as_str(), |event| event.name));
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let missing = named(known.difference(&explained).collect());
    let unknown = named(explained.difference(&known).collect());
    assert_eq!((missing, unknown), (vec![], vec![]));
    for (id, (subject, text)) in catalog() {
        assert!(!subject.is_empty() && text.len() > 40, "{id}: {subject}");
    }
}

#[test]
fn every_event_is_logged_somewhere() {
    let code: Vec<String> = code().into_iter().map(|(_, text)| text).collect();
    let code = code.join("\n");
    let unused = ALL.iter().filter(|event| {
        let constant = format!("events::{}", event.name.to_uppercase().replace('-', "_"));
        !code.contains(&constant)
    });
    let unused: Vec<&str> = unused.map(|event| event.name).collect();
    assert_eq!(unused, [""; 0]);
}

#[test]
fn every_key_is_a_field_of_its_own_name_in_the_journal() {
    let calls = calls();
    let keys: BTreeSet<&str> = calls.iter().flat_map(|(_, call)| keys(call)).collect();
    assert!(keys.len() > 30 && keys.contains("partition"), "{keys:?}");
    for key in keys {
        let is_plain = |character: char| character.is_ascii_lowercase() || character == '_';
        assert!(key.chars().all(is_plain), "{key} has other than a-z and _");
        assert_eq!(field_name(key), key.to_uppercase(), "{key} is taken");
        assert_ne!(key, KEY, "an event is named by its constant");
    }
}

#[test]
fn no_line_names_again_what_its_logger_carries() {
    for (path, call) in calls() {
        let is_actors = ["/ingest/", "/landing/", "/web/"]
            .iter()
            .any(|folder| path.to_string_lossy().contains(folder));
        let twice = keys(&call).into_iter().find(|key| CARRIED.contains(key));
        if let Some(key) = twice.filter(|_| is_actors) {
            panic!("{key} is twice in a line of {}: {call}", path.display());
        }
    }
}

#[test]
fn the_catalog_uses_only_fields_that_the_events_lines_have() {
    let mut fields: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let calls = calls();
    for (_, call) in &calls {
        let mut own: BTreeSet<String> = keys(call).iter().map(|key| key.to_uppercase()).collect();
        let mut events = events_of(call);
        if call.contains("words::event(") {
            events.extend(["partition-gap", "other-log", "foreign", "unreadable"]);
            events.push("partition-stopped");
        }
        // Requests of a place name the event by the place.
        if call.contains("; event,") {
            events.extend([
                "store-unreachable",
                "store-back",
                "broker-unreachable",
                "topic-missing",
                "topic-back",
                "broker-back",
            ]);
        }
        if call.contains("question") {
            own.insert("REQUEST".to_owned());
        }
        if call.contains("example(") {
            own.extend(["PARTITION", "OFFSET", "CAUSE"].map(str::to_owned));
        }
        for event in events {
            fields.entry(event).or_default().extend(own.clone());
        }
    }
    for name in ["LINES", "SECONDS", "ERROR"] {
        fields
            .entry("lines-lost")
            .or_default()
            .insert(name.to_owned());
    }
    let catalog = catalog();
    for event in ALL {
        let (subject, text) = &catalog[&event.message_id()];
        let used = format!("{subject}\n{text}");
        // Every second piece stands between two signs.
        for field in used.split('@').skip(1).step_by(2) {
            let known = fields
                .get(event.name)
                .is_some_and(|own| own.contains(field))
                || STANDARD.contains(&field)
                || CARRIED.contains(&field.to_lowercase().as_str());
            assert!(known, "@{field}@ of {} is in none of its lines", event.name);
        }
    }
}
