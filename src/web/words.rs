//! Numbers, sizes, times and rates as people read them. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// What is not known.
pub(super) const UNKNOWN: &str = "–";

/// With a narrow space after each three digits.
pub(super) fn number(number: impl Into<i128>) -> String {
    let number: i128 = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 * 3 + 1);
    if number < 0 {
        text.push('−');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// In the unit that leaves one to four digits.
pub(super) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ if value < 10.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// The largest unit, and one digit behind it where that says something.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() || s < 0.0 => UNKNOWN.to_owned(),
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

/// So many in so long; slow ones by the minute.
pub(super) fn rate(count: u64, window: Duration) -> String {
    let seconds = window.as_secs_f64();
    if seconds <= 0.0 {
        return UNKNOWN.to_owned();
    }
    match count as f64 / seconds {
        0.0 => "0/s".to_owned(),
        slow if slow < 0.95 => format!("{:.0}/min", (slow * 60.0).max(1.0)),
        rate if rate < 10.0 => format!("{rate:.1}/s"),
        rate => format!("{}/s", number(rate.round() as i64)),
    }
}

/// Date and time in UTC, to the second.
pub(super) fn time(time_ms: i64) -> String {
    match DateTime::<Utc>::from_timestamp_millis(time_ms) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => UNKNOWN.to_owned(),
    }
}

/// As `time` elements want it.
pub(super) fn machine_time(time_ms: i64) -> String {
    let time = DateTime::<Utc>::from_timestamp_millis(time_ms).unwrap_or_default();
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Degrees with the letter of the half of the earth.
pub(super) fn degrees(degrees: f64, positive: char, negative: char) -> String {
    let letter = if degrees < 0.0 { negative } else { positive };
    format!("{:.2}° {letter}", degrees.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(number(-1000), "−1\u{202f}000");
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        let of = [0, 1023, 1024, 10_240, 1_500_000, 5 << 40].map(bytes);
        assert_eq!(
            of,
            ["0 B", "1023 B", "1.0 KiB", "10 KiB", "1.4 MiB", "5.0 TiB"]
        );
    }

    #[test]
    fn durations_have_the_unit_that_fits() {
        let of = [0.25, 3.0, 59.6, 600.0, 9000.0, 400_000.0, -1.0].map(duration);
        assert_eq!(
            of,
            ["250 ms", "3.0 s", "60 s", "10 min", "2.5 h", "4.6 d", "–"]
        );
    }

    #[test]
    fn slow_rates_are_told_by_the_minute() {
        let of = |count, seconds| rate(count, Duration::from_secs(seconds));
        assert_eq!(of(0, 10), "0/s");
        assert_eq!(of(2, 10), "12/min");
        assert_eq!(of(55, 10), "5.5/s");
        assert_eq!(of(12_340_000, 10), "1\u{202f}234\u{202f}000/s");
        assert_eq!(of(3, 0), UNKNOWN);
    }

    #[test]
    fn times_are_utc_and_never_fail() {
        assert_eq!(time(1_795_575_600_000), "2026-11-25 03:00:00 UTC");
        assert_eq!(machine_time(1_795_575_600_000), "2026-11-25T03:00:00Z");
        assert_eq!(time(i64::MAX), UNKNOWN);
    }

    #[test]
    fn degrees_name_their_half() {
        assert_eq!(degrees(-51.5, 'N', 'S'), "51.50° S");
        assert_eq!(degrees(0.0, 'E', 'W'), "0.00° E");
    }
}
