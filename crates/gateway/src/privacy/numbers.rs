//! Numbers of digits alone: a table of kinds, how many digits they have, how they are usually cut
//! in groups, and what vouches for them. Absent: numbers with letters (`lettered.rs`), phone
//! numbers (`phones.rs`), and how digits are found (`runs.rs`).

use super::Kind;
use super::sums::{date, luhn, mod_11_10, number, pair, verhoeff, weighed};

/// What a number needs beside its sum, so that it is not any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing: few numbers pass by chance.
    Nothing,
    /// Not to be named as something else.
    Undenied,
    /// Its own groups, or its name.
    Groups,
    /// Its name.
    Name,
}

/// One kind of number.
pub(super) struct Row {
    pub(super) kind: Kind,
    /// How many digits, one of these.
    pub(super) digits: &'static [usize],
    /// How it is usually cut.
    pub(super) groups: &'static [&'static [usize]],
    pub(super) needs: Needs,
    /// Whether the digits are such a number.
    pub(super) holds: fn(&[u8]) -> bool,
}

/// The fewest and the most digits that a row asks for.
pub(super) const LEAST_DIGITS: usize = 9;
pub(super) const MOST_DIGITS: usize = 19;
/// The most gaps between the groups that a row's numbers are usually cut in.
pub(super) const MOST_CUTS: usize = 6;

use Needs::{Groups, Name, Nothing, Undenied};

/// One row a kind.
pub(super) const ROWS: &[Row] = &[
    Row {
        kind: Kind::Card,
        digits: &[13, 14, 15, 16, 17, 18, 19],
        groups: &[&[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 4, 4, 4, 3], &[4, 4, 4, 2]],
        needs: Nothing,
        holds: card,
    },
    Row { kind: Kind::UsSsn, digits: &[9], groups: &[&[3, 2, 4]], needs: Groups, holds: ssn },
    Row { kind: Kind::UkNhs, digits: &[10], groups: &[&[3, 3, 4]], needs: Undenied, holds: nhs },
    Row {
        kind: Kind::DeTaxId,
        digits: &[11],
        groups: &[&[2, 3, 3, 3], &[2, 9], &[3, 4, 4]],
        needs: Nothing,
        holds: tax_id,
    },
    Row {
        kind: Kind::FrNir,
        digits: &[15],
        groups: &[&[1, 2, 2, 2, 3, 3, 2], &[13, 2]],
        needs: Nothing,
        holds: nir,
    },
    Row {
        kind: Kind::NlBsn,
        digits: &[9],
        groups: &[&[3, 3, 3], &[4, 2, 3], &[2, 2, 2, 3], &[4, 3, 2]],
        needs: Undenied,
        holds: bsn,
    },
    Row { kind: Kind::PlPesel, digits: &[11], groups: &[&[6, 5]], needs: Nothing, holds: pesel },
    Row {
        kind: Kind::SePin,
        digits: &[10, 12],
        groups: &[&[6, 4], &[8, 4]],
        needs: Undenied,
        holds: personnummer,
    },
    Row {
        kind: Kind::BrCpf,
        digits: &[11],
        groups: &[&[3, 3, 3, 2], &[9, 2]],
        needs: Nothing,
        holds: cpf,
    },
    Row {
        kind: Kind::BeNumber,
        digits: &[11],
        groups: &[&[2, 2, 2, 3, 2], &[6, 3, 2]],
        needs: Nothing,
        holds: be_number,
    },
    Row { kind: Kind::PtNif, digits: &[9], groups: &[&[3, 3, 3]], needs: Name, holds: pt_nif },
    Row { kind: Kind::ChAhv, digits: &[13], groups: &[&[3, 4, 4, 2]], needs: Nothing, holds: ahv },
    Row { kind: Kind::AtSvnr, digits: &[10], groups: &[&[4, 6]], needs: Groups, holds: svnr },
    Row {
        kind: Kind::NoNumber,
        digits: &[11],
        groups: &[&[6, 5]],
        needs: Nothing,
        holds: no_number,
    },
    Row { kind: Kind::DkCpr, digits: &[10], groups: &[&[6, 4]], needs: Groups, holds: cpr },
    Row { kind: Kind::RoCnp, digits: &[13], groups: &[], needs: Nothing, holds: cnp },
    Row {
        kind: Kind::TrNumber,
        digits: &[11],
        groups: &[&[3, 3, 3, 2]],
        needs: Undenied,
        holds: tr_number,
    },
    Row {
        kind: Kind::ZaNumber,
        digits: &[13],
        groups: &[&[6, 4, 3], &[6, 4, 2, 1]],
        needs: Undenied,
        holds: za_number,
    },
    Row { kind: Kind::CnNumber, digits: &[18], groups: &[&[6, 8, 4]], needs: Nothing, holds: cn },
    Row { kind: Kind::KrNumber, digits: &[13], groups: &[&[6, 7]], needs: Groups, holds: kr },
    Row {
        kind: Kind::InAadhaar,
        digits: &[12],
        groups: &[&[4, 4, 4]],
        needs: Groups,
        holds: aadhaar,
    },
    Row { kind: Kind::CaSin, digits: &[9], groups: &[&[3, 3, 3]], needs: Name, holds: sin },
    Row { kind: Kind::AuTfn, digits: &[9], groups: &[&[3, 3, 3]], needs: Name, holds: tfn },
];

fn varied(digits: &[u8]) -> bool {
    digits.iter().any(|digit| *digit != digits[0])
}

/// Where issuers' numbers begin: from, to (as many digits), and the lengths that they have.
const ISSUERS: &[(u64, u64, &[usize])] = &[
    (4, 4, &[13, 16, 19]),
    (51, 55, &[16]),
    (2221, 2720, &[16]),
    (34, 34, &[15]),
    (37, 37, &[15]),
    (6011, 6011, &[16, 17, 18, 19]),
    (644, 659, &[16, 17, 18, 19]),
    (300, 305, &[14, 16]),
    (3095, 3095, &[14, 16]),
    (36, 36, &[14, 16, 19]),
    (38, 39, &[14, 16]),
    (3528, 3589, &[16, 17, 18, 19]),
    (62, 62, &[16, 17, 18, 19]),
    (81, 82, &[16, 17, 18, 19]),
    (50, 50, &[16, 18, 19]),
    (56, 58, &[16, 18, 19]),
    (60, 60, &[16]),
    (63, 63, &[16, 18, 19]),
    (67, 67, &[16, 18, 19]),
    (2200, 2205, &[16, 17, 18, 19]),
    (9792, 9792, &[16]),
];

fn card(digits: &[u8]) -> bool {
    let issued = ISSUERS.iter().any(|(from, to, lengths)| {
        let width = from.checked_ilog10().unwrap_or(0) as usize + 1;
        let begin = number(&digits[..width.min(digits.len())]);
        (*from..=*to).contains(&begin) && lengths.contains(&digits.len())
    });
    issued && luhn(digits) && varied(digits)
}

fn ssn(digits: &[u8]) -> bool {
    let (area, group, serial) = (number(&digits[..3]), number(&digits[3..5]), number(&digits[5..]));
    // Two numbers that were printed on samples, and one of advertisements.
    let sample = [78_051_120, 219_099_999, 457_555_462].contains(&number(digits));
    !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0 && !sample
}

fn nhs(digits: &[u8]) -> bool {
    let sum = weighed(digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    // Scotland's begin with a date of birth; no others are issued below 320.
    let issued =
        digits[0] > 3 || date(pair(digits, 0), pair(digits, 2)) || number(&digits[..3]) > 319;
    sum % 11 == 0 && issued && varied(digits)
}

fn tax_id(digits: &[u8]) -> bool {
    let mut counts = [0_u8; 10];
    digits[..10].iter().for_each(|digit| counts[usize::from(*digit)] += 1);
    let twice = counts.iter().filter(|count| matches!(count, 2 | 3)).count();
    digits[0] != 0 && twice == 1 && counts.iter().all(|count| *count <= 3) && mod_11_10(digits)
}

fn nir(digits: &[u8]) -> bool {
    let month = pair(digits, 3);
    let dated = matches!(month, 1..=12 | 20 | 30..=42 | 50..);
    let kept = 97 - number(&digits[..13]) % 97;
    matches!(digits[0], 1..=4 | 7 | 8) && dated && kept == number(&digits[13..])
}

fn bsn(digits: &[u8]) -> bool {
    let sum = weighed(digits, &[9, 8, 7, 6, 5, 4, 3, 2, -1]);
    sum % 11 == 0 && varied(digits) && number(digits) > 9_999_999
}

/// Whether a year, a month with the century in its tens, and a day begin the digits.
fn born(digits: &[u8], centuries: u8) -> bool {
    let (month, day) = (pair(digits, 2), pair(digits, 4));
    let month = if centuries == 0 { month } else { month % centuries };
    date(day, month)
}

fn pesel(digits: &[u8]) -> bool {
    weighed(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]) % 10 == 0 && born(digits, 20)
}

fn personnummer(digits: &[u8]) -> bool {
    let short = if digits.len() == 12 {
        if !matches!(pair(digits, 0), 18..=20) {
            return false;
        }
        &digits[2..]
    } else {
        digits
    };
    let day = pair(short, 4);
    // A coordination number's day is 60 more.
    luhn(short) && date(if day > 60 { day - 60 } else { day }, pair(short, 2))
}

fn cpf(digits: &[u8]) -> bool {
    let check = |sum: i32| if sum % 11 < 2 { 0 } else { 11 - sum % 11 };
    let first = check(weighed(&digits[..9], &[10, 9, 8, 7, 6, 5, 4, 3, 2]));
    let second = check(weighed(&digits[..10], &[11, 10, 9, 8, 7, 6, 5, 4, 3, 2]));
    varied(digits) && first == i32::from(digits[9]) && second == i32::from(digits[10])
}

fn be_number(digits: &[u8]) -> bool {
    let kept = number(&digits[9..]);
    let body = number(&digits[..9]);
    let (month, day) = (pair(digits, 2) % 20, pair(digits, 4));
    let dated = month <= 12 && day <= 31;
    // Who was born in 2000 or later has a 2 before the number that is divided.
    dated && [body, body + 2_000_000_000].iter().any(|body| 97 - body % 97 == kept)
}

fn pt_nif(digits: &[u8]) -> bool {
    let rest = weighed(digits, &[9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    let check = if rest < 2 { 0 } else { 11 - rest };
    matches!(digits[0], 1..=3 | 5 | 6 | 8 | 9) && check == i32::from(digits[8])
}

fn ahv(digits: &[u8]) -> bool {
    let sum = weighed(digits, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]);
    digits[..3] == [7, 5, 6] && sum % 10 == 0
}

fn svnr(digits: &[u8]) -> bool {
    let sum = weighed(digits, &[3, 7, 9, 0, 5, 8, 4, 2, 1, 6]);
    let (day, month) = (pair(digits, 4), pair(digits, 6));
    let dated = (1..=31).contains(&day) && (1..=15).contains(&month);
    digits[0] != 0 && dated && sum % 11 == i32::from(digits[3])
}

fn no_number(digits: &[u8]) -> bool {
    let first = weighed(digits, &[3, 7, 6, 1, 8, 9, 4, 5, 2, 1]) % 11 == 0;
    let second = weighed(digits, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]) % 11 == 0;
    // A D-number's day is 40 more.
    let (day, month) = (pair(digits, 0), pair(digits, 2));
    first && second && date(if day > 40 { day - 40 } else { day }, month)
}

fn cpr(digits: &[u8]) -> bool {
    date(pair(digits, 0), pair(digits, 2))
}

fn cnp(digits: &[u8]) -> bool {
    let rest = weighed(digits, &[2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9]) % 11;
    let check = if rest == 10 { 1 } else { rest };
    matches!(digits[0], 1..=9) && born(&digits[1..], 0) && check == i32::from(digits[12])
}

fn tr_number(digits: &[u8]) -> bool {
    let odd = weighed(digits, &[1, 0, 1, 0, 1, 0, 1, 0, 1]);
    let even = weighed(digits, &[0, 1, 0, 1, 0, 1, 0, 1]);
    let tenth = (odd * 7 - even).rem_euclid(10);
    let all = weighed(digits, &[1; 10]) % 10;
    digits[0] != 0 && tenth == i32::from(digits[9]) && all == i32::from(digits[10])
}

fn za_number(digits: &[u8]) -> bool {
    luhn(digits) && born(digits, 0) && digits[10] <= 2
}

fn cn(digits: &[u8]) -> bool {
    let sum = weighed(digits, &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2, 1]);
    // The check digit's weight is 1, and the sum leaves 1.
    sum % 11 == 1 && cn_body(digits)
}

/// Whether a region, a century and a day begin a number of China's.
pub(super) fn cn_body(digits: &[u8]) -> bool {
    let century = matches!(pair(digits, 6), 18..=20);
    matches!(pair(digits, 0), 11..=82) && century && date(pair(digits, 12), pair(digits, 10))
}

fn kr(digits: &[u8]) -> bool {
    let sum = weighed(digits, &[2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]);
    let check = (11 - sum % 11) % 10;
    born(digits, 0) && matches!(digits[6], 0..=9) && check == i32::from(digits[12])
}

fn aadhaar(digits: &[u8]) -> bool {
    digits[0] > 1 && verhoeff(digits) && varied(digits)
}

fn sin(digits: &[u8]) -> bool {
    digits[0] != 0 && digits[0] != 8 && luhn(digits) && varied(digits)
}

fn tfn(digits: &[u8]) -> bool {
    weighed(digits, &[1, 4, 3, 7, 5, 8, 6, 9, 10]) % 11 == 0 && varied(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_bounds() {
        for row in ROWS {
            let digits = |count: &usize| (LEAST_DIGITS..=MOST_DIGITS).contains(count);
            assert!(row.digits.iter().all(digits), "{:?}", row.kind);
            assert!(row.groups.iter().all(|cut| cut.len() <= MOST_CUTS + 1), "{:?}", row.kind);
            assert!(row.groups.iter().all(|cut| row.digits.contains(&cut.iter().sum())));
        }
    }

    #[test]
    fn published_examples_hold_and_their_neighbours_do_not() {
        let check = |kind: Kind, example: &str| {
            let row = ROWS.iter().find(|row| row.kind == kind).expect("a row");
            let digits: Vec<u8> =
                example.bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0').collect();
            assert!(row.digits.contains(&digits.len()), "{kind:?}: {example}");
            assert!((row.holds)(&digits), "{kind:?}: {example}");
            let mut wrong = digits;
            let last = wrong.len() - 1;
            wrong[last] = (wrong[last] + 1) % 10;
            assert_eq!((row.holds)(&wrong), !kind.checked(), "{kind:?}: {example}, last digit");
        };
        check(Kind::Card, "5555 5555 5555 4444");
        check(Kind::Card, "3782 822463 10005");
        check(Kind::UkNhs, "943 476 5919");
        check(Kind::DeTaxId, "86 095 742 719");
        check(Kind::NlBsn, "111222333");
        check(Kind::PlPesel, "44051401359");
        check(Kind::SePin, "811218-9876");
        check(Kind::SePin, "19811218-9876");
        check(Kind::BrCpf, "111.444.777-35");
        check(Kind::BeNumber, "85.07.30-033.28");
        check(Kind::ChAhv, "756.9217.0769.85");
        check(Kind::AtSvnr, "1237 010180");
        check(Kind::TrNumber, "10000000146");
        check(Kind::ZaNumber, "8001015009087");
        check(Kind::AuTfn, "123 456 782");
        check(Kind::UsSsn, "123-45-6789");
        check(Kind::DkCpr, "070761-4285");
    }
}
