//! One object: what it must be to belong under its key, and whether its rows are what its footer
//! says. Pure.

use crate::inventory::Rows;
use crate::landing::offsets::OffsetSet;
use crate::landing::protocol::footer::{Footer, Identity, differ};
use crate::landing::protocol::keys::NamedRange;

use super::finding::{Finding, Kind};

/// Ranges of one batch that are listed one by one; of more, what is left is one finding.
const RANGES_MAX: usize = 1000;

/// An object of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) key: String,
    pub(super) footer: Footer,
    pub(super) rows: Rows,
    pub(super) modified_ms: i64,
}

/// Whether an object with a footer of ours belongs under its key; else what it is.
pub(super) fn misplaced(
    key: &str,
    name: Option<NamedRange>,
    footer: &Footer,
    ours: &Identity,
) -> Option<Finding> {
    let found = &footer.identity;
    let batch = &footer.batch;
    let whole = |finding: Finding| {
        let finding = finding.in_object(key).at(batch.start, batch.end);
        finding.of(found.partition)
    };
    let foreign = |why: String| Some(whole(Finding::new(Kind::Foreign, why)));
    if found.topic != ours.topic {
        let why = format!("it holds records of the topic {}", found.topic);
        return match name {
            Some(_) => foreign(format!("{why}, under a name of {}", ours.topic)),
            None => Some(whole(Finding::new(Kind::Other, why))),
        };
    }
    if found.group != ours.group {
        return foreign(format!(
            "it was landed by the group {}, in the folders of {}: its records are there twice for whoever reads them",
            found.group, ours.group
        ));
    }
    if !batch.keys.iter().any(|listed| listed == key) {
        let named = name.map_or(String::new(), |name| {
            format!(
                "its name says partition {} [{}, {}); ",
                name.partition,
                name.first,
                name.last.saturating_add(1)
            )
        });
        let why = format!(
            "{named}by its footer it belongs to the batch partition {} [{}, {}), which does not list this key: a copy, or put in another's place",
            found.partition, batch.start, batch.end
        );
        return Some(whole(Finding::new(Kind::Doubled, why)));
    }
    let is_named = name.is_some_and(|name| {
        name.partition == found.partition
            && name.first == batch.start
            && name.last.checked_add(1) == Some(batch.end)
    });
    if !is_named {
        return foreign(format!(
            "its footer says partition {} [{}, {}), its name does not: the footer lies",
            found.partition, batch.start, batch.end
        ));
    }
    for (what, found, ours) in [
        ("cluster", &found.cluster_id, &ours.cluster_id),
        ("topic", &found.topic_id, &ours.topic_id),
    ] {
        if differ(found, ours) {
            return foreign(format!(
                "it is of the {what} with the id {found}, the checkpoint of {ours}: another log"
            ));
        }
    }
    None
}

/// What is wrong with the rows of an object, by its own footer.
pub(super) fn judge_rows(member: &Member) -> Vec<Finding> {
    let Member {
        key, footer, rows, ..
    } = member;
    let partition = footer.identity.partition;
    let batch = &footer.batch;
    let mut findings = Vec::new();
    let mut found = |kind, offsets: Option<(i64, i64)>, why: String| {
        let (from, to) = offsets.unwrap_or((batch.start, batch.end));
        findings.push(
            Finding::new(kind, why)
                .of(partition)
                .at(from, to)
                .in_object(key),
        );
    };
    if let Some(other) = rows.partitions.iter().find(|other| **other != partition) {
        found(
            Kind::Foreign,
            None,
            format!("it holds rows of partition {other}"),
        );
    }
    for (from, to) in limited(&rows.twice) {
        found(
            Kind::Doubled,
            Some((from, to)),
            "it holds these offsets more than once".to_owned(),
        );
    }
    let outside = rows
        .offsets
        .minus(&OffsetSet::from_range(batch.start, batch.end));
    for (from, to) in limited(&outside) {
        found(
            Kind::Foreign,
            Some((from, to)),
            format!(
                "it holds these offsets, its batch is [{}, {})",
                batch.start, batch.end
            ),
        );
    }
    let (named, holds) = (footer.file.offsets, rows.offsets.digest());
    if rows.count < named.count {
        let why = format!(
            "it holds {} rows, its footer names {}",
            rows.count, named.count
        );
        found(Kind::Missing, None, why);
    } else if rows.count > named.count {
        let why = format!(
            "it holds {} rows, its footer names {}",
            rows.count, named.count
        );
        found(Kind::Foreign, None, why);
    } else if holds != named {
        found(
            Kind::Foreign,
            None,
            "it holds other offsets than its footer names".to_owned(),
        );
    }
    let rejects = match is_dead_letters(member) {
        true => named.count,
        false => 0,
    };
    if footer.file.rejects != rejects {
        let why = format!(
            "its footer says {} dead letters, which should be {rejects}",
            footer.file.rejects
        );
        found(Kind::Foreign, None, why);
    }
    findings
}

/// The dead letters' key is the last that is listed.
pub(super) fn is_dead_letters(member: &Member) -> bool {
    member.footer.batch.keys.last() == Some(&member.key)
}

pub(super) fn intersection(left: &OffsetSet, right: &OffsetSet) -> OffsetSet {
    left.minus(&left.minus(right))
}

/// The ranges of a set; behind [`RANGES_MAX`] of them, one that spans the rest.
pub(super) fn limited(set: &OffsetSet) -> impl Iterator<Item = (i64, i64)> {
    let ranges = set.ranges();
    let rest = ranges.get(RANGES_MAX..).unwrap_or_default();
    let span = rest
        .first()
        .zip(rest.last())
        .map(|(first, last)| (first.0, last.1));
    ranges.iter().take(RANGES_MAX).copied().chain(span)
}
