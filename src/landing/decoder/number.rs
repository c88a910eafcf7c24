//! Numbers and times as JSON writes them, read without loss.

use std::ops::Range;

use crate::config::TimeUnit;
use crate::messages::Cause;

/// Instants from year 1 to 9999, in microseconds since 1970 UTC: what every reader of the files
/// can show (Python's `datetime` ends there).
pub(super) const INSTANTS_US: Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

/// A decimal number: mantissa times ten to the exponent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    /// Its first significant digits, at most 19.
    mantissa: u64,
    exponent: i64,
    /// Whether digits other than zero were left out of the mantissa.
    cut: bool,
}

impl Decimal {
    /// `None`: not a number by JSON's grammar.
    #[inline]
    fn read(text: &str) -> Option<Self> {
        Self::read_short(text.as_bytes()).or_else(|| Self::read_any(text.as_bytes()))
    }

    /// As [`Decimal::read_any`], for digits with or without a fraction that surely fit.
    #[inline]
    fn read_short(bytes: &[u8]) -> Option<Self> {
        let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
        // A leading zero before another digit is none of JSON's, nor a point at either end.
        match *digits {
            [b'0'..=b'9'] | [b'0', b'.', .., b'0'..=b'9'] | [b'1'..=b'9', .., b'0'..=b'9'] => {}
            _ => return None,
        }
        if digits.len() > 19 {
            return None;
        }
        let (mut mantissa, mut point) = (0u64, None);
        for (at, byte) in digits.iter().enumerate() {
            let digit = byte.wrapping_sub(b'0');
            if digit <= 9 {
                mantissa = mantissa * 10 + u64::from(digit);
            } else if *byte == b'.' && point.is_none() {
                point = Some(at);
            } else {
                return None;
            }
        }
        let fraction = point.map_or(0, |point| digits.len() - 1 - point);
        Some(Self {
            negative: digits.len() < bytes.len(),
            mantissa,
            exponent: -(fraction as i64),
            cut: false,
        })
    }

    fn read_any(bytes: &[u8]) -> Option<Self> {
        let (negative, mut at) = match bytes.first()? {
            b'-' => (true, 1),
            _ => (false, 0),
        };
        let mut number = Self {
            negative,
            mantissa: 0,
            exponent: 0,
            cut: false,
        };
        let whole = at;
        while let Some(digit) = bytes.get(at).copied().filter(u8::is_ascii_digit) {
            number.push(digit, false);
            at += 1;
        }
        if at == whole || (bytes[whole] == b'0' && at > whole + 1) {
            return None;
        }
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            let fraction = at;
            while let Some(digit) = bytes.get(at).copied().filter(u8::is_ascii_digit) {
                number.push(digit, true);
                at += 1;
            }
            if at == fraction {
                return None;
            }
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            number.exponent += exponent(&bytes[at + 1..])?;
        } else if at < bytes.len() {
            return None;
        }
        Some(number)
    }

    #[inline(always)]
    fn push(&mut self, digit: u8, fraction: bool) {
        /// Below this one more digit fits.
        const FULL: u64 = 1_000_000_000_000_000_000;
        if self.mantissa < FULL {
            self.mantissa = self.mantissa * 10 + u64::from(digit - b'0');
            self.exponent -= i64::from(fraction);
        } else {
            self.cut |= digit != b'0';
            self.exponent += i64::from(!fraction);
        }
    }

    fn to_i64(mut self) -> Result<i64, Cause> {
        while self.exponent < 0 && self.mantissa.is_multiple_of(10) && self.mantissa > 0 {
            self.mantissa /= 10;
            self.exponent += 1;
        }
        if self.mantissa == 0 {
            return Ok(0);
        }
        if self.exponent < 0 || (self.cut && self.exponent == 0) {
            return Err(Cause::Type);
        }
        let scale = u32::try_from(self.exponent)
            .ok()
            .and_then(|exponent| 10i128.checked_pow(exponent));
        let value = scale.and_then(|scale| scale.checked_mul(i128::from(self.mantissa)));
        let signed = value.map(|value| if self.negative { -value } else { value });
        signed
            .filter(|_| !self.cut)
            .and_then(|value| i64::try_from(value).ok())
            .ok_or(Cause::Range)
    }

    /// This many units of ten to the `scale` microseconds; what is below a microsecond is cut off
    /// towards the past.
    fn to_instant(self, scale: i64) -> Result<i64, Cause> {
        let exponent = self.exponent + scale;
        let mantissa = i128::from(self.mantissa);
        let (value, rest) = if exponent >= 0 {
            let power = u32::try_from(exponent)
                .ok()
                .and_then(|e| 10i128.checked_pow(e));
            let value = power.and_then(|power| power.checked_mul(mantissa));
            match value {
                Some(value) => (value, self.cut),
                None if mantissa == 0 => (0, false),
                None => return Err(Cause::Range),
            }
        } else {
            let power = u32::try_from(-exponent)
                .ok()
                .and_then(|e| 10i128.checked_pow(e));
            match power {
                Some(power) => (mantissa / power, mantissa % power != 0 || self.cut),
                None => (0, mantissa != 0),
            }
        };
        let value = match self.negative {
            true => -value - i128::from(rest),
            false => value,
        };
        let value = i64::try_from(value).map_err(|_| Cause::Range)?;
        in_range(value)
    }
}

/// The exponent behind the `e`, held within what no scale can bring back.
fn exponent(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes.first()? {
        b'-' => (true, &bytes[1..]),
        b'+' => (false, &bytes[1..]),
        _ => (false, bytes),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i64, |sum, digit| {
        (sum * 10 + i64::from(digit - b'0')).min(1 << 40)
    });
    Some(if negative { -value } else { value })
}

fn in_range(instant_us: i64) -> Result<i64, Cause> {
    match INSTANTS_US.contains(&instant_us) {
        true => Ok(instant_us),
        false => Err(Cause::Range),
    }
}

/// A whole number, however it is written: `1000`, `1000.0` and `1e3` are the same.
#[inline]
pub(super) fn int64(text: &str) -> Result<i64, Cause> {
    match plain_digits(text) {
        Some(value) => Ok(value),
        None => Decimal::read(text).ok_or(Cause::Type)?.to_i64(),
    }
}

/// A number of digits alone, too few to overflow. A leading zero is left to the full grammar.
#[inline]
fn plain_digits(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if !(1..=18).contains(&bytes.len()) || bytes[0] == b'0' {
        return None;
    }
    let mut value = 0;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(value)
}

/// The nearest double.
#[inline]
pub(crate) fn float64(text: &str) -> Result<f64, Cause> {
    const POWERS: [f64; 23] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
        1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
    ];
    let number = Decimal::read(text).ok_or(Cause::Type)?;
    // Both operands are exact doubles, so one operation rounds once: to the nearest.
    if number.mantissa <= 1 << 53 && (-22..=22).contains(&number.exponent) && !number.cut {
        let power = POWERS[number.exponent.unsigned_abs() as usize];
        let mantissa = number.mantissa as f64;
        let value = match number.exponent < 0 {
            true => mantissa / power,
            false => mantissa * power,
        };
        return Ok(if number.negative { -value } else { value });
    }
    let value: f64 = fast_float2::parse(text).map_err(|_| Cause::Type)?;
    match value.is_finite() {
        true => Ok(value),
        false => Err(Cause::Range),
    }
}

/// An instant in microseconds since 1970 UTC.
#[inline]
pub(crate) fn instant(text: &str, unit: TimeUnit) -> Result<i64, Cause> {
    let (scale, micros) = match unit {
        TimeUnit::S => (6, 1_000_000),
        TimeUnit::Ms => (3, 1000),
        TimeUnit::Us => (0, 1),
        TimeUnit::Rfc3339 => return rfc3339(text),
    };
    if let Some(time) = plain_digits(text).and_then(|value| value.checked_mul(micros)) {
        return in_range(time);
    }
    Decimal::read(text).ok_or(Cause::Type)?.to_instant(scale)
}

/// `2026-11-24T00:20:16.123456Z`, `t`, `z` or a space allowed, or an offset such as `+01:00`.
/// Second 60 is the next minute's first. Digits below a microsecond are cut off.
fn rfc3339(text: &str) -> Result<i64, Cause> {
    let fields = Rfc3339::read(text.as_bytes()).ok_or(Cause::Type)?;
    fields.to_instant()
}

struct Rfc3339 {
    year: i64,
    month: i64,
    day: i64,
    second_of_day: i64,
    micros: i64,
    offset_s: i64,
}

impl Rfc3339 {
    fn read(bytes: &[u8]) -> Option<Self> {
        let two = |at: usize| -> Option<i64> { digits(bytes.get(at..at + 2)?) };
        let (head, rest) = bytes.split_at_checked(19)?;
        let marks = [head[4], head[7], head[10], head[13], head[16]];
        if !matches!(marks, [b'-', b'-', b'T' | b't' | b' ', b':', b':']) {
            return None;
        }
        let (year, month, day) = (digits(&head[..4])?, two(5)?, two(8)?);
        let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
        if !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) {
            return None;
        }
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let (micros, zone) = fraction(rest)?;
        Some(Self {
            year,
            month,
            day,
            second_of_day: hour * 3600 + minute * 60 + second,
            micros,
            offset_s: zone_offset(zone)?,
        })
    }

    fn to_instant(&self) -> Result<i64, Cause> {
        let days = days_from_civil(self.year, self.month, self.day);
        let seconds = days * 86_400 + self.second_of_day - self.offset_s;
        in_range(seconds * 1_000_000 + self.micros)
    }
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |sum, byte| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + i64::from(byte - b'0'))
    })
}

/// The fraction of a second in microseconds, and what is behind it.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = rest.strip_prefix(b".") else {
        return Some((0, rest));
    };
    let length = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let micros = (0..6).fold(0, |sum, at| {
        let digit = digits[..length].get(at).map_or(0, |byte| byte - b'0');
        sum * 10 + i64::from(digit)
    });
    Some((micros, &digits[length..]))
}

fn zone_offset(zone: &[u8]) -> Option<i64> {
    let sign = match zone {
        b"Z" | b"z" => return Some(0),
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return None,
    };
    let [_, h1, h2, b':', m1, m2] = *zone else {
        return None;
    };
    let (hours, minutes) = (digits(&[h1, h2])?, digits(&[m1, m2])?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar: years begin in March, so that the leap day is
/// the last; 719,468 is the day number of 1970-01-01 from 0000-03-01.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn floats_are_the_nearest_double(text in "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?") {
            let expected: f64 = text.parse().unwrap();
            match float64(&text) {
                Ok(value) => prop_assert_eq!(value.to_bits(), expected.to_bits()),
                Err(cause) => prop_assert!(cause == Cause::Range && expected.is_infinite()),
            }
        }

        #[test]
        fn what_is_a_number_is_what_the_grammar_says(text in "[-+0-9.eE]{0,8}") {
            let json = super::super::scan::number_end(text.as_bytes(), 0) == Ok(text.len());
            prop_assert_eq!(Decimal::read(&text).is_some(), json);
        }

        #[test]
        fn whole_numbers_survive_every_spelling(value: i64, zeros in 0usize..30) {
            prop_assert_eq!(int64(&value.to_string()), Ok(value));
            if zeros > 0 {
                let spelled = format!("{value}.{}", "0".repeat(zeros));
                prop_assert_eq!(int64(&spelled), Ok(value));
            }
            if value != 0 {
                let spelled = format!("{value}{}e-{zeros}", "0".repeat(zeros));
                prop_assert_eq!(int64(&spelled), Ok(value));
            }
        }

        #[test]
        fn instants_are_read_as_chrono_reads_them(us in INSTANTS_US, minutes in -1439i32..1440) {
            let zone = chrono::FixedOffset::east_opt(minutes * 60).unwrap();
            let time = chrono::DateTime::from_timestamp_micros(us).unwrap().with_timezone(&zone);
            let text = time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
            prop_assume!(text.len() <= 32 && !text.starts_with(['-', '+']));
            prop_assert_eq!(instant(&text, TimeUnit::Rfc3339), Ok(us));
        }

        #[test]
        fn what_chrono_refuses_is_refused(text in "(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-][0-2][0-9]:[0-6][0-9])") {
            let expected = chrono::DateTime::parse_from_rfc3339(&text).ok();
            prop_assert_eq!(instant(&text, TimeUnit::Rfc3339).ok(), expected.map(|time| time.timestamp_micros()));
        }
    }

    #[test]
    fn times_below_a_microsecond_are_cut_towards_the_past() {
        assert_eq!(instant("1.23456789", TimeUnit::S), Ok(1_234_567));
        assert_eq!(instant("-0.0000001", TimeUnit::S), Ok(-1));
        assert_eq!(instant("-1.5", TimeUnit::Us), Ok(-2));
        assert_eq!(instant("1e-400", TimeUnit::S), Ok(0));
        assert_eq!(instant("0e999999", TimeUnit::S), Ok(0));
        assert_eq!(
            instant("1735520478e0", TimeUnit::S),
            Ok(1_735_520_478_000_000)
        );
        assert_eq!(instant("1e400", TimeUnit::S), Err(Cause::Range));
        assert_eq!(instant("1735520478000000", TimeUnit::S), Err(Cause::Range));
    }
}
