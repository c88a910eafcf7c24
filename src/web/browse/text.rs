//! Bytes from anybody as text that does nothing but stand there. Pure.

use std::fmt::Write;

/// Bytes of a value that are shown as hex at most: a screen.
const HEX_BYTES_MAX: usize = 4096;

/// What bytes are, as far as can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::web) enum Kind {
    Json,
    Text,
    Binary,
}

/// What these bytes are.
pub(in crate::web) fn kind(bytes: &[u8]) -> Kind {
    match std::str::from_utf8(bytes) {
        Err(_) => Kind::Binary,
        Ok(text) => match serde_json::from_str::<serde::de::IgnoredAny>(text) {
            Ok(_) => Kind::Json,
            Err(_) => Kind::Text,
        },
    }
}

/// One line of at most `length` characters, for a table.
pub(in crate::web) fn line(bytes: &[u8], length: usize) -> String {
    // Four bytes a character at most, so no more than that has to be looked at.
    let head = &bytes[..bytes.len().min(length.saturating_mul(4))];
    let text = String::from_utf8_lossy(head);
    let mut line = String::new();
    let mut characters = text.chars();
    for character in characters.by_ref().take(length) {
        match character {
            '\n' | '\r' | '\t' => line.push(' '),
            other => push_visible(&mut line, other),
        }
    }
    if characters.next().is_some() || head.len() < bytes.len() {
        line.push('…');
    }
    line
}

/// All of it, with what would move the reader's eye made visible.
pub(in crate::web) fn whole(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            other => push_visible(&mut shown, other),
        }
    }
    shown
}

/// Control characters, and those that turn the direction of what follows, as their escapes.
fn push_visible(text: &mut String, character: char) {
    let turns = matches!(character,
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    if character.is_control() || turns {
        text.extend(character.escape_unicode());
    } else {
        text.push(character);
    }
}

/// JSON with an indent, keys in their order; `None`: it is none. Numbers stay as they are written.
pub(in crate::web) fn pretty(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    let mut shown = String::with_capacity(text.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut characters = text.chars().peekable();
    // A deep nesting makes lines of blanks: the indent ends where no screen shows it.
    let break_line = |shown: &mut String, depth: usize| {
        shown.push('\n');
        shown.extend(std::iter::repeat_n("  ", depth.min(40)));
    };
    while let Some(character) = characters.next() {
        if in_string {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
            push_visible(&mut shown, character);
            continue;
        }
        match character {
            ' ' | '\n' | '\r' | '\t' => {}
            '{' | '[' => {
                shown.push(character);
                while characters
                    .next_if(|next| next.is_ascii_whitespace())
                    .is_some()
                {}
                if characters
                    .peek()
                    .is_some_and(|next| matches!(next, '}' | ']'))
                {
                    continue;
                }
                depth += 1;
                break_line(&mut shown, depth);
            }
            '}' | ']' => {
                let is_empty = shown.ends_with(['{', '[']);
                if !is_empty {
                    depth = depth.saturating_sub(1);
                    break_line(&mut shown, depth);
                }
                shown.push(character);
            }
            ',' => {
                shown.push(',');
                break_line(&mut shown, depth);
            }
            ':' => shown.push_str(": "),
            other => {
                in_string = other == '"';
                shown.push(other);
            }
        }
    }
    Some(shown)
}

/// As `hexdump -C` shows it, the first of it.
pub(in crate::web) fn hex(bytes: &[u8]) -> String {
    let mut shown = String::new();
    for (number, row) in bytes.chunks(16).take(HEX_BYTES_MAX / 16).enumerate() {
        // Writing into a string cannot fail.
        let _ = write!(shown, "{:08x} ", number * 16);
        for place in 0..16 {
            let _ = match row.get(place) {
                Some(byte) => write!(shown, " {byte:02x}"),
                None => write!(shown, "   "),
            };
        }
        shown.push_str("  ");
        let visible = |byte: &u8| matches!(byte, b' '..=b'~');
        shown.extend(
            row.iter()
                .map(|byte| if visible(byte) { *byte as char } else { '.' }),
        );
        shown.push('\n');
    }
    if bytes.len() > HEX_BYTES_MAX {
        let _ = writeln!(shown, "… {} bytes more", bytes.len() - HEX_BYTES_MAX);
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_json_text_or_binary() {
        assert_eq!(kind(b"{\"a\": 1}"), Kind::Json);
        assert_eq!(kind(b"{'a': 1}"), Kind::Text);
        assert_eq!(kind(b"\xff\xfe"), Kind::Binary);
    }

    #[test]
    fn json_is_indented_and_its_numbers_stay_as_written() {
        let shown = pretty(br#"{"a":[1.10,{}],"b\"{":"x, y", "c":[]}"#).unwrap();
        let expected =
            "{\n  \"a\": [\n    1.10,\n    {}\n  ],\n  \"b\\\"{\": \"x, y\",\n  \"c\": []\n}";
        assert_eq!(shown, expected);
        assert_eq!(pretty(b"{"), None);
    }

    #[test]
    fn what_turns_the_text_around_is_made_visible() {
        assert_eq!(
            line("a\u{202e}b\u{7}\nc".as_bytes(), 20),
            "a\\u{202e}b\\u{7} c"
        );
        assert_eq!(whole("a\u{2066}\nb\u{1b}[2J"), "a\\u{2066}\nb\\u{1b}[2J");
    }

    #[test]
    fn a_line_is_cut_at_characters_and_says_so() {
        assert_eq!(line("äöüß".as_bytes(), 3), "äöü…");
        assert_eq!(line(b"abc", 3), "abc");
        assert_eq!(line(&[b'x'; 100], 2), "xx…");
    }

    #[test]
    fn hex_has_place_bytes_and_text() {
        let shown = hex(b"ab\xff");
        assert!(shown.starts_with("00000000  61 62 ff "), "{shown}");
        assert!(shown.ends_with("  ab.\n"), "{shown}");
        assert!(hex(&[0; 5000]).ends_with("904 bytes more\n"));
    }

    proptest! {
        #[test]
        fn pretty_json_is_the_same_json(value in "[\\PC]{0,9}", number in any::<f64>()) {
            let json = serde_json::json!({ "a": [value, number, null, {}], "b": { "c": true } });
            let shown = pretty(json.to_string().as_bytes()).unwrap();
            // What is made visible is not JSON any more.
            prop_assume!(!shown.contains("\\u{"));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), json);
        }

        #[test]
        fn nothing_that_bytes_hold_stays_a_control_character(bytes: Vec<u8>) {
            let shown = line(&bytes, 50);
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert!(shown.chars().count() <= 50 * 10 + 1);
        }
    }
}
