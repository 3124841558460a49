//! For how long a budget is: days and months as UTC has them, from milliseconds since 1970.
//! Absent: any clock, and time zones.

use std::ops::Range;

const DAY_MS: u64 = 86_400_000;

/// For how long a budget is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// A day, by UTC.
    Day,
    /// A month, by UTC.
    #[default]
    Month,
    /// As long as it stands.
    Forever,
}

/// One day, one month, or all time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// Milliseconds since 1970 when it begins.
    pub start_ms: u64,
    /// And when the next one does; `u64::MAX` for never.
    pub end_ms: u64,
}

impl Window {
    /// Whether that moment is in it.
    pub fn holds(&self, at_ms: u64) -> bool {
        (self.start_ms..self.end_ms).contains(&at_ms)
    }
}

impl Period {
    /// All of them, with their names in a policy.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Day, "day"), (Self::Month, "month"), (Self::Forever, "forever")];

    /// The window that a moment is in.
    pub fn window(self, at_ms: u64) -> Window {
        let days = match self {
            Self::Forever => return Window { start_ms: 0, end_ms: u64::MAX },
            Self::Day => at_ms / DAY_MS..at_ms / DAY_MS + 1,
            Self::Month => month(at_ms / DAY_MS),
        };
        let ms = |day: u64| day.saturating_mul(DAY_MS);
        Window { start_ms: ms(days.start), end_ms: ms(days.end) }
    }
}

/// The days since 1970 of the month that a day is in. Years are reckoned from March, so that a
/// leap day is a year's last, in eras of 400 years, which have 146,097 days.
fn month(day: u64) -> Range<u64> {
    const ERA_DAYS: u64 = 146_097;
    // Days since 1 March of the year 0.
    let day = day + 719_468;
    let (era, of_era) = (day / ERA_DAYS, day % ERA_DAYS);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let begin = |year: u64| 365 * year + year / 4 - year / 100;
    let of_year = of_era - begin(year);
    // March's lengths, April's and so on: 31 30 31 30 31, twice, and what is left.
    let first = |month: u64| (153 * month + 2) / 5;
    let month = (5 * of_year + 2) / 153;
    let start = era * ERA_DAYS + begin(year) + first(month);
    let leap = (year + 1) % 4 == 0 && ((year + 1) % 100 != 0 || (year + 1) % 400 == 0);
    let length = match month {
        11 => 28 + u64::from(leap),
        _ => first(month + 1) - first(month),
    };
    start - 719_468..start - 719_468 + length
}

#[cfg(test)]
mod tests {
    use super::{DAY_MS, Period};

    #[test]
    fn windows_are_utc_days_and_months() {
        // Days since 1970, as `date -u -d 2024-02-29 +%s` / 86400 has them.
        let check = |period: Period, day: u64, days: std::ops::Range<u64>| {
            for at_ms in [day * DAY_MS, day * DAY_MS + DAY_MS - 1] {
                let window = period.window(at_ms);
                assert_eq!(window.start_ms..window.end_ms, days.start * DAY_MS..days.end * DAY_MS);
                assert!(window.holds(at_ms) && !window.holds(window.end_ms));
            }
        };
        check(Period::Day, 20_779, 20_779..20_780);
        check(Period::Month, 0, 0..31); // January 1970
        check(Period::Month, 31, 31..59);
        check(Period::Month, 58, 31..59);
        check(Period::Month, 59, 59..90);
        check(Period::Month, 11_016, 10_988..11_017); // 29 February 2000
        check(Period::Month, 19_782, 19_754..19_783); // 29 February 2024
        check(Period::Month, 20_779, 20_758..20_788); // 22 November 2026
        check(Period::Month, 47_540, 47_513..47_541); // 28 February 2100, no leap year
        let forever = Period::Forever.window(5);
        assert_eq!((forever.start_ms, forever.end_ms), (0, u64::MAX));
    }

    #[test]
    fn months_follow_one_another_for_800_years() {
        let (mut at, mut months) = (0, 0);
        while months < 9_600 {
            let window = Period::Month.window(at);
            assert_eq!(window.start_ms, at);
            let days = (window.end_ms - at) / DAY_MS;
            assert!((28..=31).contains(&days), "month {months} has {days} days");
            assert_eq!(Period::Month.window(window.end_ms - 1), window);
            (at, months) = (window.end_ms, months + 1);
        }
        // 1 January 2770 is two eras on.
        assert_eq!(at, 2 * 146_097 * DAY_MS);
        assert_eq!(Period::Month.window(u64::MAX).end_ms, u64::MAX);
    }
}
