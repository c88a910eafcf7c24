//! What is written: every key optional. A walk over the placed values, rather than serde's
//! derive on the whole, because that stops at the first mistake; serde reads the single values.

use std::collections::BTreeMap;

use super::mistakes::{Mistake, Origin};
use super::secrets::{self, Secret};
use super::tree::{Node, Table, Value};
use super::units::{
    ClientWord, CompressionWord, FormatWord, FromWord, Leaf, LevelWord, OptionValue, PathWord,
    Period, Size, StartWord, TypeWord, Words,
};

/// Where a value was written, and as what.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) origin: Origin,
    /// Dotted.
    pub(super) key: String,
    /// As it was written, secrets hidden.
    pub(super) shown: String,
}

impl Place {
    pub(super) fn mistake(&self, right: impl Into<String>) -> Mistake {
        Mistake {
            origin: self.origin.clone(),
            key: self.key.clone(),
            value: Some(self.shown.clone()),
            right: right.into(),
        }
    }

    /// Of a table or a list: what is inside may be secret, and is not the point.
    fn without_value(&self, right: impl Into<String>) -> Mistake {
        Mistake {
            value: None,
            ..self.mistake(right)
        }
    }
}

/// A value that was written; `value` is `None` where it could not be read, which is a mistake
/// reported already.
#[derive(Debug, Clone)]
pub(super) struct Given<T> {
    pub(super) value: Option<T>,
    pub(super) place: Place,
}

/// Declares a table's written type and how it is read, so that each key stands in one place.
macro_rules! written {
    ($(#[$doc:meta])* $name:ident { $($field:ident $(= $key:literal)? : $leaf:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name {
            $(pub(super) $field: Option<Given<$leaf>>,)+
        }

        impl $name {
            fn read(section: &mut Section<'_>) -> Self {
                Self { $($field: section.value(written!(@key $field $($key)?)),)+ }
            }
        }
    };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
}

written!(
    /// `[source]`
    Source { url: String, interval: Period, timeout: Period, stale_after: Period }
);
written!(
    /// `[kafka]` without its options.
    Kafka { brokers: Words, topic: String, group: String, instance_id: String, start: StartWord }
);
written!(
    /// One of `[[table.columns]]`
    Column { name: String, path: PathWord, from: FromWord, kind = "type": TypeWord, nullable: bool }
);
written!(
    /// `[files]`
    Files {
        max_rows: u64,
        max_bytes: Size,
        max_age: Period,
        compression: CompressionWord,
        row_group_rows: u64,
        partition_by: Words,
        partition_time: String,
    }
);
written!(
    /// `[store]` without `[store.s3]`.
    Store { url: String, data: String, checkpoints: String, dead_letters: String }
);
written!(
    /// `[store.s3]`
    S3 {
        endpoint: String,
        region: String,
        path_style: bool,
        client: ClientWord,
        server_side_encryption: String,
        kms_key_id: String,
        storage_class: String,
        access_key_id: Secret,
        secret_access_key: Secret,
        session_token: Secret,
        credentials_file: String,
        profile: String,
        ca_file: String,
        timeout: Period,
    }
);
written!(
    /// `[limits]`
    Limits { memory: Size, drain: Period }
);
written!(
    /// `[supervision]`
    Supervision { backoff: Period, backoff_max: Period, restarts: u32, window: Period, heartbeat: Period }
);
written!(
    /// One of `[[skip]]`
    Skip { topic: String, partition: u32, first_offset: i64 }
);
written!(
    /// `[web]`
    Web { listen: String, hosts: Words }
);
written!(
    /// `[status]`
    Status { socket: String }
);
written!(
    /// `[log]`
    Log { level: LevelWord, format: FormatWord }
);

/// A whole configuration as it is written.
#[derive(Debug)]
pub(super) struct Written {
    /// `None`: there is no such table.
    pub(super) source: Option<Source>,
    pub(super) kafka: Kafka,
    /// `[kafka.options]`
    pub(super) options: BTreeMap<String, Given<OptionValue>>,
    /// `table.extra`
    pub(super) extra: Option<Given<bool>>,
    /// `None`: no columns are declared, which leaves the default ones.
    pub(super) columns: Option<Vec<(Place, Column)>>,
    pub(super) files: Files,
    pub(super) store: Store,
    pub(super) s3: S3,
    pub(super) limits: Limits,
    pub(super) supervision: Supervision,
    pub(super) skip: Vec<(Place, Skip)>,
    pub(super) web: Web,
    pub(super) status: Status,
    pub(super) log: Log,
}

impl Written {
    /// Takes the known keys out of a tree. What is left is unknown, and a mistake as is a value
    /// of the wrong type.
    pub(super) fn read(tree: Table) -> (Self, Vec<Mistake>) {
        let mut reader = Reader::default();
        let written = reader.within(String::new(), tree, Self::root);
        let mut mistakes = reader.mistakes;
        for unknown in reader.unknown {
            let right = match nearest(&unknown.key, &reader.known) {
                Some(near) => format!("must be a known key: the nearest is {near}"),
                None => "must be a known key".to_owned(),
            };
            mistakes.push(Mistake { right, ..unknown });
        }
        (written, mistakes)
    }

    fn root(root: &mut Section<'_>) -> Self {
        let (has_source, source) = root.table("source", Source::read);
        let (_, (kafka, options)) =
            root.table("kafka", |kafka| (Kafka::read(kafka), kafka.options()));
        let (_, (extra, columns)) = root.table("table", |table| {
            (table.value("extra"), table.tables("columns", Column::read))
        });
        let (_, (store, s3)) = root.table("store", |store| {
            (Store::read(store), store.table("s3", S3::read).1)
        });
        Self {
            source: has_source.then_some(source),
            kafka,
            options,
            extra,
            columns,
            files: root.table("files", Files::read).1,
            store,
            s3,
            limits: root.table("limits", Limits::read).1,
            supervision: root.table("supervision", Supervision::read).1,
            skip: root.tables("skip", Skip::read).unwrap_or_default(),
            web: root.table("web", Web::read).1,
            status: root.table("status", Status::read).1,
            log: root.table("log", Log::read).1,
        }
    }
}

/// Every key that the walk asks for, dotted.
#[cfg(test)]
pub(crate) fn known_keys() -> Vec<String> {
    let mut reader = Reader::default();
    reader.within(String::new(), Table::new(), Written::root);
    reader.known
}

/// What the walk collects.
#[derive(Debug, Default)]
struct Reader {
    mistakes: Vec<Mistake>,
    /// Every key that was asked for, dotted.
    known: Vec<String>,
    /// What nobody asked for.
    unknown: Vec<Mistake>,
}

impl Reader {
    fn within<W>(
        &mut self,
        path: String,
        table: Table,
        read: impl FnOnce(&mut Section<'_>) -> W,
    ) -> W {
        let mut section = Section {
            reader: self,
            path,
            table,
        };
        let written = read(&mut section);
        let Section { path, table, .. } = section;
        for (key, node) in table {
            let place = place(dotted(&path, &key), &node);
            self.unknown.push(match node.value {
                Value::Scalar(_) => place.mistake(""),
                _ => place.without_value(""),
            });
        }
        written
    }
}

/// A table whose keys are being taken out.
struct Section<'r> {
    reader: &'r mut Reader,
    path: String,
    table: Table,
}

impl Section<'_> {
    fn take(&mut self, key: &str) -> Option<(Place, Node)> {
        let path = dotted(&self.path, key);
        let taken = self
            .table
            .remove(key)
            .map(|node| (place(path.clone(), &node), node));
        self.reader.known.push(path);
        taken
    }

    fn value<T: Leaf>(&mut self, key: &str) -> Option<Given<T>> {
        let (place, node) = self.take(key)?;
        Some(self.leaf(place, &node))
    }

    fn leaf<T: Leaf>(&mut self, place: Place, node: &Node) -> Given<T> {
        let read = T::deserialize(node.plain()).ok();
        let value = read.or_else(|| {
            let text = node.text.clone()?;
            T::deserialize(toml::Value::String(text)).ok()
        });
        if value.is_none() {
            let mistake = place.mistake(format!("must be {}", T::RIGHT));
            self.reader.mistakes.push(mistake);
        }
        Given { value, place }
    }

    fn not_a_table(&mut self, place: &Place, right: String) {
        self.reader.mistakes.push(place.without_value(right));
    }

    /// Reads an inner table, an empty one where there is none; says which it was.
    fn table<W>(&mut self, key: &str, read: impl FnOnce(&mut Section<'_>) -> W) -> (bool, W) {
        let taken = self.take(key);
        let there = taken.is_some();
        let inner = match taken {
            Some((
                _,
                Node {
                    value: Value::Table(inner),
                    ..
                },
            )) => inner,
            Some((place, _)) => {
                self.not_a_table(&place, format!("must be a table, [{}]", place.key));
                Table::new()
            }
            None => Table::new(),
        };
        let path = dotted(&self.path, key);
        (there, self.reader.within(path, inner, read))
    }

    /// Reads a list of tables.
    fn tables<W>(
        &mut self,
        key: &str,
        read: impl Fn(&mut Section<'_>) -> W,
    ) -> Option<Vec<(Place, W)>> {
        let path = dotted(&self.path, key);
        let taken = self.take(key);
        let Some((list, node)) = taken else {
            // Asked for all the same, so that its keys are known.
            self.reader.within(path, Table::new(), read);
            return None;
        };
        let Value::Array(items) = node.value else {
            self.not_a_table(&list, format!("must be a list of tables, [[{path}]]"));
            return None;
        };
        let mut entries = Vec::with_capacity(items.len());
        for (number, item) in items.into_iter().enumerate() {
            let place = place(format!("{path}[{number}]"), &item);
            match item.value {
                Value::Table(table) => {
                    let entry = self.reader.within(path.clone(), table, &read);
                    entries.push((place, entry));
                }
                _ => self.not_a_table(&place, format!("must be a table, [[{path}]]")),
            }
        }
        Some(entries)
    }

    fn options(&mut self) -> BTreeMap<String, Given<OptionValue>> {
        let path = dotted(&self.path, "options");
        let taken = self.take("options");
        let Some((options, node)) = taken else {
            return BTreeMap::new();
        };
        let Value::Table(table) = node.value else {
            self.not_a_table(&options, "must be a table, [kafka.options]".to_owned());
            return BTreeMap::new();
        };
        table
            .into_iter()
            .map(|(name, node)| {
                let place = place(format!("{path}.\"{name}\""), &node);
                let given = self.leaf(place, &node);
                (name, given)
            })
            .collect()
    }
}

fn dotted(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn place(key: String, node: &Node) -> Place {
    Place {
        origin: node.origin.clone(),
        shown: secrets::presentable(&key, &node.shown),
        key,
    }
}

/// The nearest known key: one of the same name elsewhere, else by the letters that would have to
/// change, one of the same table before others.
fn nearest<'k>(key: &str, known: &'k [String]) -> Option<&'k String> {
    let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
    known.iter().min_by_key(|candidate| {
        let (its_table, its_name) = candidate.rsplit_once('.').unwrap_or(("", candidate));
        let names = letters(name, its_name);
        let tables = strsim::damerau_levenshtein(table, its_table);
        // Two letters in the name weigh as much as being in another table.
        2 * names + if tables > 0 { 3 + tables.min(4) } else { 0 }
    })
}

/// How many letters would have to change; `offset` is one of `first_offset`.
fn letters(name: &str, known: &str) -> usize {
    let words = known.split('_').filter(|word| word.len() < known.len());
    let word = words.map(|word| strsim::damerau_levenshtein(name, word) + 1);
    word.chain([strsim::damerau_levenshtein(name, known)])
        .min()
        .unwrap_or(usize::MAX)
}
