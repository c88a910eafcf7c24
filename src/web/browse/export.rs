//! Records as JSON and as CSV, for machines. Pure.

use serde_json::{Value, json};

use super::log::Message;

/// A record: bytes that are UTF-8 as text, others as hex.
pub(in crate::web) fn json(message: &Message) -> Value {
    let mut object = json!({
        "partition": message.partition,
        "offset": message.offset,
        "timestamp_ms": message.timestamp_ms,
        "size_bytes": message.size_bytes(),
    });
    put(&mut object, "key", message.key.as_deref());
    put(&mut object, "value", message.value.as_deref());
    let headers = message.headers.iter().map(|(name, value)| {
        let mut header = json!({ "name": name });
        put(&mut header, "value", value.as_deref());
        header
    });
    object["headers"] = headers.collect();
    object
}

fn put(object: &mut Value, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(std::str::from_utf8) {
        None => object[name] = Value::Null,
        Some(Ok(text)) => object[name] = text.into(),
        Some(Err(_)) => object[format!("{name}_hex")] = hex(bytes.unwrap_or_default()).into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One record a line.
pub(in crate::web) fn json_lines(messages: &[Message]) -> String {
    messages
        .iter()
        .map(|one| format!("{}\n", json(one)))
        .collect()
}

/// By RFC 4180, bytes that are not UTF-8 as hex. A value that a spreadsheet would take for a
/// formula has an apostrophe before it.
pub(in crate::web) fn csv(messages: &[Message]) -> String {
    let mut text = String::from("partition,offset,timestamp_ms,key,value\r\n");
    for one in messages {
        let (key, value) = (field(one.key.as_deref()), field(one.value.as_deref()));
        let line = format!(
            "{},{},{},{key},{value}\r\n",
            one.partition, one.offset, one.timestamp_ms
        );
        text.push_str(&line);
    }
    text
}

fn field(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else {
        return String::new();
    };
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => hex(bytes),
    };
    let guard = match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => "'",
        false => "",
    };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(value: Option<&[u8]>) -> Message {
        Message {
            partition: 1,
            offset: 2,
            timestamp_ms: 3,
            key: Some(b"k".to_vec()),
            value: value.map(<[u8]>::to_vec),
            headers: vec![("h".into(), Some(vec![0xff]))],
        }
    }

    #[test]
    fn a_record_is_json_whatever_it_holds() {
        let shown = json(&message(Some(b"{\"a\":1}")));
        assert_eq!(shown["value"], "{\"a\":1}");
        assert_eq!(shown["headers"][0]["value_hex"], "ff");
        assert_eq!(json(&message(None))["value"], Value::Null);
        let binary = json(&message(Some(b"\xfe\x01")));
        assert_eq!(binary["value_hex"], "fe01");
        assert_eq!(
            json_lines(&[message(None), message(None)]).lines().count(),
            2
        );
    }

    #[test]
    fn csv_is_quoted_and_no_formula() {
        let text = csv(&[
            message(Some(b"a,\"b\"\nc")),
            message(Some(b"=1+1")),
            message(None),
        ]);
        let expected = "partition,offset,timestamp_ms,key,value\r\n\
            1,2,3,\"k\",\"a,\"\"b\"\"\nc\"\r\n1,2,3,\"k\",\"'=1+1\"\r\n1,2,3,\"k\",\r\n";
        assert_eq!(text, expected);
    }
}
