//! Digits as they stand in texts: groups with gaps between them, which together may be one number.
//! Groups are tried from each on for as long as a number may be, so that work is linear. Which
//! numbers there are stands in `numbers.rs` and `phones.rs`. Absent: numbers with letters.

use std::ops::Range;

use super::Kind;
use super::labels::{Labels, Near};
use super::numbers::{LEAST_DIGITS, MOST_CUTS, MOST_DIGITS, Needs, ROWS, Row};

/// Something that may be found: where in the folded text, and how well it is vouched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) bytes: Range<usize>,
    pub(super) kind: Kind,
    /// Whether a word before it names its kind.
    pub(super) named: bool,
}

/// Digits that stand together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) start: usize,
    pub(super) end: usize,
    /// The number of digits before it in its run.
    pub(super) before: usize,
    /// What parts it from the group before: 0 for nothing, else the gap's most telling character.
    pub(super) gap: u8,
    /// How many characters do.
    pub(super) width: usize,
}

impl Group {
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether only a dot parts it from the group before, as in a decimal fraction.
    pub(super) fn fraction(&self) -> bool {
        self.gap == b'.' && self.width == 1
    }
}

/// Groups with short gaps between them.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) groups: Vec<Group>,
    pub(super) digits: Vec<u8>,
}

/// The longest gap within a run, in characters.
const WIDEST: usize = 4;

/// The most groups that are looked at together; the next ones begin with the last of them, as many
/// as a number may have.
const MOST_GROUPS: usize = 4096;

/// A gap's most telling character: a line break, else a mark, else a space; `None` where it parts
/// two numbers.
fn gap(bytes: &[u8]) -> Option<u8> {
    let mut class = b' ';
    let mut marks = 0;
    for byte in bytes {
        match byte {
            b' ' | b'(' | b')' => {}
            b'\n' => class = b'\n',
            b'.' | b'-' | b'_' | b'/' | b'+' => {
                marks += 1;
                class = if class == b'\n' { class } else { *byte };
            }
            _ => return None,
        }
    }
    (marks <= 1 && !bytes.is_empty() && bytes.len() <= WIDEST).then_some(class)
}

impl Run {
    /// All runs of a text, in turn, in one buffer.
    pub(super) fn each(bytes: &[u8], mut tell: impl FnMut(&Self)) {
        let mut run = Self::default();
        let mut at = 0;
        while at < bytes.len() {
            if !bytes[at].is_ascii_digit() {
                at += 1;
                continue;
            }
            let start = at;
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            let last = run.groups.last().map(|group| group.end);
            let near = last.filter(|last| start - last <= WIDEST);
            let gap = near.and_then(|last| gap(&bytes[last..start]));
            if gap.is_none() && !run.groups.is_empty() {
                tell(&run);
                run.keep(0);
            } else if run.groups.len() == MOST_GROUPS {
                tell(&run);
                run.keep(MOST_DIGITS);
            }
            let width = last.map_or(0, |last| start - last);
            let before = run.digits.len();
            run.groups.push(Group { start, end: at, before, gap: gap.unwrap_or(0), width });
            run.digits.extend(bytes[start..at].iter().map(|byte| byte - b'0'));
        }
        if !run.groups.is_empty() {
            tell(&run);
        }
    }

    /// Forgets all groups but the last.
    fn keep(&mut self, groups: usize) {
        self.groups.drain(..self.groups.len() - groups);
        let before = self.groups.first().map_or(self.digits.len(), |group| group.before);
        self.digits.drain(..before);
        self.groups.iter_mut().for_each(|group| group.before -= before);
    }

    /// The digits of these groups.
    pub(super) fn digits(&self, first: usize, last: usize) -> &[u8] {
        let end = self.groups[last].before + self.groups[last].len();
        &self.digits[self.groups[first].before..end]
    }

    /// Whether the groups have these sizes.
    pub(super) fn cut(&self, first: usize, last: usize, sizes: &[usize]) -> bool {
        let groups = &self.groups[first..=last];
        groups.len() == sizes.len() && groups.iter().zip(sizes).all(|(g, size)| g.len() == *size)
    }

    /// Whether they begin like a date.
    pub(super) fn dated(&self, first: usize, last: usize) -> bool {
        let small = |at: usize, most: u64| {
            let group = &self.groups[first + at];
            group.len() <= 2
                && (1..=most).contains(&super::sums::number(self.digits(first + at, first + at)))
        };
        let year = |at: usize| {
            let digits = self.digits(first + at, first + at);
            matches!(digits, [1, 9, _, _] | [2, 0, _, _])
        };
        last >= first + 2
            && ((year(0) && small(1, 12) && small(2, 31))
                || (year(2) && small(0, 31) && small(1, 31)))
    }

    /// Whether a part of a fraction, or of something else that goes on, borders on these groups.
    pub(super) fn torn(&self, first: usize, last: usize) -> bool {
        let after = self.groups.get(last + 1);
        self.groups[first].fraction() || after.is_some_and(Group::fraction)
    }

    /// Whether other gaps part these groups from others than part them from each other.
    pub(super) fn set_off(&self, first: usize, last: usize) -> bool {
        let inner = self.groups[last].gap;
        let before = first == 0 || self.groups[first].gap != inner;
        before && self.groups.get(last + 1).is_none_or(|group| group.gap != inner)
    }

    /// Whether groups of one size with one sort of gap stand between others: digits that somebody
    /// spaced out.
    fn even(&self, first: usize, last: usize) -> bool {
        let groups = &self.groups[first..=last];
        let (size, gap) = (groups[0].len(), groups.get(1).map_or(0, |group| group.gap));
        let alike = |group: &Group| group.gap == gap && group.len() == size;
        let before = first.checked_sub(1).map(|at| self.groups[at].len() == size);
        let same_before = before == Some(true) && self.groups[first].gap == gap;
        if size > 4 || same_before || self.groups.get(last + 1).is_some_and(alike) {
            return false;
        }
        match groups {
            [_, middle @ .., end] => {
                middle.iter().all(alike) && end.gap == gap && end.len() <= size
            }
            _ => false,
        }
    }
}

/// A text and what is known of it beside its digits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) labels: &'a Labels,
}

impl Page<'_> {
    pub(super) fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(b'\n')
    }

    /// The character before, a line break where there is none.
    pub(super) fn prior(&self, at: usize) -> u8 {
        at.checked_sub(1).map_or(b'\n', |at| self.byte(at))
    }

    pub(super) fn near(&self, at: usize) -> Near {
        self.labels.before(self.bytes, at)
    }

    /// Whether a letter touches the place from the left, or the right.
    pub(super) fn glued(&self, range: &Range<usize>) -> (bool, bool) {
        let left = self.prior(range.start).is_ascii_alphabetic();
        (left, self.byte(range.end).is_ascii_alphabetic())
    }

    /// Whether a clock's or a ratio's other half touches it.
    fn timed(&self, range: &Range<usize>) -> bool {
        let colon =
            |at: usize, beyond: usize| self.byte(at) == b':' && self.byte(beyond).is_ascii_digit();
        let before = range.start >= 2 && colon(range.start - 1, range.start - 2);
        before || colon(range.end, range.end + 1)
    }
}

/// The numbers of a run.
pub(super) fn numbers(page: Page<'_>, run: &Run, out: &mut Vec<Candidate>) {
    for first in 0..run.groups.len() {
        for last in first..run.groups.len() {
            let digits = run.digits(first, last);
            if digits.len() > MOST_DIGITS {
                break;
            }
            // In so many groups a number stands at the run's beginning, or evenly.
            let many = last - first > MOST_CUTS && first > 0;
            if digits.len() < LEAST_DIGITS || (many && !run.even(first, last)) {
                continue;
            }
            for row in ROWS.iter().filter(|row| row.digits.contains(&digits.len())) {
                if (row.holds)(digits)
                    && let Some(candidate) = number(page, run, (first, last), row)
                {
                    out.push(candidate);
                }
            }
        }
    }
}

/// These groups as the number of a row that they hold for, if they stand like one.
fn number(page: Page<'_>, run: &Run, place: (usize, usize), row: &Row) -> Option<Candidate> {
    let (first, last) = place;
    let bytes = run.groups[first].start..run.groups[last].end;
    let (left, right) = page.glued(&bytes);
    if right || run.torn(first, last) {
        return None;
    }
    let near = page.near(bytes.start);
    let named = near.names(row.kind);
    if named {
        return Some(Candidate { bytes, kind: row.kind, named });
    }
    if left || run.dated(first, last) || page.timed(&bytes) {
        return None;
    }
    let whole = first == 0 && last + 1 == run.groups.len();
    let grouped = row.groups.iter().any(|sizes| run.cut(first, last, sizes))
        && (row.kind == Kind::Card || run.set_off(first, last));
    let solid = first == last;
    let stands = match row.needs {
        Needs::Nothing => solid || grouped || whole || run.even(first, last),
        Needs::Undenied => {
            (solid || grouped || whole || run.even(first, last)) && !near.denies(row.kind)
        }
        Needs::Groups => grouped && !near.denies(row.kind),
        Needs::Name => false,
    };
    stands.then_some(Candidate { bytes, kind: row.kind, named })
}
