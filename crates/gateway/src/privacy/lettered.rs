//! Numbers with letters in them: a pattern a kind, read across gaps, and what vouches for it.
//! Absent: IBANs (`iban.rs`), whose patterns are a country's each.

use std::ops::Range;

use super::Kind;
use super::numbers::cn_body;
use super::runs::{Candidate, Page};
use super::sums::{date, number, pair, weighed};

/// One kind's pattern: `L` a letter, `D` a digit, `O` a digit or a letter in its place, `A` either,
/// `X` X, Y or Z, `S` a century's sign, and other characters themselves.
struct Row {
    kind: Kind,
    pattern: &'static str,
    /// How many characters stand together at the least, from the first on, where no word names it.
    solid: usize,
    /// Whether the characters, in capitals and without gaps, are such a number.
    holds: fn(&[u8]) -> bool,
}

/// One row a pattern.
const ROWS: &[Row] = &[
    Row { kind: Kind::EsDni, pattern: "DDDDDDDDL", solid: 1, holds: dni },
    Row { kind: Kind::EsNie, pattern: "XDDDDDDDL", solid: 1, holds: nie },
    Row { kind: Kind::UkNino, pattern: "LLDDDDDDL", solid: 2, holds: nino },
    Row { kind: Kind::IePps, pattern: "DDDDDDDL", solid: 1, holds: pps },
    Row { kind: Kind::IePps, pattern: "DDDDDDDLL", solid: 1, holds: pps },
    Row { kind: Kind::FiHetu, pattern: "DDDDDDSDDDA", solid: 1, holds: hetu },
    Row { kind: Kind::ItFiscal, pattern: "LLLLLLOOLOOLOOOL", solid: 1, holds: fiscal },
    Row { kind: Kind::MxCurp, pattern: "LLLLDDDDDDLLLLLLAD", solid: 1, holds: curp },
    Row { kind: Kind::FrNir, pattern: "DDDDD2ADDDDDDDD", solid: 1, holds: nir_corsica },
    Row { kind: Kind::FrNir, pattern: "DDDDD2BDDDDDDDD", solid: 1, holds: nir_corsica },
    Row { kind: Kind::CnNumber, pattern: "DDDDDDDDDDDDDDDDDX", solid: 1, holds: cn_x },
];

/// The longest pattern.
const LONGEST: usize = 18;
/// The widest gap within a number, in characters.
const WIDEST: usize = 3;

fn fits(sign: u8, byte: u8) -> bool {
    match sign {
        b'L' => byte.is_ascii_alphabetic(),
        b'D' => byte.is_ascii_digit(),
        b'A' => byte.is_ascii_alphanumeric(),
        b'O' => byte.is_ascii_digit() || b"LMNPQRSTUV".contains(&byte.to_ascii_uppercase()),
        b'X' => matches!(byte.to_ascii_uppercase(), b'X'..=b'Z'),
        b'S' => matches!(byte.to_ascii_uppercase(), b'-' | b'+' | b'A'..=b'F' | b'U'..=b'Y'),
        sign => byte.eq_ignore_ascii_case(&sign),
    }
}

/// Where the next character of a number is, from here on; line breaks are gaps, too.
fn next(page: Page<'_>, at: usize) -> Option<usize> {
    let mut end = at;
    while matches!(page.bytes.get(end), Some(b' ' | b'.' | b'-' | b'/' | b'_' | b'\n')) {
        end += 1;
    }
    (end - at <= WIDEST && end < page.bytes.len()).then_some(end)
}

/// A pattern's characters at a place, in capitals, where it ends, and how many of its first
/// characters stand together.
fn read(page: Page<'_>, start: usize, pattern: &str) -> Option<([u8; LONGEST], usize, usize)> {
    let mut taken = [0; LONGEST];
    let mut at = start;
    let mut together = pattern.len();
    for (count, sign) in pattern.bytes().enumerate() {
        // A sign may be a hyphen itself, which is no gap then.
        let space = usize::from(matches!(page.byte(at), b' ' | b'.' | b'\n'));
        let here = match sign {
            b'S' if fits(sign, page.byte(at + space)) => at + space,
            _ => next(page, at)?,
        };
        let byte = page.byte(here);
        if !fits(sign, byte) {
            return None;
        }
        if here > at {
            together = together.min(count);
        }
        taken[count] = byte.to_ascii_uppercase();
        at = here + 1;
    }
    Some((taken, at, together))
}

/// The numbers that begin at a word's beginning.
pub(super) fn lettered(page: Page<'_>, start: usize, out: &mut Vec<Candidate>) {
    for row in ROWS {
        let Some((taken, end, together)) = read(page, start, row.pattern) else { continue };
        let taken = &taken[..row.pattern.len()];
        if page.byte(end).is_ascii_alphanumeric() || !(row.holds)(taken) {
            continue;
        }
        let named = page.near(start).names(row.kind);
        if named || (together >= row.solid && !apart_word(page, start..end)) {
            out.push(Candidate { bytes: start..end, kind: row.kind, named });
        }
    }
}

/// Whether the last letter is more likely a word of its own: small, behind a space.
fn apart_word(page: Page<'_>, bytes: Range<usize>) -> bool {
    let last = bytes.end - 1;
    let spaced = matches!(page.prior(last), b' ' | b'\n');
    let digits = page.byte(bytes.start).is_ascii_digit();
    digits && spaced && page.byte(last).is_ascii_lowercase()
}

/// Digits of characters; those that are none count as 0.
fn digits(text: &[u8]) -> [u8; LONGEST] {
    let mut digits = [0; LONGEST];
    for (digit, byte) in digits.iter_mut().zip(text) {
        *digit = if byte.is_ascii_digit() { byte - b'0' } else { 0 };
    }
    digits
}

const DNI: &[u8] = b"TRWAGMYFPDXBNJZSQVHLCKE";

fn dni(text: &[u8]) -> bool {
    let body = number(&digits(text)[..8]);
    DNI[(body % 23) as usize] == text[8] && body > 0
}

fn nie(text: &[u8]) -> bool {
    let mut all = digits(text);
    all[0] = text[0] - b'X';
    DNI[(number(&all[..8]) % 23) as usize] == text[8]
}

fn nino(text: &[u8]) -> bool {
    let never = [b"BG", b"GB", b"NK", b"KN", b"TN", b"NT", b"ZZ"];
    let first = !b"DFIQUV".contains(&text[0]) || &text[..2] == b"QQ";
    let second = !b"DFIOQUV".contains(&text[1]) || &text[..2] == b"QQ";
    let prefix = !never.iter().any(|prefix| text.starts_with(*prefix));
    first && second && prefix && matches!(text[8], b'A'..=b'D')
}

fn pps(text: &[u8]) -> bool {
    let second = match text.get(8) {
        None | Some(b'W') => 0,
        Some(letter @ b'A'..=b'I') => i32::from(letter - b'A') + 1,
        Some(_) => return false,
    };
    let rest = (weighed(&digits(text)[..7], &[8, 7, 6, 5, 4, 3, 2]) + 9 * second) % 23;
    let letter = if rest == 0 { b'W' } else { b'A' + (rest - 1) as u8 };
    letter == text[7]
}

fn hetu(text: &[u8]) -> bool {
    let all = digits(text);
    let body = number(&all[..6]) * 1000 + number(&all[7..10]);
    let check = b"0123456789ABCDEFHJKLMNPRSTUVWXY"[(body % 31) as usize];
    date(pair(&all, 0), pair(&all, 2)) && check == text[10]
}

/// What characters in odd places count; a digit counts as the letter in its place.
const ODD: [u32; 26] =
    [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];

fn fiscal(text: &[u8]) -> bool {
    let value = |byte: u8| usize::from(byte - if byte.is_ascii_digit() { b'0' } else { b'A' });
    let sum: u32 = (0..15)
        .map(|at| match at % 2 {
            0 => ODD[value(text[at])],
            _ => value(text[at]) as u32,
        })
        .sum();
    b"ABCDEHLMPRST".contains(&text[8]) && u32::from(text[15] - b'A') == sum % 26
}

fn curp(text: &[u8]) -> bool {
    // Ñ stands between N and O, so that what follows counts one more.
    let value = |byte: u8| match byte {
        b'0'..=b'9' => u32::from(byte - b'0'),
        b'A'..=b'N' => u32::from(byte - b'A') + 10,
        _ => u32::from(byte - b'A') + 11,
    };
    let sum: u32 = (0..17_u8).map(|at| value(text[usize::from(at)]) * u32::from(18 - at)).sum();
    let all = digits(text);
    let born = date(pair(&all, 8), pair(&all, 6));
    let sex = matches!(text[10], b'H' | b'M' | b'X');
    born && sex && (10 - sum % 10) % 10 == u32::from(all[17])
}

fn nir_corsica(text: &[u8]) -> bool {
    let mut all = digits(text);
    // 2A counts as 19, and 2B as 18.
    (all[5], all[6]) = if text[6] == b'A' { (1, 9) } else { (1, 8) };
    matches!(all[0], 1 | 2) && 97 - number(&all[..13]) % 97 == number(&all[13..15])
}

fn cn_x(text: &[u8]) -> bool {
    let all = digits(text);
    let sum = weighed(&all[..17], &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]);
    text[17] == b'X' && (sum + 10) % 11 == 1 && cn_body(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_examples_hold_and_their_neighbours_do_not() {
        let check = |kind: Kind, example: &str| {
            let same = |row: &&Row| row.kind == kind && row.pattern.len() == example.len();
            let fits =
                |row: &&Row| row.pattern.bytes().zip(example.bytes()).all(|(s, b)| fits(s, b));
            let row = ROWS.iter().filter(same).find(fits).expect("a row");
            assert!((row.holds)(example.as_bytes()), "{kind:?}: {example}");
            let mut wrong = example.as_bytes().to_vec();
            let at = wrong.iter().rposition(u8::is_ascii_digit).expect("a digit");
            wrong[at] = b'0' + (wrong[at] - b'0' + 1) % 10;
            assert_eq!((row.holds)(&wrong), !kind.checked(), "{kind:?}: {example}, a digit wrong");
        };
        check(Kind::EsDni, "12345678Z");
        check(Kind::EsNie, "X1234567L");
        check(Kind::UkNino, "AB123456C");
        check(Kind::IePps, "1234567T");
        check(Kind::IePps, "1234567FA");
        check(Kind::FiHetu, "131052-308T");
        check(Kind::ItFiscal, "RSSMRA85T10A562S");
        check(Kind::CnNumber, "11010519491231002X");
    }
}
