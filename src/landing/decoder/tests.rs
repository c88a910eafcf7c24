//! The tables of `docs/decoding.md`, and the decoder against a plain walk over `serde_json`'s
//! values.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::config::{PartitionUnit, ScalarType};

const PAGE: &str = include_str!("../../../docs/decoding.md");

fn kinds() -> Vec<ColumnType> {
    use TimeUnit::{Ms, Rfc3339, S, Us};
    let times = [S, Ms, Us, Rfc3339];
    let scalars = [
        ScalarType::String,
        ScalarType::Bool,
        ScalarType::Int64,
        ScalarType::Float64,
        ScalarType::Json,
    ];
    let mut kinds = vec![
        ColumnType::String,
        ColumnType::Bool,
        ColumnType::Int64,
        ColumnType::Float64,
        ColumnType::Json,
        ColumnType::Binary,
    ];
    kinds.extend(times.map(ColumnType::Timestamp));
    kinds.extend(scalars.map(ColumnType::List));
    kinds.extend(times.map(|unit| ColumnType::List(ScalarType::Timestamp(unit))));
    kinds
}

fn kind_of(words: &str) -> ColumnType {
    let found = kinds().into_iter().find(|kind| type_words(*kind) == words);
    found.unwrap_or_else(|| panic!("no type is called {words}"))
}

fn column(name: &str, source: ColumnSource, kind: ColumnType, nullable: bool) -> Column {
    Column {
        name: name.to_owned(),
        source,
        kind,
        nullable,
    }
}

fn at(name: &str, path: &str, kind: ColumnType, nullable: bool) -> Column {
    let path = path.split('.').map(str::to_owned).collect();
    column(name, ColumnSource::Path(path), kind, nullable)
}

fn layout(columns: Vec<Column>, extra: bool) -> Layout {
    Layout {
        columns,
        extra,
        partition_by: Vec::new(),
        partition_time: PartitionTime::KafkaTimestamp,
    }
}

fn iss() -> Layout {
    let float = ColumnType::Float64;
    layout(
        vec![
            at(
                "timestamp",
                "timestamp",
                ColumnType::Timestamp(TimeUnit::S),
                false,
            ),
            at("message", "message", ColumnType::String, false),
            at("latitude", "iss_position.latitude", float, false),
            at("longitude", "iss_position.longitude", float, false),
        ],
        true,
    )
}

const ISS: &str = r#"{"message": "success", "timestamp": 1735520478, "iss_position": {"latitude": "-8.7063", "longitude": "137.6462"}}"#;

fn block<'a>(values: impl IntoIterator<Item = Option<&'a [u8]>>) -> Records {
    let mut records = Records::default();
    for (offset, value) in values.into_iter().enumerate() {
        records.push(
            offset as i64,
            1_700_000_000_000,
            None,
            value,
            [].into_iter(),
        );
    }
    records
}

fn decode(layout: &Layout, records: &Records) -> Decoded {
    let decoded = Decoder::new(layout, "topic").decode(records, 3, &OffsetSet::default());
    assert_eq!(
        decoded.rows.num_rows() + decoded.rejects.len(),
        records.spans.len()
    );
    decoded
}

fn decode_one(layout: &Layout, value: &[u8]) -> Decoded {
    decode(layout, &block([Some(value)]))
}

/// A cell as the page writes it.
fn cell(array: &dyn Array, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).replace('\n', "⏎"),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            let long = value.is_finite() && value.abs() > 1e15;
            if long {
                format!("{value:e}")
            } else {
                value.to_string()
            }
        }
        DataType::Timestamp(..) => {
            let time = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let time = chrono::DateTime::from_timestamp_micros(time).unwrap();
            time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
        }
        DataType::Binary => {
            let bytes = array.as_binary::<i32>().value(row).iter();
            bytes.map(|byte| format!("{byte:02x}")).collect()
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let items: Vec<String> = (0..items.len())
                .map(|item| cell(&items, item).unwrap_or("null".to_owned()))
                .collect();
            format!("[{}]", items.join(", "))
        }
        other => panic!("no cell of {other}"),
    })
}

/// The result as the page writes it.
fn result(decoded: &Decoded, column: &str) -> String {
    if let Some(reject) = decoded.rejects.first() {
        assert!(!reject.detail.is_empty());
        return format!("dead letter: {}", reject.cause.as_str());
    }
    let array = decoded.rows.column_by_name(column).unwrap();
    cell(array, 0).map_or("null".to_owned(), |text| format!("`{text}`"))
}

/// The rows of the page's table with this head.
fn table(head: &str) -> Vec<Vec<String>> {
    let rows: Vec<Vec<String>> = PAGE
        .lines()
        .skip_while(|line| *line != head)
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split(" | ");
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect();
    assert!(rows.len() > 5, "the page has no table {head}");
    rows
}

fn code(cell: &str) -> &str {
    cell.strip_prefix('`')
        .and_then(|cell| cell.strip_suffix('`'))
        .unwrap_or_else(|| panic!("no code: {cell}"))
}

#[test]
fn every_record_of_the_page_becomes_what_the_page_says() {
    let layout = layout(vec![at("v", "v", ColumnType::Json, true)], false);
    for row in table("| record | result |") {
        let nested = |depth: usize| {
            format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth)).into_bytes()
        };
        let value = match row[0].as_str() {
            "nothing (a tombstone)" => None,
            "empty" => Some(Vec::new()),
            "a byte order mark before `{\"v\":1}`" => Some("\u{feff}{\"v\":1}".into()),
            "bytes that are not UTF-8 within a string" => Some(b"{\"v\":\"\xff\"}".to_vec()),
            "a tab within a string" => Some(b"{\"v\":\"\t\"}".to_vec()),
            "126 arrays within each other in `x`" => Some(nested(126)),
            "127 arrays within each other in `x`" => Some(nested(127)),
            "` `" => Some(b" ".to_vec()),
            other => Some(code(other).as_bytes().to_vec()),
        };
        let decoded = decode(&layout, &block([value.as_deref()]));
        assert_eq!(result(&decoded, "v"), row[1], "{}", row[0]);
    }
}

#[test]
fn every_value_of_the_page_becomes_what_the_page_says() {
    for row in table("| type | value | result |") {
        let kind = kind_of(&row[0]);
        let value = format!("{{\"v\":{}}}", code(&row[1]));
        let decoded = decode_one(
            &layout(vec![at("v", "v", kind, false)], false),
            value.as_bytes(),
        );
        assert_eq!(result(&decoded, "v"), row[2], "{} {}", row[0], row[1]);
        let as_nullable = layout(vec![at("v", "v", kind, true)], false);
        let decoded = decode_one(&as_nullable, value.as_bytes());
        let expected = if row[1] == "`null`" { "null" } else { &row[2] };
        assert_eq!(result(&decoded, "v"), expected, "{} {}", row[0], row[1]);
        assert_eq!(result(&decode_one(&as_nullable, b"{}"), "v"), "null");
    }
}

#[test]
fn every_key_of_the_page_becomes_what_the_page_says() {
    for row in table("| type | key | result |") {
        let key = match row[1].as_str() {
            "empty" => Some(""),
            "nothing" => None,
            other => Some(code(other)),
        };
        for source in [ColumnSource::Key, ColumnSource::Header("h".into())] {
            let layout = layout(vec![column("v", source, kind_of(&row[0]), false)], false);
            let mut records = Records::default();
            let key = key.map(str::as_bytes);
            let headers = [
                (&b"h"[..], Some(&b"earlier"[..])),
                (b"h", key),
                (b"i", None),
            ];
            records.push(0, 0, key, None, headers.into_iter());
            let decoded = decode(&layout, &records);
            assert_eq!(result(&decoded, "v"), row[2], "{} {}", row[0], row[1]);
        }
    }
}

#[test]
fn every_extra_of_the_page_is_what_the_page_says() {
    let json = ColumnType::Json;
    let layout = layout(
        vec![at("a", "a", json, true), at("c", "b.c", json, true)],
        true,
    );
    for row in table("| record | `_extra` |") {
        let decoded = decode_one(&layout, code(&row[0]).as_bytes());
        assert_eq!(result(&decoded, "_extra"), row[1], "{}", row[0]);
    }
}

#[test]
fn the_space_station_becomes_the_row_that_a_reader_expects() {
    let decoded = decode_one(&iss(), ISS.as_bytes());
    assert_eq!(result(&decoded, "timestamp"), "`2024-12-30T01:01:18Z`");
    assert_eq!(result(&decoded, "message"), "`success`");
    assert_eq!(result(&decoded, "latitude"), "`-8.7063`");
    assert_eq!(result(&decoded, "longitude"), "`137.6462`");
    assert_eq!(result(&decoded, "_extra"), "null");
    assert_eq!(
        result(&decoded, "kafka_timestamp"),
        "`2023-11-14T22:13:20Z`"
    );
    assert_eq!(decoded.rows.schema(), iss().schema());
}

#[test]
fn a_rejected_record_leaves_its_neighbours_untouched() {
    let bad: &[u8] =
        br#"{"message":"x","timestamp":1,"iss_position":{"latitude":"1","longitude":"?"}}"#;
    let records = block([
        Some(bad),
        Some(ISS.as_bytes()),
        None,
        Some(bad),
        Some(ISS.as_bytes()),
    ]);
    let decoded = decode(&iss(), &records);
    let offsets = decoded.rows.column(iss().offset_column());
    assert_eq!(offsets.as_primitive::<Int64Type>().values(), &[1, 4]);
    let rejects = decoded.rejects.iter();
    let rejects: Vec<_> = rejects
        .map(|reject| (reject.offset, reject.cause))
        .collect();
    assert_eq!(
        rejects,
        [(0, Cause::Type), (2, Cause::Empty), (3, Cause::Type)]
    );
    assert_eq!(decoded.rejects[0].value.as_deref(), Some(bad));
    assert!(
        decoded.rejects[0]
            .detail
            .starts_with("column longitude (iss_position.longitude, float64): \"?\"")
    );
    for row in 0..2 {
        assert_eq!(cell(decoded.rows.column(3), row).unwrap(), "137.6462");
    }
}

#[test]
fn a_dead_letter_holds_the_whole_record() {
    let mut records = Records::default();
    let headers = [(&b"a"[..], Some(&b"1"[..])), (b"\xff", None)];
    records.push(7, -1, Some(b"k"), Some(b"nope"), headers.into_iter());
    let decoded = decode(&iss(), &records);
    let reject = &decoded.rejects[0];
    assert_eq!(
        (reject.offset, reject.timestamp_ms, reject.cause),
        (7, -1, Cause::Syntax)
    );
    assert_eq!(reject.key.as_deref(), Some(&b"k"[..]));
    assert_eq!(
        reject.headers[0],
        ("a".to_owned(), Some(Bytes::from_static(b"1")))
    );
    assert_eq!(reject.headers[1], ("\u{fffd}".to_owned(), None));
    assert_eq!(reject.value.as_deref(), Some(&b"nope"[..]));
}

#[test]
fn a_forced_offset_is_a_dead_letter_whatever_it_holds() {
    let records = block([Some(ISS.as_bytes()), Some(ISS.as_bytes()), Some(b"?")]);
    let forced = OffsetSet::from_range(1, 3);
    let decoded = Decoder::new(&iss(), "topic").decode(&records, 0, &forced);
    assert_eq!(decoded.rows.num_rows(), 1);
    assert!(
        decoded
            .rejects
            .iter()
            .all(|reject| reject.cause == Cause::Unplaced)
    );
    assert_eq!(decoded.rejects.len(), 2);
}

#[test]
fn a_record_that_panics_is_a_dead_letter_and_the_others_are_rows() {
    let mut decoder = Decoder::new(&iss(), "topic");
    decoder.panic_on = Some(b"{\"poison\":1}");
    let poison: Option<&[u8]> = decoder.panic_on;
    let records = block([
        Some(ISS.as_bytes()),
        poison,
        Some(b"?"),
        Some(ISS.as_bytes()),
    ]);
    let decoded = decoder.decode(&records, 0, &OffsetSet::default());
    let offsets = decoded.rows.column(iss().offset_column());
    assert_eq!(offsets.as_primitive::<Int64Type>().values(), &[0, 3]);
    let causes: Vec<_> = decoded.rejects.iter().map(|reject| reject.cause).collect();
    assert_eq!(causes, [Cause::Panic, Cause::Syntax]);
    assert!(decoded.rejects[0].detail.contains("planned fault"));
}

#[test]
fn a_folder_is_made_for_the_years_from_1970_to_2100_alone() {
    let mut layout = layout(
        vec![at("t", "t", ColumnType::Timestamp(TimeUnit::S), true)],
        false,
    );
    layout.partition_time = PartitionTime::Column("t".to_owned());
    let times = ["-1", "0", "4102444799", "4102444800", "null"];
    let values: Vec<String> = times
        .iter()
        .map(|time| format!("{{\"t\":{time}}}"))
        .collect();
    let records = block(values.iter().map(|value| Some(value.as_bytes())));
    assert_eq!(decode(&layout, &records).rejects.len(), 0);
    layout.partition_by = vec![PartitionUnit::Date];
    let decoded = decode(&layout, &records);
    let rejects: Vec<_> = decoded
        .rejects
        .iter()
        .map(|r| (r.offset, r.cause))
        .collect();
    assert_eq!(
        rejects,
        [(0, Cause::PartitionTime), (3, Cause::PartitionTime)]
    );
    assert!(
        decoded.rejects[1]
            .detail
            .contains("4102444800 lies outside")
    );
}

#[test]
fn kafka_timestamps_are_instants_or_null_or_out_of_range() {
    let mut records = Records::default();
    for (offset, time) in [-1, 0, i64::MAX, 253_402_300_800_000]
        .into_iter()
        .enumerate()
    {
        records.push(offset as i64, time, None, Some(b"{}"), [].into_iter());
    }
    let decoded = decode(&layout(Vec::new(), true), &records);
    let times = decoded.rows.column_by_name("kafka_timestamp").unwrap();
    assert_eq!(cell(times, 0), None);
    assert_eq!(cell(times, 1).unwrap(), "1970-01-01T00:00:00Z");
    assert!(
        decoded
            .rejects
            .iter()
            .all(|reject| reject.cause == Cause::Range)
    );
    assert_eq!(decoded.rejects.len(), 2);
}

#[test]
fn a_value_that_no_column_reads_may_be_anything() {
    let layout = layout(
        vec![column("t", ColumnSource::Topic, ColumnType::String, false)],
        false,
    );
    let records = block([None, Some(&b""[..]), Some(b"\xff")]);
    let decoded = decode(&layout, &records);
    assert_eq!(decoded.rows.num_rows(), 3);
    assert_eq!(result(&decoded, "t"), "`topic`");
}

#[test]
fn a_value_is_not_text_because_its_neighbour_ends_it() {
    // Together the two are the UTF-8 of an é: neither is text by itself.
    let records = block([Some(&b"{\"message\":\"\xc3"[..]), Some(b"\xa9")]);
    let decoded = decode(&iss(), &records);
    assert!(
        decoded
            .rejects
            .iter()
            .all(|reject| reject.cause == Cause::Utf8)
    );
}

#[test]
fn a_decoder_goes_on_from_block_to_block() {
    let mut decoder = Decoder::new(&iss(), "topic");
    let records = block([Some(ISS.as_bytes()), Some(b"{\"x\":1")]);
    let first = decoder.decode(&records, 0, &OffsetSet::default());
    let second = decoder.decode(&records, 0, &OffsetSet::default());
    assert_eq!(first.rows, second.rows);
    assert_eq!(first.rejects, second.rejects);
}

/// What a plain walk over `serde_json`'s values makes of a record, for columns of the type json:
/// each column's value (`None`: null), and `_extra`. `None`: the record is no row.
fn walk(columns: &[Column], value: &Value) -> Option<(Vec<Option<Value>>, Option<Value>)> {
    let object = value.as_object()?;
    let cells = columns.iter().map(|column| {
        let path = path(column);
        let first = object.get(&path[0]);
        let found = path[1..].iter().fold(first, |value, key| {
            value
                .and_then(Value::as_object)
                .and_then(|object| object.get(key))
        });
        found.filter(|value| !value.is_null()).cloned()
    });
    let paths: Vec<&[String]> = columns.iter().map(path).collect();
    Some((cells.collect(), pruned(object, &paths).map(Value::Object)))
}

fn path(column: &Column) -> &[String] {
    match &column.source {
        ColumnSource::Path(path) => path,
        other => panic!("no path: {other:?}"),
    }
}

fn pruned(object: &Map<String, Value>, paths: &[&[String]]) -> Option<Map<String, Value>> {
    let mut left = Map::new();
    for (key, value) in object {
        let below: Vec<&[String]> = paths
            .iter()
            .filter(|path| path[0] == *key)
            .map(|path| &path[1..])
            .collect();
        let kept = match value {
            _ if below.is_empty() => Some(value.clone()),
            _ if below.iter().any(|path| path.is_empty()) => None,
            Value::Object(object) => pruned(object, &below).map(Value::Object),
            Value::Null => None,
            other => Some(other.clone()),
        };
        if let Some(kept) = kept {
            left.insert(key.clone(), kept);
        }
    }
    (!left.is_empty()).then_some(left)
}

/// Columns at each of these paths; some lie within others.
fn json_columns() -> Vec<Column> {
    let paths = [
        "a", "b.a", "b.c.a", "c", "c.b", "é\n.a", "b.b.b.b", ".", "b.",
    ];
    paths
        .map(|path| at(path, path, ColumnType::Json, true))
        .to_vec()
}

/// Holds the decoder to the walk, for one text.
fn agrees(bytes: &[u8]) -> Result<(), TestCaseError> {
    let columns = json_columns();
    let decoded = decode_one(&layout(columns.clone(), true), bytes);
    let reference = serde_json::from_slice::<Value>(bytes);
    if let Err(error) = &reference
        && error.to_string().contains("number out of range")
    {
        // A number's size is no question of syntax here: `json` and `_extra` keep it as it is.
        return Ok(());
    }
    let cause = decoded.rejects.first().map(|reject| reject.cause);
    let Ok(value) = reference else {
        prop_assert!(
            cause.is_some(),
            "taken: {:?}",
            String::from_utf8_lossy(bytes)
        );
        prop_assert_ne!(cause, Some(Cause::NotAnObject));
        return Ok(());
    };
    let Some((cells, extra)) = walk(&columns, &value) else {
        prop_assert_eq!(cause, Some(Cause::NotAnObject));
        return Ok(());
    };
    prop_assert_eq!(cause, None, "refused: {:?}", decoded.rejects);
    let parsed = |array: &dyn Array| {
        let text = (!array.is_null(0)).then(|| array.as_string::<i32>().value(0).to_owned());
        text.map(|text| serde_json::from_str::<Value>(&text).unwrap())
    };
    for (at, expected) in cells.iter().enumerate() {
        prop_assert_eq!(&parsed(decoded.rows.column(at)), expected);
    }
    prop_assert_eq!(parsed(decoded.rows.column(columns.len())), extra);
    Ok(())
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][-+]?[0-9]{1,2})?",
        any::<f64>().prop_map(|value| Value::from(value).to_string()),
        any::<String>().prop_map(|text| Value::from(text).to_string()),
        "\"([ -!#-\\[\\]-~é🚀]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-cA-Ce-f][0-9a-fA-F]{3}|\\\\ud83d\\\\ude8[0-9])*\"",
    ]
}

fn key() -> impl Strategy<Value = String> {
    let known = ["a", "b", "c", "é\n", "", "d"].map(|key| Value::from(key).to_string());
    prop_oneof![
        8 => prop::sample::select(known.to_vec()),
        1 => Just("\"\\u0062\"".to_owned()),
        1 => any::<String>().prop_map(|text| Value::from(text).to_string()),
    ]
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => Just(""), 1 => Just(" "), 1 => Just("\r\n\t ")]
}

/// JSON text with white space, equal keys and escapes, as deep as asked.
fn json(depth: u32) -> impl Strategy<Value = String> {
    scalar().prop_recursive(depth, 64, 6, |inner| {
        let item = (space(), inner.clone(), space()).prop_map(|(a, item, b)| format!("{a}{item}{b}"));
        let member = (space(), key(), space(), inner)
            .prop_map(|(a, key, b, value)| format!("{a}{key}{b}:{b}{value}{a}"));
        prop_oneof![
            1 => prop::collection::vec(item, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            4 => prop::collection::vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

/// Bytes that are nearly JSON.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4u8);
    (json(6), prop::collection::vec(change, 1..4)).prop_map(|(text, changes)| {
        let mut bytes = text.into_bytes();
        for (at, byte, what) in changes {
            let at = at.index(bytes.len() + 1);
            let byte = match what {
                3 => b"{}[]\",:\\ 0eu-."[usize::from(byte) % 14],
                _ => byte,
            };
            match what {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] = byte,
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

/// Prints what a record takes, against `serde_json` into a struct fixed at compile time.
///
/// `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test --lib decoding_takes -- --ignored --nocapture`
#[test]
#[ignore = "prints a figure"]
fn decoding_takes_so_long_against_a_typed_struct() {
    #[derive(serde::Deserialize)]
    struct Iss<'a> {
        message: &'a str,
        timestamp: i64,
        #[serde(borrow)]
        iss_position: Position<'a>,
    }
    #[derive(serde::Deserialize)]
    struct Position<'a> {
        latitude: &'a str,
        longitude: &'a str,
    }
    const RECORDS: usize = 10_000;
    let records = block((0..RECORDS).map(|_| Some(ISS.as_bytes())));
    let mut decoder = Decoder::new(&iss(), "topic");
    let (mut ours, mut theirs) = (f64::MAX, f64::MAX);
    for _ in 0..50 {
        let start = std::time::Instant::now();
        let decoded = decoder.decode(&records, 0, &OffsetSet::default());
        ours = ours.min(start.elapsed().as_nanos() as f64);
        assert_eq!(decoded.rows.num_rows(), RECORDS);
        let start = std::time::Instant::now();
        for record in &records.spans {
            let value: Iss<'_> =
                serde_json::from_slice(records.bytes(record.value.unwrap())).unwrap();
            let position = value.iss_position;
            let floats =
                [position.latitude, position.longitude].map(|text| text.parse::<f64>().unwrap());
            std::hint::black_box((value.message, value.timestamp, floats));
        }
        theirs = theirs.min(start.elapsed().as_nanos() as f64);
    }
    let each = RECORDS as f64;
    println!(
        "ns a record: {:.0}, serde_json typed {:.0}, ratio {:.2}",
        ours / each,
        theirs / each,
        ours / theirs
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn documents_are_read_as_serde_json_reads_them(text in json(8)) {
        agrees(text.as_bytes())?;
    }

    #[test]
    fn hostile_documents_are_judged_as_serde_json_judges_them(bytes in hostile()) {
        agrees(&bytes)?;
    }

    #[test]
    fn depth_ends_where_it_does_in_serde_json(depth in 100usize..140, inner in scalar(), objects in any::<u128>(), named: bool) {
        let (open, close) = if named { ("{\"b\":", "}") } else { ("{\"x\":", "}") };
        let mut text = inner;
        for level in 0..depth {
            text = match objects >> (level % 128) & 1 {
                1 => format!("{open}{text}{close}"),
                _ => format!("[{text}]"),
            };
        }
        agrees(text.as_bytes())?;
        agrees(format!("{{\"b\":{{\"c\":{text}}}}}").as_bytes())?;
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        agrees(&bytes)?;
    }

    #[test]
    fn no_json_panics_in_any_type_and_rows_stay_whole(texts in prop::collection::vec(json(3), 1..8), key in any::<Option<Vec<u8>>>()) {
        let mut columns = Vec::new();
        for (at_kind, kind) in kinds().into_iter().enumerate() {
            columns.push(at(&format!("v{at_kind}"), "v", kind, true));
            columns.push(column(&format!("k{at_kind}"), ColumnSource::Key, kind, true));
        }
        let each: Vec<Layout> = columns.into_iter().map(|column| layout(vec![column], true)).collect();
        let values: Vec<String> = texts.iter().map(|text| format!("{{\"v\":{text}}}")).collect();
        let mut records = Records::default();
        for (offset, value) in values.iter().enumerate() {
            records.push(offset as i64, -1, key.as_deref(), Some(value.as_bytes()), [].into_iter());
        }
        for layout in &each {
            let decoded = decode(layout, &records);
            prop_assert!(decoded.rejects.iter().all(|reject| reject.cause != Cause::Panic));
            let rows = decoded.rows.column(layout.offset_column()).as_primitive::<Int64Type>().values().to_vec();
            let rejects = decoded.rejects.iter().map(|reject| reject.offset);
            let mut all: Vec<i64> = rows.into_iter().chain(rejects).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..values.len() as i64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn scalars_are_what_serde_json_says(text in scalar()) {
        let value: Value = match serde_json::from_str(&text) {
            Ok(value) => value,
            Err(_) => return Ok(()),
        };
        let record = format!("{{\"v\":{text}}}");
        let one = |kind| {
            let decoded = decode_one(&layout(vec![at("v", "v", kind, true)], false), record.as_bytes());
            (decoded.rejects.is_empty()).then(|| decoded.rows.column(0).clone())
        };
        if let Value::String(text) = &value {
            let array = one(ColumnType::String).unwrap();
            prop_assert_eq!(array.as_string::<i32>().value(0), text);
        }
        if let Value::Number(number) = &value {
            let array = one(ColumnType::Float64).unwrap();
            let read = array.as_primitive::<Float64Type>().value(0);
            prop_assert_eq!(Some(read), number.as_f64());
            if let Some(whole) = number.as_i64() {
                let array = one(ColumnType::Int64).unwrap();
                prop_assert_eq!(array.as_primitive::<Int64Type>().value(0), whole);
            }
        }
        if let Value::Bool(truth) = &value {
            prop_assert_eq!(one(ColumnType::Bool).unwrap().as_boolean().value(0), *truth);
        }
    }
}
