//! `[table]`: names that are unique and free, paths that do not collide.

use std::collections::HashMap;

use super::mistakes::Mistake;
use super::valid::{Column, ColumnSource, ColumnType, Config, PartitionTime, PartitionUnit};
use super::written::{self, Given, Place};
use crate::landing::layout::{EXTRA_COLUMN, KAFKA_COLUMNS};

/// Puts the declared columns into the configuration, whose `files.partition_by` is valid already,
/// and then `files.partition_time`, which may name one of them.
pub(super) fn check(
    extra: Option<Given<bool>>,
    written: Option<Vec<(Place, written::Column)>>,
    partition_time: Option<Given<String>>,
    config: &mut Config,
) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let complete = check_columns(extra, written, config, &mut mistakes);
    if complete {
        mistakes.extend(check_partition_time(partition_time, config));
    }
    mistakes
}

/// Whether every column that was written is in the configuration now.
fn check_columns(
    extra: Option<Given<bool>>,
    written: Option<Vec<(Place, written::Column)>>,
    config: &mut Config,
    mistakes: &mut Vec<Mistake>,
) -> bool {
    let extra_place = extra.as_ref().map(|given| given.place.clone());
    if let Some(extra) = extra.and_then(|given| given.value) {
        config.table.extra = extra;
    }
    let Some(written) = written else {
        return true;
    };
    let mut columns = Vec::with_capacity(written.len());
    let all = written.len();
    for (place, column) in written {
        if let Some(column) = one(&place, column, mistakes) {
            columns.push((place, column));
        }
    }
    if all == 0
        && !config.table.extra
        && let Some(place) = extra_place
    {
        mistakes.push(place.mistake("must be true where no column is declared, or nothing lands"));
    }
    check_names(&columns, &config.files.partition_by, mistakes);
    check_paths(&columns, mistakes);
    config.table.columns = columns.into_iter().map(|(_, column)| column).collect();
    config.table.columns.len() == all
}

fn check_partition_time(given: Option<Given<String>>, config: &mut Config) -> Option<Mistake> {
    let given = given?;
    let name = given.value?;
    if name == KAFKA_COLUMNS[2] {
        config.files.partition_time = PartitionTime::KafkaTimestamp;
        return None;
    }
    let mut times = config
        .table
        .columns
        .iter()
        .filter(|column| matches!(column.kind, ColumnType::Timestamp(_)))
        .map(|column| column.name.as_str());
    if times.clone().any(|time| time == name) {
        config.files.partition_time = PartitionTime::Column(name);
        return None;
    }
    let declared = match times.next() {
        Some(first) => format!("a declared timestamp column such as {first}"),
        None => "a declared timestamp column, of which there is none".to_owned(),
    };
    Some(
        given
            .place
            .mistake(format!("must be {} or {declared}", KAFKA_COLUMNS[2])),
    )
}

fn one(place: &Place, written: written::Column, mistakes: &mut Vec<Mistake>) -> Option<Column> {
    let before = mistakes.len();
    let missing = |key: &str, right: &str| Mistake {
        origin: place.origin.clone(),
        key: format!("{}.{key}", place.key),
        value: None,
        right: right.to_owned(),
    };
    if written.name.is_none() {
        mistakes.push(missing(
            "name",
            "must be given: the column's name in the files",
        ));
    }
    if written.kind.is_none() {
        mistakes.push(missing("type", "must be given, such as \"string\""));
    }
    if let (Some(_), Some(from)) = (&written.path, &written.from) {
        mistakes.push(
            from.place
                .mistake("must be left out where path is given: a column has one source"),
        );
    }
    let path_given = written.path.is_some() || written.from.is_some();
    let source = written
        .path
        .and_then(|given| given.value.map(|path| path.0))
        .or(written
            .from
            .and_then(|given| given.value.map(|from| from.0)));
    let nullable = match &written.nullable {
        Some(given) => given.value,
        // A missing value is no reason to reject a record, unless the operator says so.
        None => Some(true),
    };
    let name = written.name?.value?;
    let kind_place = written.kind.as_ref().map(|given| given.place.clone());
    let kind = written.kind?.value?.0;
    if source == Some(ColumnSource::Topic)
        && kind != ColumnType::String
        && let Some(place) = kind_place
    {
        mistakes.push(place.mistake("must be string: the topic's name is a text"));
    }
    if mistakes.len() > before {
        return None;
    }
    let source = match source {
        Some(source) => source,
        None if path_given => return None,
        None => ColumnSource::Path(vec![name.clone()]),
    };
    Some(Column {
        name,
        source,
        kind,
        nullable: nullable?,
    })
}

/// DuckDB and Spark fold the case of names, so two that differ by it alone are one.
fn check_names(
    columns: &[(Place, Column)],
    partition_by: &[PartitionUnit],
    mistakes: &mut Vec<Mistake>,
) {
    let mut taken: HashMap<String, String> = KAFKA_COLUMNS
        .iter()
        .chain([&EXTRA_COLUMN])
        .map(|name| ((*name).to_owned(), "groundtrack itself".to_owned()))
        .collect();
    for unit in partition_by {
        let (name, owner) = match unit {
            PartitionUnit::Date => ("date", "files.partition_by"),
            PartitionUnit::Hour => ("hour", "files.partition_by"),
        };
        taken.insert(name.to_owned(), owner.to_owned());
    }
    for (place, column) in columns {
        let mistake = |right: String| Mistake {
            key: format!("{}.name", place.key),
            value: Some(format!("{:?}", column.name)),
            ..place.mistake(right)
        };
        if column.name.is_empty() || column.name.chars().any(char::is_control) {
            mistakes.push(mistake(
                "must be a name, not empty and without control characters".to_owned(),
            ));
        } else if let Some(owner) =
            taken.insert(column.name.to_lowercase(), format!("{}.name", place.key))
        {
            mistakes.push(mistake(format!(
                "must be a name of its own, whatever its case: {owner} has it"
            )));
        }
    }
}

/// A value of the record is one column's: a path that another begins with, or is, collides.
fn check_paths(columns: &[(Place, Column)], mistakes: &mut Vec<Mistake>) {
    let mut paths: Vec<(&Vec<String>, &Place, &str)> = columns
        .iter()
        .filter_map(|(place, column)| match &column.source {
            ColumnSource::Path(keys) => Some((keys, place, column.name.as_str())),
            _ => None,
        })
        .collect();
    // In this order a path stands right before, or before its other extensions, of what it begins.
    paths.sort_by(|left, right| left.0.cmp(right.0));
    let mut open: Vec<(&Vec<String>, &str)> = Vec::new();
    for (keys, place, name) in paths {
        while open
            .last()
            .is_some_and(|(above, _)| !keys.starts_with(above))
        {
            open.pop();
        }
        if let Some((above, other)) = open.last() {
            mistakes.push(Mistake {
                key: format!("{}.path", place.key),
                value: Some(format!("{:?}", keys.join("."))),
                ..place.mistake(format!(
                    "must be a path of its own: column {other} takes {:?}, all of it",
                    above.join(".")
                ))
            });
        }
        open.push((keys, name));
    }
}
