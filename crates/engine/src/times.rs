//! How long steps take by how many rows they compute, learned from steps: each row count that was
//! seen tells of itself, and of its neighbours that were not.
//!
//! Absent here: clocks, and what the rows are for.

use std::time::Duration;

/// What a row adds to a step of one row where no step told yet.
const ROW_COST: f64 = 0.25;

/// Rows of a step that are told apart; more are told apart by powers of two.
const ROWS: usize = 16;
const SLOTS: usize = ROWS + 12;

/// How long steps take by their rows, in nanoseconds a row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    /// An average, and of how many steps, up to [`Times::MEMORY`].
    slots: [Option<(f64, f64)>; SLOTS],
}

impl Times {
    /// Steps that an average is over, about.
    const MEMORY: f64 = 8.0;

    fn slot(rows: usize) -> usize {
        if rows <= ROWS {
            return rows.max(1) - 1;
        }
        let doublings = (rows - 1).ilog2() - ROWS.ilog2();
        (ROWS + doublings as usize).min(SLOTS - 1)
    }

    /// A step that took very long was held up by something else.
    pub(crate) fn learn(&mut self, rows: usize, took: Duration) {
        let each = took.as_nanos() as f64 / rows.max(1) as f64;
        let slot = &mut self.slots[Self::slot(rows)];
        *slot = Some(match *slot {
            None => (each, 1.0),
            Some((old, steps)) => {
                let steps = (steps + 1.0).min(Self::MEMORY);
                (old + (each.min(2.0 * old) - old) / steps, steps)
            }
        });
    }

    /// What a step of so many rows takes; where none was seen, as the nearest ones let expect.
    pub(crate) fn of(&self, rows: usize) -> Option<f64> {
        let at = Self::slot(rows);
        let near = |slot: usize| Some((slot, self.slots[slot]?.0));
        let (slot, each) =
            (0..=at).rev().find_map(near).or_else(|| (at + 1..SLOTS).find_map(near))?;
        let seen = if slot < ROWS { slot + 1 } else { (ROWS << (slot - ROWS)) * 3 / 2 };
        let usual = |rows: usize| 1.0 + ROW_COST * (rows.max(1) - 1) as f64;
        if slot == at {
            return Some(each * rows as f64);
        }
        Some(each * seen as f64 * usual(rows) / usual(seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_by_what_is_near() {
        let ms = Duration::from_millis;
        let mut times = Times::default();
        assert_eq!(times.of(1), None);
        times.learn(1, ms(10));
        assert_eq!(times.of(1), Some(10e6));
        assert_eq!(times.of(5), Some(20e6));
        times.learn(4, ms(12));
        assert_eq!((times.of(1), times.of(4)), (Some(10e6), Some(12e6)));
        assert!(times.of(3).is_some_and(|time| (10e6..16e6).contains(&time)));
        times.learn(4, ms(1000));
        assert!(times.of(4).is_some_and(|time| time <= 18e6), "what took very long counts little");
    }
}
