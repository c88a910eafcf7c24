//! What the objects of a batch must hold together. Pure.

use crate::landing::offsets::{OffsetDigest, OffsetSet};

use super::finding::{Finding, Kind};
use super::member::{Member, intersection, is_dead_letters, judge_rows, limited};

/// Offsets that are not there are digested one by one, a second for so many: a footer that lies
/// could name any number.
const DIGESTED_MAX: u64 = 1 << 30;

/// Which objects of a batch the bucket's owner may have removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    /// None.
    None,
    /// Those listed before the first one that is there: they were created before it.
    Earlier,
    /// Any.
    Any,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Judged {
    pub(super) findings: Vec<Finding>,
    /// What its objects hold.
    pub(super) held: OffsetSet,
    /// The loss that is recorded in it.
    pub(super) gap: Option<(i64, i64)>,
    /// Whether all of it was there and read: only then `held` can be compared with Kafka.
    pub(super) is_whole: bool,
    pub(super) rows: u64,
    pub(super) dead_letters: u64,
    /// Offsets that are recorded as lost.
    pub(super) lost: u64,
    /// Offsets of the range that were never read.
    pub(super) holes: u64,
}

/// Judges the objects of one batch, all of which belong under their keys; `unread` are the keys
/// of which that is not known. There is one member at least.
pub(super) fn judge(mut members: Vec<Member>, unread: &[String], expiry: Expiry) -> Judged {
    let mut judged = Judged::default();
    let Some(batch) = members.first().map(|member| member.footer.batch.clone()) else {
        return judged;
    };
    let partition = members[0].footer.identity.partition;
    let place = |key: &String| batch.keys.iter().position(|listed| listed == key);
    members.sort_by_key(|member| place(&member.key));
    let whole = |kind, why: String| {
        Finding::new(kind, why)
            .of(partition)
            .at(batch.start, batch.end)
    };

    for member in &members {
        judged.findings.extend(judge_rows(member));
        if member.footer.batch.keys != batch.keys || member.footer.batch.layout != batch.layout {
            let why = "its footer lists other keys or another layout than the footers beside it: the footer lies";
            judged
                .findings
                .push(whole(Kind::Foreign, why.to_owned()).in_object(&member.key));
        }
        // Of two writers the later one read the same or less: as many are the same.
        let (named, first) = (member.footer.batch.offsets, batch.offsets);
        if named.count == first.count && named.sum != first.sum {
            let why = "its footer names other records than a footer beside it: the footer lies";
            judged
                .findings
                .push(whole(Kind::Foreign, why.to_owned()).in_object(&member.key));
        }
        let again = intersection(&member.rows.offsets, &judged.held);
        for (from, to) in limited(&again) {
            let why = "another object of the batch holds these offsets too";
            judged.findings.push(
                whole(Kind::Doubled, why.to_owned())
                    .at(from, to)
                    .in_object(&member.key),
            );
        }
        judged.held = judged.held.union(&member.rows.offsets);
        match is_dead_letters(member) {
            true => {
                judged.dead_letters += member.rows.count;
                judged.gap = member.footer.file.gap.map(|[from, to]| (from, to));
            }
            false => judged.rows += member.rows.count,
        }
    }

    let first_there = batch
        .keys
        .iter()
        .position(|key| members.iter().any(|member| member.key == *key));
    let dead_letters = batch.keys.last();
    let mut is_expired = false;
    let mut is_absent = false;
    for (index, key) in batch.keys.iter().enumerate() {
        if members.iter().any(|member| member.key == *key) || unread.contains(key) {
            continue;
        }
        let may_be_expired = match expiry {
            Expiry::None => false,
            Expiry::Earlier => first_there.is_some_and(|first| index < first),
            Expiry::Any => true,
        };
        if Some(key) == dead_letters {
            // It may be left out; what all hold tells.
            is_expired |= may_be_expired;
        } else if may_be_expired {
            is_expired = true;
            let why = "it is not there, and may have been removed for its age";
            judged
                .findings
                .push(whole(Kind::Unproven, why.to_owned()).in_object(key));
        } else {
            is_absent = true;
            let why = "the footers of its batch list it, and it is not there";
            judged
                .findings
                .push(whole(Kind::Missing, why.to_owned()).in_object(key));
        }
    }
    if unread.is_empty() {
        let (findings, lost) = judge_whole(&members, &judged, is_expired);
        let is_clean = findings.iter().all(|finding| finding.kind == Kind::Gap);
        judged.is_whole = !is_absent && (!is_expired || is_clean);
        judged.findings.extend(findings);
        judged.lost = lost;
    }
    let range = OffsetSet::from_range(batch.start, batch.end);
    judged.holes = range.minus(&judged.held).len() - judged.lost;
    judged
}

/// What is wrong with what all objects of a batch hold together, and how many offsets are recorded
/// as lost.
fn judge_whole(members: &[Member], judged: &Judged, is_expired: bool) -> (Vec<Finding>, u64) {
    let batch = &members[0].footer.batch;
    let partition = members[0].footer.identity.partition;
    let whole = |kind, why: String| {
        Finding::new(kind, why)
            .of(partition)
            .at(batch.start, batch.end)
    };
    let largest = |of: &mut dyn Iterator<Item = &Member>| {
        of.map(|member| member.footer.batch.offsets)
            .max_by_key(|named| named.count)
    };
    let knew_no_loss = |member: &&Member| member.footer.file.gap.is_none();
    let without_loss = largest(&mut members.iter().filter(knew_no_loss));
    let Some(named) = largest(&mut members.iter()) else {
        return (Vec::new(), 0);
    };
    let holds = judged.held.digest();
    let is_all = members.iter().filter(knew_no_loss).any(|member| {
        member.footer.batch.offsets == holds
            && Some(holds.count) == without_loss.map(|named| named.count)
    });
    let Some((from, to)) = judged.gap else {
        if is_all {
            return (Vec::new(), 0);
        }
        if is_expired {
            let why = "its objects that are left do not hold all that their footers name";
            return (vec![whole(Kind::Unproven, why.to_owned())], 0);
        }
        return match without_loss {
            Some(named) => (differences(named, judged, whole), 0),
            None => {
                let why = "its footers tell of lost records, and the object that has to record the loss is not there";
                let key = batch.keys.last().map_or("", String::as_str);
                (vec![whole(Kind::Missing, why.to_owned()).in_object(key)], 0)
            }
        };
    };
    let key = batch.keys.last().map_or("", String::as_str);
    let claim = |kind, why: String| {
        vec![
            Finding::new(kind, why)
                .of(partition)
                .at(from, to)
                .in_object(key),
        ]
    };
    if from >= to || from < batch.start || to > batch.end {
        let why = format!(
            "it claims a gap that is no part of its batch [{}, {})",
            batch.start, batch.end
        );
        return (claim(Kind::Foreign, why), 0);
    }
    let lost = OffsetSet::from_range(from, to).minus(&judged.held);
    if is_all || lost.is_empty() {
        let why = "it claims a gap that is none: the objects of its batch hold all that their footers name";
        return (claim(Kind::Foreign, why.to_owned()), 0);
    }
    let missing = i128::from(named.count) - i128::from(holds.count);
    let is_explained = match missing {
        0 => holds == named,
        // Compaction may have taken others of the gap before.
        1.. if missing < i128::from(lost.len()) => true,
        1.. if lost.len() > DIGESTED_MAX => missing == i128::from(lost.len()),
        1.. => missing == i128::from(lost.len()) && sum(holds, lost.digest()) == named,
        _ => false,
    };
    if !is_explained && is_expired {
        let why = "its objects that are left do not hold all that their footers name";
        return (vec![whole(Kind::Unproven, why.to_owned())], lost.len());
    }
    if !is_explained {
        let mut beside = judged.clone();
        beside.held = judged.held.union(&lost);
        return (
            differences(sum(named, OffsetDigest::default()), &beside, whole),
            lost.len(),
        );
    }
    let why = format!(
        "{} offsets were lost before they landed, and passed by the operator's word",
        lost.len()
    );
    (claim(Kind::Gap, why), lost.len())
}

/// How what is held differs from what was read: which offsets are missing, where that is certain.
fn differences(
    named: OffsetDigest,
    judged: &Judged,
    whole: impl Fn(Kind, String) -> Finding,
) -> Vec<Finding> {
    let holds = judged.held.digest();
    if holds.count > named.count {
        let why = format!(
            "its objects hold {} records, their footers name {}",
            holds.count, named.count
        );
        return vec![whole(Kind::Foreign, why)];
    }
    if holds.count == named.count {
        let why = "its objects hold other records than their footers name";
        return vec![whole(Kind::Foreign, why.to_owned())];
    }
    let hull = whole(Kind::Missing, String::new());
    let (start, end) = hull.offsets.unwrap_or_default();
    let absent = OffsetSet::from_range(start, end).minus(&judged.held);
    let count = named.count - holds.count;
    let is_certain = absent.len() == count && count <= DIGESTED_MAX;
    if is_certain && sum(holds, absent.digest()) == named {
        let why = "its footers name these records, and none of its objects holds them";
        return limited(&absent)
            .map(|(from, to)| whole(Kind::Missing, why.to_owned()).at(from, to))
            .collect();
    }
    let why = format!(
        "its footers name {count} records more than its objects hold, among the {} offsets that are not there",
        absent.len()
    );
    vec![whole(Kind::Missing, why)]
}

/// The digest of two sets without a common offset.
fn sum(left: OffsetDigest, right: OffsetDigest) -> OffsetDigest {
    OffsetDigest {
        count: left.count.wrapping_add(right.count),
        sum: left.sum.wrapping_add(right.sum),
    }
}
