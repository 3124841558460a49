//! What all commands about the ledger share: where it is, the time that is meant, and money as
//! people read it.

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args as ClapArgs;
use ingle_ledger::{Options, Place, Reader};
use ingle_model::pull::Store;
use ingle_protocol::wire::rfc3339;

/// Milliseconds of a day.
pub(super) const DAY_MS: u64 = 86_400_000;

/// Which ledger.
#[derive(Debug, ClapArgs)]
pub(super) struct LedgerArgs {
    /// The ledger: a file, or postgres://… [default: the one in Ingle's data]
    #[arg(long, value_name = "PLACE", env = "INGLE_LEDGER", hide_env_values = true)]
    ledger: Option<Place>,
}

impl LedgerArgs {
    pub(super) fn place(&self) -> anyhow::Result<Place> {
        match &self.ledger {
            Some(place) => Ok(place.clone()),
            None => Ok(Place::within(Store::open_default()?.root())),
        }
    }

    pub(super) fn reader(&self) -> anyhow::Result<Reader> {
        Ok(Reader::open(&self.place()?, &Options::default())?)
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A day's beginning in UTC, or so many days before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Milliseconds since 1970.
    Day(u64),
    /// Days.
    Ago(u64),
}

impl When {
    /// Milliseconds since 1970.
    pub(super) fn ms(self, now_ms: u64) -> u64 {
        match self {
            Self::Day(ms) => ms,
            Self::Ago(days) => now_ms.saturating_sub(days.saturating_mul(DAY_MS)),
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "write a day, such as 2026-11-01, or so many days ago, such as 7d".to_owned();
        if let Some(days) = text.strip_suffix('d') {
            return days.parse().map(Self::Ago).map_err(|_| wrong());
        }
        day_ms(text).map(Self::Day).ok_or_else(wrong)
    }
}

/// When a day begins. (A civil date to days: Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms".) One that is in no calendar is none.
fn day_ms(text: &str) -> Option<u64> {
    let mut parts = text.splitn(3, '-').map(str::parse::<u64>);
    let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    rfc3339(days * 86_400).starts_with(text).then_some(days * DAY_MS)
}

/// Micro-dollars in dollars, exactly, with two decimals at least.
pub(super) fn dollars(micros: u64) -> String {
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    let rest = format!("{rest:06}");
    let shown = rest.trim_end_matches('0');
    format!("${whole}.{shown:0<2}")
}

/// An estimate in dollars: three digits that count, whole micro-dollars at the finest.
pub(super) fn about(micros: f64) -> String {
    let dollars = micros / 1e6;
    match dollars.abs() {
        size if size >= 100.0 => format!("${dollars:.0}"),
        size if size >= 1.0 => format!("${dollars:.2}"),
        size if size >= 0.01 => format!("${dollars:.4}"),
        _ => format!("${dollars:.6}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_days_or_days_ago() {
        let check = |text: &str, expect: Option<When>| {
            assert_eq!(text.parse::<When>().ok(), expect, "{text}");
        };
        check("1970-01-01", Some(When::Day(0)));
        check("2000-02-29", Some(When::Day(951_782_400_000)));
        check("2026-11-22", Some(When::Day(1_795_305_600_000)));
        check("7d", Some(When::Ago(7)));
        check("0d", Some(When::Ago(0)));
        for text in ["", "d", "-1d", "2026-02-29", "2026-13-01", "2026-1-1", "1969-12-31"] {
            check(text, None);
        }
        for text in ["2026-11", "2026-11-22x", "22.11.2026", "99999999999-01-01"] {
            check(text, None);
        }
        assert_eq!(When::Ago(2).ms(3 * DAY_MS), DAY_MS);
        assert_eq!(When::Ago(u64::MAX).ms(3), 0);
    }

    #[test]
    fn money_is_exact_and_estimates_are_short() {
        let check = |micros: u64, expect: &str| assert_eq!(dollars(micros), expect);
        check(0, "$0.00");
        check(1, "$0.000001");
        check(1_500_000, "$1.50");
        check(1_234_567, "$1.234567");
        check(100_000_000, "$100.00");
        let check = |micros: f64, expect: &str| assert_eq!(about(micros), expect);
        check(0.0, "$0.000000");
        check(12.4, "$0.000012");
        check(123_456.0, "$0.1235");
        check(1_234_567.0, "$1.23");
        check(123_456_789.0, "$123");
    }
}
