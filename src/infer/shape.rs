//! What a sample of JSON values has in common, gathered value by value in bounded memory.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::config::TimeUnit;
use crate::landing::decoder::{float64, instant};

/// So many keys of one nested object are told apart; one with more is a map with data for keys,
/// and is kept as JSON.
const NESTED_KEYS_MAX: usize = 200;
/// So many strings that differ are remembered, to tell a measurement from a constant.
const DISTINCT_MAX: usize = 5;

/// A JSON value with its keys in the order in which they are written.
#[derive(Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool,
    Int(i64),
    /// `None`: one that no column type holds, such as a whole number beyond 64 bits.
    Number(Option<f64>),
    Text(String),
    Array(Vec<Json>),
    /// The last of equal keys counts.
    Object(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Bool)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(i64::try_from(value).map_or(Json::Number(None), Json::Int))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        // From here on a double may stand for a whole number that it does not hold exactly.
        let long = value.abs() >= (1u64 << 63) as f64;
        Ok(Json::Number((!long).then_some(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object: Vec<(String, Json)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        while let Some((key, value)) = members.next_entry::<String, Json>()? {
            match places.get(&key) {
                Some(place) => object[*place].1 = value,
                None => {
                    places.insert(key.clone(), object.len());
                    object.push((key, value));
                }
            }
        }
        Ok(Json::Object(object))
    }
}

/// What was seen at one path.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// Values other than null.
    pub(super) values: u64,
    pub(super) bools: u64,
    pub(super) ints: u64,
    /// The smallest and the largest whole number.
    pub(super) int_range: Option<(i64, i64)>,
    pub(super) floats: u64,
    /// Numbers that no column type holds.
    pub(super) beyond: u64,
    pub(super) texts: Texts,
    pub(super) arrays: u64,
    /// What the arrays hold.
    pub(super) items: Option<Box<Shape>>,
    pub(super) objects: u64,
    /// The objects' keys in the order of their first appearance.
    pub(super) members: Vec<(String, Shape)>,
    places: HashMap<String, usize>,
    /// Keys came that were not told apart any more.
    pub(super) overflown: bool,
}

/// What was seen of strings.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) count: u64,
    /// Of them, RFC 3339 times that a column holds without loss.
    pub(super) times: u64,
    /// Of them, numbers with a fraction.
    pub(super) decimals: u64,
    /// Some that differ, at most [`DISTINCT_MAX`].
    distinct: Vec<String>,
}

impl Texts {
    fn add(&mut self, text: &str) {
        self.count += 1;
        let lossless = match text.split_once('.') {
            Some((_, rest)) => rest.bytes().take_while(u8::is_ascii_digit).count() <= 6,
            None => true,
        };
        self.times += u64::from(lossless && instant(text, TimeUnit::Rfc3339).is_ok());
        self.decimals += u64::from(text.contains('.') && float64(text).is_ok());
        let known = self.distinct.iter().any(|known| known == text);
        if self.distinct.len() < DISTINCT_MAX && !known && text.len() < 100 {
            self.distinct.push(text.to_owned());
        }
    }

    /// Whether enough of them differ to be measurements.
    pub(super) fn vary(&self) -> bool {
        self.distinct.len() >= DISTINCT_MAX
    }
}

impl Shape {
    /// Adds one object of the sample. At most `keys_max` of its own keys are told apart, and at
    /// most `room` new ones in all.
    pub(super) fn add_object(
        &mut self,
        members: Vec<(String, Json)>,
        keys_max: usize,
        room: &mut usize,
    ) {
        self.objects += 1;
        for (key, value) in members {
            let place = match self.places.get(&key) {
                Some(place) => *place,
                None if self.members.len() >= keys_max || *room == 0 => {
                    self.overflown = true;
                    continue;
                }
                None => {
                    *room -= 1;
                    self.places.insert(key.clone(), self.members.len());
                    self.members.push((key, Self::default()));
                    self.members.len() - 1
                }
            };
            self.members[place].1.add(value, room);
        }
    }

    fn add(&mut self, value: Json, room: &mut usize) {
        self.values += u64::from(value != Json::Null);
        match value {
            Json::Null => {}
            Json::Bool => self.bools += 1,
            Json::Int(value) => {
                self.ints += 1;
                let (low, high) = self.int_range.unwrap_or((value, value));
                self.int_range = Some((low.min(value), high.max(value)));
            }
            Json::Number(Some(_)) => self.floats += 1,
            Json::Number(None) => self.beyond += 1,
            Json::Text(text) => self.texts.add(&text),
            Json::Array(items) => {
                self.arrays += 1;
                let shape = self.items.get_or_insert_default();
                items
                    .into_iter()
                    .for_each(|item| shape.add_item(item, room));
            }
            Json::Object(_) if self.overflown => self.objects += 1,
            Json::Object(members) => {
                self.add_object(members, NESTED_KEYS_MAX, room);
                if self.overflown {
                    self.members = Vec::new();
                    self.places = HashMap::new();
                }
            }
        }
    }

    /// Adds an element of an array: whatever is within it, an array of objects or of arrays is
    /// kept as JSON.
    fn add_item(&mut self, item: Json, room: &mut usize) {
        match item {
            Json::Array(_) => {
                self.values += 1;
                self.arrays += 1;
            }
            Json::Object(_) => {
                self.values += 1;
                self.objects += 1;
            }
            scalar => self.add(scalar, room),
        }
    }
}
