//! Phone numbers: international ones by their calling codes, national ones by the ways in which
//! countries cut them, and any short number that a word calls one. Nothing vouches for them.
//! Absent: numbers without a word for them and without gaps that begin with no 0.

use super::Kind;
use super::runs::{Candidate, Page, Run};

/// Calling codes, and how many digits follow them, at least and at most.
const CODES: &[(&[u16], usize, usize)] = &[
    (&[1], 10, 10),
    (&[7], 10, 10),
    (&[20], 8, 10),
    (&[27], 9, 9),
    (&[30], 10, 10),
    (&[31], 9, 9),
    (&[32], 8, 9),
    (&[33], 9, 9),
    (&[34], 9, 9),
    (&[36], 8, 9),
    (&[39], 6, 11),
    (&[40], 9, 9),
    (&[41], 9, 9),
    (&[43], 6, 13),
    (&[44], 9, 10),
    (&[45, 47], 8, 8),
    (&[46], 7, 10),
    (&[48], 9, 9),
    (&[49], 6, 12),
    (&[51], 8, 9),
    (&[52], 10, 10),
    (&[53], 6, 8),
    (&[54], 10, 11),
    (&[55], 10, 11),
    (&[56], 9, 9),
    (&[57], 8, 10),
    (&[58], 10, 10),
    (&[60], 8, 10),
    (&[61], 9, 9),
    (&[62], 8, 12),
    (&[63], 8, 10),
    (&[64], 8, 10),
    (&[65], 8, 8),
    (&[66], 8, 9),
    (&[81], 9, 10),
    (&[82], 8, 10),
    (&[84], 9, 10),
    (&[86], 9, 11),
    (&[90], 10, 10),
    (&[91], 10, 10),
    (&[92, 93, 94, 95, 98], 8, 10),
    (
        &[
            211, 212, 213, 216, 218, 220, 221, 222, 223, 224, 225, 226, 227, 228, 229, 230, 231,
            232, 233, 234, 235, 236, 237, 238, 239, 240, 241, 242, 243, 244, 245, 246, 248, 249,
            250, 251, 252, 253, 254, 255, 256, 257, 258, 260, 261, 262, 263, 264, 265, 266, 267,
            268, 269, 290, 291, 297, 298, 299, 350, 351, 352, 353, 354, 355, 356, 357, 358, 359,
            370, 371, 372, 373, 374, 375, 376, 377, 378, 380, 381, 382, 383, 385, 386, 387, 389,
            420, 421, 423, 500, 501, 502, 503, 504, 505, 506, 507, 508, 509, 590, 591, 592, 593,
            594, 595, 596, 597, 598, 599, 670, 672, 673, 674, 675, 676, 677, 678, 679, 680, 681,
            682, 683, 685, 686, 687, 688, 689, 690, 691, 692, 800, 850, 852, 853, 855, 856, 880,
            881, 882, 883, 886, 888, 960, 961, 962, 963, 964, 965, 966, 967, 968, 970, 971, 972,
            973, 974, 975, 976, 977, 979, 992, 993, 994, 995, 996, 998,
        ],
        6,
        11,
    ),
];

/// What a national number begins with (`N` is 2 to 9, `D` any digit), how it is cut, and whether
/// a full stop may part its groups.
const NATIONAL: &[(&str, &[&[usize]], bool)] = &[
    ("NDDNDD", &[&[3, 3, 4]], true),
    ("1NDDNDD", &[&[1, 3, 3, 4]], true),
    ("6", &[&[3, 3, 3], &[3, 2, 2, 2]], false),
    ("7", &[&[3, 3, 3], &[3, 2, 2, 2]], false),
    ("8", &[&[3, 3, 3], &[3, 2, 2, 2]], false),
    ("9", &[&[3, 3, 3], &[3, 2, 2, 2]], false),
    ("3N", &[&[3, 3, 4], &[3, 7], &[3, 2, 2, 3]], false),
    ("DD9", &[&[2, 5, 4]], false),
    ("9", &[&[5, 5], &[5, 4]], false),
    ("8", &[&[5, 5], &[1, 3, 3, 2, 2], &[1, 3, 3, 4]], false),
    ("7", &[&[5, 5]], false),
    ("6", &[&[5, 5]], false),
    ("13", &[&[3, 4, 4]], false),
    ("15", &[&[3, 4, 4]], false),
    ("17", &[&[3, 4, 4]], false),
    ("18", &[&[3, 4, 4]], false),
    ("19", &[&[3, 4, 4]], false),
];

/// Digits of a number with its trunk's 0.
const TRUNK: std::ops::RangeInclusive<usize> = 9..=12;
/// The same in one piece.
const TRUNK_SOLID: std::ops::RangeInclusive<usize> = 10..=11;
/// Digits of a number that a word calls one.
const NAMED: std::ops::RangeInclusive<usize> = 7..=15;
/// The most groups of a number, which may be spaced digit by digit.
const MOST_GROUPS: usize = 16;

/// The phone numbers of a run.
pub(super) fn phones(page: Page<'_>, run: &Run, out: &mut Vec<Candidate>) {
    let mut first = 0;
    while first < run.groups.len() {
        let found = international(page, run, first)
            .or_else(|| national(page, run, first))
            .or_else(|| named(page, run, first));
        let Some((start, last, named)) = found else {
            first += 1;
            continue;
        };
        let group = run.groups[first];
        let bracket = last > first && page.prior(start) == b'(' && page.byte(group.end) == b')';
        let bytes = start - usize::from(bracket)..run.groups[last].end;
        out.push(Candidate { bytes, kind: Kind::Phone, named });
        first = last + 1;
    }
}

/// Where the number begins, its last group, and whether a word calls it one.
type Found = Option<(usize, usize, bool)>;

/// The last group with which there are at least and at most so many digits from the first on; a
/// new line is begun only for the least.
fn reach(run: &Run, first: usize, least: usize, most: usize) -> Option<usize> {
    let mut best = None;
    let groups = run.groups.len().min(first + MOST_GROUPS);
    for last in first..groups {
        let count = run.digits(first, last).len();
        if count > most || (best.is_some() && run.groups[last].gap == b'\n') {
            break;
        }
        if count >= least {
            best = Some(last);
        }
    }
    best
}

fn international(page: Page<'_>, run: &Run, first: usize) -> Found {
    let start = run.groups[first].start;
    let plus = [1, 2]
        .into_iter()
        .filter_map(|back| start.checked_sub(back))
        .find(|at| page.byte(*at) == b'+' && !page.prior(*at).is_ascii_digit());
    let digits = &run.digits[run.groups[first].before..];
    let zeros = if plus.is_some() { 0 } else { 2 };
    if zeros == 2 && (!digits.starts_with(&[0, 0]) || page.glued(&(start..start)).0) {
        return None;
    }
    let rest = digits.get(zeros..)?;
    let (width, least, most) = CODES.iter().find_map(|(codes, least, most)| {
        let width = codes.first()?.checked_ilog10()? as usize + 1;
        let code = super::sums::number(rest.get(..width)?);
        let known = codes.iter().any(|known| u64::from(*known) == code);
        known.then_some((width, *least, *most))
    })?;
    // A trunk's 0 may stand behind the code, in brackets or not.
    let trunk = usize::from(rest.get(width) == Some(&0));
    let before = zeros + width;
    let last = reach(run, first, before + least, before + most + trunk)?;
    Some((plus.unwrap_or(start), last, true))
}

fn begins(digits: &[u8], pattern: &str) -> bool {
    digits.len() >= pattern.len()
        && pattern.bytes().zip(digits).all(|(sign, digit)| match sign {
            b'D' => true,
            b'N' => *digit >= 2,
            sign => sign - b'0' == *digit,
        })
}

/// Whether nothing but spaces parts these groups from others.
fn apart(run: &Run, first: usize, last: usize) -> bool {
    let spaced = |gap: u8| matches!(gap, 0 | b' ' | b'\n');
    let after = run.groups.get(last + 1).is_none_or(|group| spaced(group.gap));
    spaced(run.groups[first].gap) && after
}

fn national(page: Page<'_>, run: &Run, first: usize) -> Found {
    let start = run.groups[first].start;
    if page.glued(&(start..start)).0 {
        return None;
    }
    let last = trunk(page, run, first).or_else(|| {
        NATIONAL.iter().find_map(|(begin, cuts, stops)| {
            cuts.iter().find_map(|sizes| {
                let last = first + sizes.len() - 1;
                let stands = last < run.groups.len()
                    && run.cut(first, last, sizes)
                    && begins(run.digits(first, last), begin)
                    && run.set_off(first, last)
                    && run.groups[first + 1..=last]
                        .iter()
                        .all(|group| group.gap != b'\n' && (*stops || group.gap != b'.'));
                stands.then_some(last)
            })
        })
    })?;
    let (_, right) = page.glued(&(start..run.groups[last].end));
    if right || !apart(run, first, last) || run.dated(first, last) {
        return None;
    }
    let near = page.near(start);
    (!near.denies(Kind::Phone)).then_some((start, last, near.names_last(Kind::Phone)))
}

/// The last group of a number that begins with a trunk's 0.
fn trunk(page: Page<'_>, run: &Run, first: usize) -> Option<usize> {
    let group = run.groups[first];
    let digits = &run.digits[group.before..];
    if !matches!(digits, [0, 1..=9, ..]) || group.fraction() {
        return None;
    }
    if TRUNK_SOLID.contains(&group.len()) {
        return Some(first);
    }
    // Digits that are spaced out one by one are a number if nothing else stands beside them.
    let spread = first == 0 && run.groups.iter().all(|group| group.len() == 1);
    let last = reach(run, first, *TRUNK.start(), *TRUNK.end())?;
    let groups = &run.groups[first + 1..=last];
    let cut = (2..=5).contains(&group.len()) && groups.len() <= 5;
    let cut = cut && groups.iter().all(|group| group.len() >= 2 && group.gap != b'\n');
    let clock = page.byte(run.groups[last].end) == b':';
    (!clock && (cut || (spread && last + 1 == run.groups.len()))).then_some(last)
}

/// A number that a word calls one.
fn named(page: Page<'_>, run: &Run, first: usize) -> Found {
    let start = run.groups[first].start;
    if first != 0 || run.dated(0, run.groups.len() - 1) {
        return None;
    }
    let last = reach(run, first, *NAMED.start(), *NAMED.end())?;
    (page.near(start).names_last(Kind::Phone)).then_some((start, last, true))
}
