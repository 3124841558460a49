//! How long a model stays in memory once nobody asks it anything. Absent: clocks; whoever keeps
//! models counts the time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How long a model is kept after the last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// So long; zero: not at all.
    For(Duration),
    /// No time alone unloads it; lack of memory may, after all others.
    Forever,
}

/// The units of a duration, as Go writes them, in milliseconds.
const UNITS: &[(&str, f64)] = &[
    ("ns", 1e-6),
    ("us", 1e-3),
    ("µs", 1e-3),
    ("ms", 1.0),
    ("s", 1e3),
    ("m", 60e3),
    ("h", 3600e3),
];
/// Ten years: what is longer is meant to be for ever.
const MOST_MS: f64 = 315_360_000e3;
/// What is longer is no duration.
const MOST_BYTES: usize = 64;

impl KeepAlive {
    /// So many seconds, to the millisecond; negative is for ever. `None` where it is no number or
    /// more than ten years.
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        Self::from_ms(seconds * 1e3)
    }

    fn from_ms(ms: f64) -> Option<Self> {
        if ms.is_nan() || ms > MOST_MS {
            return None;
        }
        let time = Duration::from_millis(ms.max(0.0).round() as u64);
        Some(if ms < 0.0 { Self::Forever } else { Self::For(time) })
    }
}

/// Not a time to keep a model for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a time such as \"5m\", \"1h30m\" or seconds, at most ten years; 0 unloads at once, -1 \
     or \"forever\" keeps"
)]
pub struct NoKeepAlive;

impl FromStr for KeepAlive {
    type Err = NoKeepAlive;

    fn from_str(text: &str) -> Result<Self, NoKeepAlive> {
        let text = text.trim();
        if text == "forever" {
            return Ok(Self::Forever);
        }
        if text.len() > MOST_BYTES {
            return Err(NoKeepAlive);
        }
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1.0, rest),
            None => (1.0, text),
        };
        if rest.is_empty() {
            return Err(NoKeepAlive);
        }
        let ms = number(rest).map(|seconds| seconds * 1e3).or_else(|| sum(rest));
        ms.and_then(|ms| Self::from_ms(sign * ms)).ok_or(NoKeepAlive)
    }
}

/// Digits, perhaps with a point among them.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|_| plain)
}

/// Numbers with units, added up: `1h30m`.
fn sum(mut text: &str) -> Option<f64> {
    let mut ms = 0.0;
    while !text.is_empty() {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (value, rest) = text.split_at(digits);
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(end);
        ms += number(value)? * UNITS.iter().find(|row| row.0 == unit)?.1;
        text = rest;
    }
    Some(ms)
}

impl fmt::Display for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(time) if time.subsec_millis() == 0 => write!(f, "{}s", time.as_secs()),
            Self::For(time) => write!(f, "{}ms", time.as_millis()),
            Self::Forever => f.write_str("forever"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let ms = |ms| Some(KeepAlive::For(Duration::from_millis(ms)));
        let rows = [
            ("5m", ms(300_000)),
            ("1h30m", ms(5_400_000)),
            ("1.5s", ms(1500)),
            ("300ms", ms(300)),
            ("300", ms(300_000)),
            ("0", ms(0)),
            ("0s", ms(0)),
            ("0.25", ms(250)),
            (" 2s ", ms(2000)),
            ("-1", Some(KeepAlive::Forever)),
            ("-5m", Some(KeepAlive::Forever)),
            ("forever", Some(KeepAlive::Forever)),
            ("", None),
            ("-", None),
            ("5x", None),
            ("m", None),
            ("5m3", None),
            ("1e3", None),
            ("inf", None),
            ("NaN", None),
            (".", None),
            ("+5m", None),
            ("99999999999h", None),
            ("1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h1h", None),
        ];
        for (text, expect) in rows {
            assert_eq!(text.parse::<KeepAlive>().ok(), expect, "{text:?}");
        }
        for seconds in [f64::NAN, f64::INFINITY, 1e12] {
            assert_eq!(KeepAlive::from_seconds(seconds), None, "{seconds}");
        }
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for text in ["0s", "90s", "1500ms", "forever"] {
            let keep: KeepAlive = text.parse().expect("a time");
            assert_eq!(keep.to_string(), text);
        }
    }
}
