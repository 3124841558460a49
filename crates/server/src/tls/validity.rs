//! From when until when a certificate is valid, read out of its DER (RFC 5280, sections 4.1 and
//! 4.1.2.5). Absent: everything else that a certificate says, which is rustls' business.

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// The first and the last second since 1970; `None` where it is no certificate. Before 1970 is 0.
pub(super) fn of(certificate: &[u8]) -> Option<(u64, u64)> {
    let (whole, _) = expect(certificate, SEQUENCE)?;
    let (mut fields, _) = expect(whole, SEQUENCE)?;
    if let Some((_, rest)) = expect(fields, VERSION) {
        fields = rest;
    }
    let (_serial, fields) = expect(fields, INTEGER)?;
    let (_algorithm, fields) = expect(fields, SEQUENCE)?;
    let (_issuer, fields) = expect(fields, SEQUENCE)?;
    let (times, _) = expect(fields, SEQUENCE)?;
    let (from, times) = time(times)?;
    let (until, _) = time(times)?;
    Some((from, until))
}

/// The content of the element that has to come, and what follows it.
fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, short], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = if short < 0x80 {
        (usize::from(short), rest)
    } else {
        let digits = usize::from(short & 0x7f);
        let (long, rest) = rest.split_at_checked(digits)?;
        let fits = (1..=4).contains(&digits);
        let add = |length: usize, byte: &u8| length << 8 | usize::from(*byte);
        (fits.then(|| long.iter().fold(0, add))?, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Two digits of a year stand for 1950 to 2049.
fn time(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (tag, content, rest) = element(bytes)?;
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let text = match tag {
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    if text.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |range| text.get(range).and_then(|digits: &str| digits.parse::<i64>().ok());
    let days = days(number(0..4)?, number(4..6)?, number(6..8)?)?;
    let seconds = (number(8..10)? * 60 + number(10..12)?) * 60 + number(12..14)?;
    Some((u64::try_from(days * 86_400 + seconds).unwrap_or(0), rest))
}

/// Days since 1970. (A civil date to days: Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms".)
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(tag: u8, text: &str) -> Vec<u8> {
        [&[tag, text.len() as u8], text.as_bytes()].concat()
    }

    #[test]
    fn times_of_both_kinds() {
        let rows = [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(0)),
            (UTC_TIME, "240229120000Z", Some(1_709_208_000)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (GENERALIZED_TIME, "20241301000000Z", None),
            (GENERALIZED_TIME, "20240101000000", None),
            (GENERALIZED_TIME, "2024010100000+Z", None),
            (UTC_TIME, "Z", None),
            (UTC_TIME, "ä4022912000Z", None),
            (INTEGER, "240229120000Z", None),
        ];
        for (tag, digits, expect) in rows {
            assert_eq!(time(&text(tag, digits)).map(|it| it.0), expect, "{digits}");
        }
    }

    /// Whatever bytes come, there is an answer.
    #[test]
    fn no_bytes_are_trusted() {
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let der = certificate.expect("can be made").cert.der().to_vec();
        let (from, until) = of(&der).expect("is one");
        assert!(from < until, "{from} {until}");
        for length in 0..der.len() {
            assert_eq!(of(&der[..length]), None, "the first {length} bytes");
        }
        for at in 0..der.len() {
            for flip in [1, 0x7f, 0x80, 0xff] {
                let mut broken = der.clone();
                broken[at] ^= flip;
                let _ = of(&broken);
            }
        }
    }
}
