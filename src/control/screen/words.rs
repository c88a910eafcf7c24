//! Numbers and foreign text as they fit on a screen.

/// Stands for what was left out.
const CUT: char = '~';

/// How wide a character may be: those beyond ASCII count as wide, so that no line grows longer
/// than it was counted, whatever the terminal makes of them.
fn width_of(character: char) -> usize {
    if character.is_ascii() { 1 } else { 2 }
}

/// Columns that a text takes at most.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(width_of).sum()
}

/// Foreign text in one line: nothing in it moves the cursor, ends the line or turns its direction.
pub(super) fn plain(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.replace(hidden, " ")
}

/// At most so wide, the end left out.
pub(super) fn cut(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let mut taken = take(text.chars(), most.saturating_sub(1));
    if most > 0 {
        taken.push(CUT);
    }
    taken
}

/// At most so wide, the middle left out: of a key the end tells most, of a topic both.
pub(super) fn cut_middle(text: &str, most: usize) -> String {
    if width(text) <= most || most < 4 {
        return cut(text, most);
    }
    let end = (most - 1) * 2 / 3;
    let tail: String = take(text.chars().rev(), end).chars().rev().collect();
    let mut shown = take(text.chars(), most - 1 - end);
    shown.push(CUT);
    shown + &tail
}

fn take(characters: impl Iterator<Item = char>, most: usize) -> String {
    let mut used = 0;
    let fits = |character: &char| {
        used += width_of(*character);
        used <= most
    };
    characters.take_while(fits).collect()
}

/// Broken into lines at most so wide, at spaces where there are some; its own line ends are kept.
/// Every line but the first begins with `indent`.
pub(super) fn wrap(text: &str, most: usize, indent: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for own_line in text.trim_end().split('\n') {
        let mut line = if lines.is_empty() { "" } else { indent }.to_owned();
        let mut is_empty = true;
        for word in plain(own_line).split_whitespace() {
            let mut word = word;
            if !is_empty && width(&line) + 1 + width(word) > most {
                lines.push(std::mem::replace(&mut line, indent.to_owned()));
                is_empty = true;
            }
            if !is_empty {
                line.push(' ');
            }
            while width(&line) + width(word) > most {
                let piece = take(word.chars(), most.saturating_sub(width(&line)).max(2));
                word = &word[piece.len()..];
                line.push_str(&piece);
                lines.push(std::mem::replace(&mut line, indent.to_owned()));
            }
            line.push_str(word);
            is_empty = false;
        }
        if !is_empty {
            lines.push(line);
        }
    }
    lines
}

/// Six columns at most: `99999`, `123k`, `4.6M`.
pub(super) fn count(number: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
        (1_000, "k"),
    ];
    if number < 100_000 {
        return number.to_string();
    }
    let fit = UNITS.into_iter().find(|(unit, _)| number >= *unit);
    match fit {
        Some((unit, name)) => with_unit(number, unit, name),
        None => number.to_string(),
    }
}

/// Seven columns at most: `512B`, `12.3KiB`, `640MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    let fit = UNITS.into_iter().find(|(unit, _)| bytes >= *unit);
    match fit {
        Some((unit, name)) => with_unit(bytes, unit, name),
        None => format!("{bytes}B"),
    }
}

fn with_unit(number: u64, unit: u64, name: &str) -> String {
    // Rounded down: what is shown has been reached.
    let tenths = (u128::from(number) * 10 / u128::from(unit)) as u64;
    if tenths < 1000 {
        format!("{}.{}{name}", tenths / 10, tenths % 10)
    } else {
        format!("{}{name}", tenths / 10)
    }
}

/// Six columns at most: `4s`, `3m20s`, `5h07m`, `12d04h`, `400d`.
pub(super) fn period(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ if days < 100 => format!("{days}d{:02}h", hours % 24),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_their_columns_whatever_they_are() {
        for number in (0..16).map(|power| 10_u64.pow(power)) {
            for number in [number, number - 1] {
                assert!(count(number).len() <= 6, "{}", count(number));
                assert!(size(number).len() <= 7, "{}", size(number));
            }
            if number < 86_400 * 10_000 {
                assert!(period(number).len() <= 6, "{}", period(number));
            }
        }
        // Beyond what there is, it is only not to fail.
        for number in [count(u64::MAX), size(u64::MAX), period(u64::MAX)] {
            assert!(!number.is_empty());
        }
    }

    #[test]
    fn numbers_are_read_at_a_glance() {
        assert_eq!(count(99_999), "99999");
        assert_eq!(count(123_456), "123k");
        assert_eq!(count(4_650_000), "4.6M");
        assert_eq!(size(512), "512B");
        assert_eq!(size(12_600), "12.3KiB");
        assert_eq!(size(640 << 20), "640MiB");
        assert_eq!(period(4), "4s");
        assert_eq!(period(200), "3m20s");
        assert_eq!(period(18_420), "5h07m");
        assert_eq!(period(1_051_200), "12d04h");
    }

    #[test]
    fn what_is_cut_keeps_what_tells_most() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 4), "abc~");
        assert_eq!(
            cut_middle("parquet_files/a-00001.parquet", 16),
            "parqu~01.parquet"
        );
        assert_eq!(cut("abc", 0), "");
        assert!(width(&cut_middle(&"\u{4e00}".repeat(50), 21)) <= 21);
    }

    #[test]
    fn a_wrapped_text_stays_within_its_width_and_keeps_its_lines() {
        let text = format!(
            "gap: one two three\n[[skip]]\ntopic = \"{}\"\n",
            "x".repeat(50)
        );
        let lines = wrap(&text, 20, "  ");
        assert!(lines.iter().all(|line| width(line) <= 20), "{lines:?}");
        assert_eq!(lines[..2], ["gap: one two three", "  [[skip]]"]);
        let joined: String = lines.iter().map(|line| line.trim()).collect();
        assert!(joined.contains(&"x".repeat(50)));
    }

    #[test]
    fn foreign_text_moves_no_cursor() {
        let hostile = "a\u{1b}[2J\u{9b}\r\n\u{202e}b\u{200b}";
        assert!(
            plain(hostile)
                .chars()
                .all(|c| c.is_ascii_graphic() || c == ' ')
        );
    }
}
