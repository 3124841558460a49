//! Account numbers (IBAN), by the registry's table of countries: how long they are, and where
//! letters may stand. Absent: national account numbers, which have no common form.

use super::Kind;
use super::runs::{Candidate, Page};
use super::sums::mod_97;

/// A country, and its account numbers: how many characters of which sort, `n` digits, `a` letters,
/// `c` either.
const COUNTRIES: &[(&str, &str)] = &[
    ("AD", "8n12c"),
    ("AE", "19n"),
    ("AL", "8n16c"),
    ("AT", "16n"),
    ("AZ", "4a20c"),
    ("BA", "16n"),
    ("BE", "12n"),
    ("BG", "4a6n8c"),
    ("BH", "4a14c"),
    ("BI", "23n"),
    ("BR", "23n1a1c"),
    ("BY", "4c4n16c"),
    ("CH", "5n12c"),
    ("CR", "18n"),
    ("CY", "8n16c"),
    ("CZ", "20n"),
    ("DE", "18n"),
    ("DJ", "23n"),
    ("DK", "14n"),
    ("DO", "4c20n"),
    ("EE", "16n"),
    ("EG", "25n"),
    ("ES", "20n"),
    ("FI", "14n"),
    ("FK", "2a12n"),
    ("FO", "14n"),
    ("FR", "10n11c2n"),
    ("GB", "4a14n"),
    ("GE", "2a16n"),
    ("GI", "4a15c"),
    ("GL", "14n"),
    ("GR", "7n16c"),
    ("GT", "4c20c"),
    ("HN", "4a20n"),
    ("HR", "17n"),
    ("HU", "24n"),
    ("IE", "4a14n"),
    ("IL", "19n"),
    ("IQ", "4a15n"),
    ("IS", "22n"),
    ("IT", "1a10n12c"),
    ("JO", "4a4n18c"),
    ("KW", "4a22c"),
    ("KZ", "3n13c"),
    ("LB", "4n20c"),
    ("LC", "4a24c"),
    ("LI", "5n12c"),
    ("LT", "16n"),
    ("LU", "3n13c"),
    ("LV", "4a13c"),
    ("LY", "21n"),
    ("MC", "10n11c2n"),
    ("MD", "2c18c"),
    ("ME", "18n"),
    ("MK", "3n10c2n"),
    ("MN", "16n"),
    ("MR", "23n"),
    ("MT", "4a5n18c"),
    ("MU", "4a19n3a"),
    ("NI", "4a20n"),
    ("NL", "4a10n"),
    ("NO", "11n"),
    ("OM", "3n16c"),
    ("PK", "4a16c"),
    ("PL", "24n"),
    ("PS", "4a21c"),
    ("PT", "21n"),
    ("QA", "4a21c"),
    ("RO", "4a16c"),
    ("RS", "18n"),
    ("RU", "14n15c"),
    ("SA", "2n18c"),
    ("SC", "4a20n3a"),
    ("SD", "14n"),
    ("SE", "20n"),
    ("SI", "15n"),
    ("SK", "20n"),
    ("SM", "1a10n12c"),
    ("SO", "19n"),
    ("ST", "21n"),
    ("SV", "4a20n"),
    ("TL", "19n"),
    ("TN", "20n"),
    ("TR", "6n16c"),
    ("UA", "6n19c"),
    ("VA", "18n"),
    ("VG", "4a16n"),
    ("XK", "16n"),
    ("YE", "4a4n18c"),
];

/// The longest, of Russia.
const LONGEST: usize = 33;
/// The widest gap between characters.
const WIDEST: usize = 3;

/// Whether characters, in capitals, have the form that a country's numbers have; how many it asks
/// for, where it asks for more than there are.
fn form(mut pattern: &str, mut text: &[u8]) -> bool {
    while let Some(at) = pattern.find(|sign: char| sign.is_ascii_lowercase()) {
        let count: usize = pattern[..at].parse().unwrap_or(0);
        let Some((part, rest)) = text.split_at_checked(count) else { return false };
        let fits = match pattern.as_bytes()[at] {
            b'n' => part.iter().all(u8::is_ascii_digit),
            b'a' => part.iter().all(u8::is_ascii_alphabetic),
            _ => true,
        };
        if !fits {
            return false;
        }
        (pattern, text) = (&pattern[at + 1..], rest);
    }
    text.is_empty()
}

/// How many characters a form has.
fn length(pattern: &str) -> usize {
    pattern
        .split(|sign: char| sign.is_ascii_lowercase())
        .filter_map(|n| n.parse::<usize>().ok())
        .sum()
}

/// The account number that begins at a word's beginning.
pub(super) fn iban(page: Page<'_>, start: usize, out: &mut Vec<Candidate>) {
    let mut taken = [0; LONGEST + 1];
    let mut wanted = 2;
    let mut pattern = "";
    let mut count = 0;
    let mut at = start;
    while count < wanted {
        let here = at
            + page.bytes[at..]
                .iter()
                .take(WIDEST)
                .take_while(|byte| matches!(byte, b' ' | b'.' | b'-' | b'/' | b'_' | b'\n'))
                .count();
        let byte = page.byte(here).to_ascii_uppercase();
        let fits = match count {
            0 | 1 => byte.is_ascii_alphabetic(),
            2 | 3 => byte.is_ascii_digit(),
            _ => byte.is_ascii_alphanumeric(),
        };
        if !fits || here >= page.bytes.len() {
            return;
        }
        taken[count] = byte;
        count += 1;
        at = here + 1;
        if count == 2 {
            let code = &taken[..2];
            let country = COUNTRIES.binary_search_by(|(name, _)| name.as_bytes().cmp(code));
            let Ok(country) = country else { return };
            pattern = COUNTRIES[country].1;
            wanted = 4 + length(pattern);
        }
    }
    let taken = &taken[..count];
    let turned = taken[4..].iter().chain(&taken[..4]).copied();
    let ends = !page.byte(at).is_ascii_alphanumeric();
    if ends && form(pattern, &taken[4..]) && mod_97(turned) == 1 {
        out.push(Candidate { bytes: start..at, kind: Kind::Iban, named: true });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countries_stand_in_order_and_within_the_longest() {
        assert!(COUNTRIES.is_sorted_by(|one, other| one.0 < other.0));
        let longest = COUNTRIES.iter().map(|(_, pattern)| 4 + length(pattern)).max();
        assert_eq!(longest, Some(LONGEST));
    }
}
