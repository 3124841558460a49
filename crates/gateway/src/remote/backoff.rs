//! How long it is waited before a retry, and what a provider says of that itself. Pure: chance and
//! time are arguments.

use std::time::{Duration, SystemTime};

use super::Backoff;

/// The wait before the `n`th retry, from 0: between half and all of what doubles each time.
pub(super) fn wait(backoff: &Backoff, n: u32, random: u64) -> Duration {
    let doubled = backoff.first.saturating_mul(1_u32 << n.min(16));
    let half = doubled.min(backoff.most) / 2;
    let part = (random >> 32) as u32;
    half + half.mul_f64(f64::from(part) / f64::from(u32::MAX))
}

/// The longest that a provider is left alone because it says so: what it says beyond that helps
/// nobody, and may be a lie.
const ALONE_MOST: Duration = Duration::from_secs(3600);

/// How long a `Retry-After` says to wait, an hour at most: milliseconds, where there is the header
/// that some have for these, else seconds, or a date, for which the time is needed.
pub(super) fn wanted(ms: Option<&str>, usual: Option<&str>, now_ms: u64) -> Option<Duration> {
    let exact = ms.and_then(|ms| ms.trim().parse().ok()).map(Duration::from_millis);
    let wanted = exact.or_else(|| retry_after(usual?, now_ms));
    wanted.map(|wanted| wanted.min(ALONE_MOST))
}

fn retry_after(value: &str, now_ms: u64) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let since = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(since.saturating_sub(Duration::from_millis(now_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_bounds() {
        let backoff =
            Backoff { first: Duration::from_millis(100), most: Duration::from_millis(1_000) };
        let check = |n, random, expect| {
            assert_eq!(wait(&backoff, n, random).as_millis(), expect, "{n} {random}");
        };
        check(0, 0, 50);
        check(0, u64::MAX, 100);
        check(1, 0, 100);
        check(2, u64::MAX, 400);
        check(5, u64::MAX, 1_000);
        check(u32::MAX, 0, 500);
    }

    #[test]
    fn retry_after_is_read() {
        let check = |value, expect: Option<u64>| {
            let told = wanted(None, Some(value), 784_111_777_000).map(|told| told.as_secs());
            assert_eq!(told, expect, "{value}");
        };
        check("3", Some(3));
        check(" 120 ", Some(120));
        check("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)); // ten seconds later
        check("Sun, 06 Nov 1994 08:49:27 GMT", Some(0)); // past
        check("soon", None);
        check("-1", None);
        check("", None);
        // Nobody is left alone for ever.
        check("18446744073709551615", Some(3600));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(3600));
    }

    #[test]
    fn milliseconds_come_first() {
        let check = |ms, usual, expect: Option<u128>| {
            let told = wanted(ms, usual, 0).map(|told| told.as_millis());
            assert_eq!(told, expect, "{ms:?} {usual:?}");
        };
        check(Some(" 70 "), Some("3"), Some(70));
        check(Some("soon"), Some("3"), Some(3_000));
        check(Some("18446744073709551615"), None, Some(3_600_000));
        check(None, None, None);
    }
}
