//! What must hold in every state.

use std::collections::BTreeMap;
use std::sync::Arc;

use groundtrack::landing::offsets::OffsetSet;
use groundtrack::landing::protocol::checkpoint::{Checkpoint, Pending};
use groundtrack::landing::protocol::footer::{BatchFooter, Footer, Identity};
use stateright::Property;

use crate::model::{Budget, Protocol, State, Step, hash_of};
use crate::world::File;
use crate::writer::{Fate, PARTITION, TOPIC};

/// Whose files the strangers' are.
const STRANGER: &str = "stranger";

pub fn properties() -> Vec<Property<Protocol>> {
    vec![
        Property::always("no offset is in two objects", no_offset_twice),
        Property::always("all that has landed is there", landed_is_there),
        Property::always("batches tile what has landed", batches_tile),
        Property::always("objects prove their batch", objects_prove),
        Property::always("no loss without the word", no_loss_without_word),
        Property::always("rows are of our log", rows_are_ours),
        Property::always("no version comes back", no_version_comes_back),
        Property::always("it can go on", can_go_on),
    ]
}

fn checkpoints(state: &State) -> impl Iterator<Item = &Checkpoint> {
    state
        .store
        .checkpoints
        .values()
        .map(|stored| &stored.checkpoint)
}

fn ours(state: &State) -> impl Iterator<Item = (&String, &Arc<File>)> {
    let files = state.store.files.iter();
    files.filter(|(_, file)| file.footer.identity.group != STRANGER)
}

/// Readers read every object, whether its batch has landed or not.
fn no_offset_twice(_: &Protocol, state: &State) -> bool {
    let mut seen = OffsetSet::default();
    ours(state).all(|(_, file)| {
        let is_new = seen.minus(&file.rows).len() == seen.len();
        seen = seen.union(&file.rows);
        is_new
    })
}

/// Each record below `next_offset` is a row, or recorded as lost and gone from Kafka.
fn landed_is_there(model: &Protocol, state: &State) -> bool {
    checkpoints(state).all(|checkpoint| {
        let range = (checkpoint.first_offset, checkpoint.next_offset);
        let all = OffsetSet::from_range(range.0, range.1).minus(&model.log.holes);
        let mut held = OffsetSet::default();
        for (key, file) in ours(state) {
            held = held.union(&file.rows);
            if let Some([from, to]) = recorded_loss(key, file) {
                let gone = OffsetSet::from_range(from, to.min(state.past.removed_to));
                held = held.union(&gone);
            }
        }
        all.minus(&held).is_empty()
    })
}

/// A loss counts where the dead letters, the last key of a batch, record it.
fn recorded_loss(key: &str, file: &File) -> Option<[i64; 2]> {
    let footer = &file.footer;
    let is_last = footer.batch.keys.last().is_some_and(|last| last == key);
    footer.file.gap.filter(|_| is_last)
}

/// Ranges of objects lie one behind the other from `first_offset` to `next_offset`; what lies
/// behind is of the pending range.
fn batches_tile(_: &Protocol, state: &State) -> bool {
    if state.past.deleted && state.store.checkpoints.is_empty() {
        return true;
    }
    let mut ranges: BTreeMap<(&str, i64), i64> = BTreeMap::new();
    for (_, file) in ours(state) {
        let batch = &file.footer.batch;
        let group = file.footer.identity.group.as_str();
        let end = *ranges.entry((group, batch.start)).or_insert(batch.end);
        if end != batch.end {
            return false;
        }
    }
    state.store.checkpoints.iter().all(|(key, stored)| {
        let checkpoint = &stored.checkpoint;
        let mut at = checkpoint.first_offset;
        let group = key.split('/').nth(1).unwrap_or_default();
        for ((_, start), end) in ranges.iter().filter(|((other, _), _)| *other == group) {
            if *start != at {
                return false;
            }
            at = *end;
        }
        let pending_end = checkpoint
            .pending
            .as_ref()
            .map_or(checkpoint.next_offset, |pending| pending.end);
        at == checkpoint.next_offset || at == pending_end
    })
}

/// From the objects alone: of a landed range every data key is there, all name the same keys and
/// layout, are made by it, and together they are what a footer names, or a loss is recorded.
fn objects_prove(_: &Protocol, state: &State) -> bool {
    checkpoints(state).all(|checkpoint| {
        let mut batches: BTreeMap<i64, Vec<(&String, &Arc<File>)>> = BTreeMap::new();
        for (key, file) in ours(state) {
            let batch = &file.footer.batch;
            if *file.layout != batch.layout {
                return false;
            }
            if batch.end <= checkpoint.next_offset {
                batches.entry(batch.start).or_default().push((key, file));
            }
        }
        batches.values().all(|files| {
            let first = &files[0].1.footer.batch;
            let (keys, layout) = (&first.keys, &first.layout);
            let alike = |file: &Arc<File>| {
                &file.footer.batch.keys == keys && &file.footer.batch.layout == layout
            };
            let data = &keys[..keys.len() - 1];
            let is_there = |key: &String| files.iter().any(|(known, _)| *known == key);
            let all = files
                .iter()
                .fold(OffsetSet::default(), |all, (_, file)| all.union(&file.rows));
            let named = files
                .iter()
                .any(|(_, file)| file.footer.batch.offsets == all.digest());
            let is_lost = files
                .iter()
                .any(|(key, file)| recorded_loss(key, file).is_some());
            files.iter().all(|(_, file)| alike(file))
                && data.iter().all(is_there)
                && (named || is_lost)
        })
    })
}

/// A loss is recorded only for offsets that the operator gave his word for.
fn no_loss_without_word(_: &Protocol, state: &State) -> bool {
    let mut recorded = ours(state).filter_map(|(key, file)| recorded_loss(key, file));
    let mut pending = checkpoints(state).filter_map(|checkpoint| checkpoint.pending.as_ref()?.gap);
    !state.skips.is_empty() || (recorded.next().is_none() && pending.next().is_none())
}

/// Records of a topic made anew at the same offsets never count as ours.
fn rows_are_ours(_: &Protocol, state: &State) -> bool {
    ours(state).all(|(_, file)| {
        file.rows.is_empty() || file.footer.identity.topic_id == format!("t{}", file.log)
    })
}

fn no_version_comes_back(_: &Protocol, state: &State) -> bool {
    let mut versions = state.versions.clone();
    versions.sort_unstable();
    versions.windows(2).all(|pair| pair[0] != pair[1])
}

/// Whether, once the faults cease, all that the log holds lands, or the partition stops for a
/// cause that explains itself by what the world did.
fn can_go_on(model: &Protocol, state: &State) -> bool {
    let mut followed = Vec::new();
    let mut state = state.clone();
    // What is left of faults makes no difference any more.
    state.budget = Budget::default();
    let answer = loop {
        let hash = hash_of(&state);
        if let Some(known) = model.can_go_on.lock().unwrap().get(&hash) {
            break *known;
        }
        followed.push(hash);
        // Far above what landing four offsets takes: then it goes in circles.
        if followed.len() > STEPS_MAX {
            break false;
        }
        match calm_step(model, &state) {
            Some(step) => model.act(&mut state, step),
            None => break is_done(model, &state),
        }
    };
    let mut known = model.can_go_on.lock().unwrap();
    known.extend(followed.into_iter().map(|hash| (hash, answer)));
    answer
}

const STEPS_MAX: usize = 400;

/// The next step while nothing goes wrong: writers hear of what they have lost, requests are
/// answered, the consumer reads as far as it can.
pub fn calm_step(model: &Protocol, state: &State) -> Option<Step> {
    for (index, writer) in state.writers.iter().enumerate() {
        if writer.is_assigned && state.owner[model.group(index)] != index {
            return Some(Step::Revoked(index));
        }
    }
    let mut steps = Vec::new();
    for index in 0..state.writers.len() {
        model.own_steps(state, index, &mut steps);
    }
    let rank = |step: &Step| match step {
        Step::Desk(..) | Step::Object(..) => 3,
        Step::Absorb(_) => 2,
        Step::Claim(_) => 1,
        _ => 0,
    };
    steps.into_iter().max_by_key(rank)
}

/// All has landed, or each owner's stop is explained.
fn is_done(model: &Protocol, state: &State) -> bool {
    let mut groups: Vec<usize> = (0..model.setups.len())
        .map(|index| model.group(index))
        .collect();
    groups.dedup();
    let is_shared = groups.len() > 1;
    groups.into_iter().all(|group| {
        let owner = &state.writers[state.owner[group]];
        let past = &state.past;
        match &owner.stopped {
            Some(cause) if cause.starts_with("gap") => past.removed_to > 0,
            Some(cause) if cause.starts_with("kafka holds another log") => past.renewed,
            Some(cause) if cause.starts_with("foreign") => {
                past.deleted || past.stranger || is_shared
            }
            Some(cause) => past.deleted && (cause.contains("checkpoint") || cause == "vanished"),
            None => {
                let key = model.setups[group].checkpoint_key();
                let Some(stored) = state.store.checkpoints.get(&key) else {
                    // Nothing was left to write, so nobody has found out yet.
                    return past.deleted;
                };
                let checkpoint = &stored.checkpoint;
                let reached = checkpoint.next_offset.max(checkpoint.holes_to);
                checkpoint.pending.is_none() && reached >= state.log.high
            }
        }
    })
}

/// An object of another group under a key of a pending range.
pub fn strangers_file(start: i64, end: i64, pending: &Pending) -> File {
    let rows = OffsetSet::from_range(start, end);
    File {
        footer: Footer::new(
            Identity {
                cluster_id: "c".into(),
                topic_id: "t1".into(),
                topic: TOPIC.into(),
                partition: PARTITION,
                group: STRANGER.into(),
            },
            String::new(),
            rows.digest(),
            false,
            None,
            BatchFooter {
                start,
                end,
                keys: pending.keys.clone(),
                layout: pending.layout.clone(),
                offsets: rows.digest(),
            },
        ),
        rows,
        log: 1,
        layout: Arc::new(pending.layout.clone()),
    }
}

/// For who prints a path: the fate is said only where it is a fault.
pub fn said(step: &Step) -> String {
    match step {
        Step::Desk(writer, Fate::Answered) => format!("checkpoint request of {writer}"),
        Step::Object(writer, Fate::Answered) => format!("object request of {writer}"),
        other => format!("{other:?}"),
    }
}
