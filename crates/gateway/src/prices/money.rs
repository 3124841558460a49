//! Decimal texts as whole numbers, exactly: `2.50` dollars a million tokens is 2,500,000
//! pico-dollars a token. What is finer than the unit is refused and not rounded. Absent: floats.

/// Pico-dollars in a micro-dollar.
pub const PICO_IN_MICRO: u128 = 1_000_000;

/// Micro-dollars, rounded up; `u64::MAX` for what is more.
pub fn micros_up(pico: u128) -> u64 {
    u64::try_from(pico.div_ceil(PICO_IN_MICRO)).unwrap_or(u64::MAX)
}

/// A decimal number times 10^`places`, exactly: `2.50` with 6 places is 2,500,000. Digits with at
/// most one point, and underscores between digits; no sign and no exponent.
///
/// # Errors
/// What is wrong with the text: no number, more places than the unit has, or too large.
pub fn exact(text: &str, places: u32) -> Result<u64, String> {
    let text = text.trim();
    let clean: String = text.chars().filter(|c| *c != '_').collect();
    let (whole, part) = clean.split_once('.').unwrap_or((clean.as_str(), ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if clean.len() > 40 || !digits(whole) || !digits(part) || whole.is_empty() {
        let shown: String = text.chars().take(40).collect();
        return Err(format!("{shown:?} is no decimal number, such as \"2.50\""));
    }
    let part = part.trim_end_matches('0');
    let places = usize::try_from(places).unwrap_or(usize::MAX);
    if part.len() > places {
        return Err(format!("{text} is finer than {places} decimal places"));
    }
    format!("{whole}{part:0<places$}").parse().map_err(|_| format!("{text} is too large"))
}

/// Micro-dollars as dollars: `$0.0012`, `$12.50`. At least two places, and no zeros after them.
pub fn dollars(micros: u64) -> String {
    let (whole, part) = (micros / 1_000_000, micros % 1_000_000);
    let part = format!("{part:06}");
    let part = part.trim_end_matches('0');
    format!("${whole}.{part:0<2}")
}

#[cfg(test)]
mod tests {
    use super::{dollars, exact, micros_up};

    #[test]
    fn decimals_are_exact() {
        let check =
            |text: &str, places, expect: Result<u64, &str>| match (exact(text, places), expect) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{text}"),
                (Err(got), Err(want)) => assert!(got.contains(want), "{text}: {got}"),
                (got, want) => panic!("{text}: {got:?}, not {want:?}"),
            };
        check("2.50", 6, Ok(2_500_000));
        check("0", 6, Ok(0));
        check("12", 0, Ok(12));
        check("1_000.25", 2, Ok(100_025));
        check("0.000001", 6, Ok(1));
        check("0.0000010", 6, Ok(1));
        check("0.0000001", 6, Err("finer than 6"));
        check("18446744073709.551615", 6, Ok(u64::MAX));
        check("18446744073709.551616", 6, Err("too large"));
        for text in ["", ".5", "-1", "1e3", "1.2.3", "NaN", "½", "0x10", " "] {
            check(text, 6, Err("no decimal number"));
        }
        check(&"9".repeat(400), 6, Err("no decimal number"));
    }

    #[test]
    fn money_is_rounded_up_and_shown() {
        let check = |pico, micros| assert_eq!(micros_up(pico), micros, "{pico}");
        check(0, 0);
        check(1, 1);
        check(1_000_000, 1);
        check(1_000_001, 2);
        check(u128::MAX, u64::MAX);
        let shown = |micros, text| assert_eq!(dollars(micros), text);
        shown(0, "$0.00");
        shown(1, "$0.000001");
        shown(1_200, "$0.0012");
        shown(12_500_000, "$12.50");
    }
}
