//! How a packed matrix keeps its scales and minima: as small as the file has them, 16 rows side by
//! side, in the order in which a kernel comes upon them. A kernel makes floats of them by the same
//! steps as the format's decoder, and so the same floats.
//!
//! For each 256 columns, [`Scales::Nested`] has 16 halves that the scales' integers are multiplied
//! by, and 16 that the minima's are if there are any. For each group of columns every kind has 16
//! numbers for scales, then 16 for minima if there are any.

use super::pack::{BLOCK, LANES};
use super::simd::Simd;
use crate::formats::{Grid, MAX_BLOCK, Nested, Quants, Scales};

/// Blocks of columns that share the halves of nested scales.
pub(crate) const SHARING: usize = MAX_BLOCK / BLOCK;

/// How far ahead scales are asked for, in bytes: about as many blocks as weights are.
const AHEAD: usize = 512;

/// One kind of [`Scales`], for a kernel.
pub(crate) trait Kind {
    /// Bytes of a number.
    const SIZE: usize;
    /// Whether numbers are integers under a half.
    const NESTED: bool = false;

    /// 16 numbers.
    ///
    /// # Safety
    /// They can be read.
    unsafe fn load<S: Simd>(from: *const u8) -> S::Floats;
}

/// [`Scales::F16`]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Halves;
/// [`Scales::BF16`]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Brains;
/// [`Scales::Nested`]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ints;

impl Kind for Halves {
    const SIZE: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u8) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::load_f16(from) }
    }
}

impl Kind for Brains {
    const SIZE: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u8) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::load_bf16(from) }
    }
}

impl Kind for Ints {
    const SIZE: usize = 1;
    const NESTED: bool = true;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u8) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::load_i8(from) }
    }
}

/// A kernel's way through the scales of 16 rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<S: Simd> {
    next: *const u8,
    /// What nested scales and minima are multiplied by.
    outer: [S::Floats; 2],
}

impl<S: Simd> Reader<S> {
    /// At their beginning.
    #[inline(always)]
    pub(crate) unsafe fn at(next: *const u8) -> Self {
        // SAFETY: the caller's promise: the provider runs here.
        Self { next, outer: [unsafe { S::floats(0.0) }; 2] }
    }

    /// Before each block of 32 columns, from the row's first on.
    ///
    /// # Safety
    /// The scales are of this kind, and some are left.
    #[inline(always)]
    pub(crate) unsafe fn enter<K: Kind, const MINS: bool>(&mut self, block: usize) {
        // SAFETY: the caller's promise: the provider runs here.
        unsafe { S::prefetch(self.next.wrapping_add(AHEAD)) };
        if K::NESTED && block.is_multiple_of(SHARING) {
            for outer in &mut self.outer[..1 + MINS as usize] {
                // SAFETY: the caller's promise.
                (*outer, self.next) = unsafe { (S::load_f16(self.next), self.next.add(2 * LANES)) };
            }
        }
    }

    /// The scales of the next group of columns, and its minima.
    ///
    /// # Safety
    /// As [`Reader::enter`].
    #[inline(always)]
    pub(crate) unsafe fn next<K: Kind, const MINS: bool>(&mut self) -> [S::Floats; 2] {
        let mut numbers = self.outer;
        for number in &mut numbers[..1 + MINS as usize] {
            // SAFETY: the caller's promise.
            unsafe {
                let kept = K::load::<S>(self.next);
                *number = if K::NESTED { S::mul(*number, kept) } else { kept };
                self.next = self.next.add(LANES * K::SIZE);
            }
        }
        numbers
    }
}

/// Bytes of a number.
const fn size(scales: Scales) -> usize {
    match scales {
        Scales::F16 => Halves::SIZE,
        Scales::BF16 => Brains::SIZE,
        Scales::Nested => Ints::SIZE,
    }
}

/// Bytes that 16 rows of so many columns have for scales.
pub(crate) const fn bytes(grid: Grid, group: usize, cols: usize) -> usize {
    let outer = match grid.scales {
        Scales::Nested => cols / MAX_BLOCK * size_of::<half::f16>(),
        Scales::F16 | Scales::BF16 => 0,
    };
    LANES * (1 + grid.mins as usize) * (outer + cols / group * size(grid.scales))
}

/// Where the next scales of one of 16 rows are written.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    to: &'a mut [u8],
    lane: usize,
}

impl<'a> Writer<'a> {
    /// At the beginning of 16 rows' scales.
    pub(crate) fn new(to: &'a mut [u8], lane: usize) -> Self {
        Self { to, lane }
    }

    fn put<const SIZE: usize>(&mut self, number: [u8; SIZE]) {
        let (row, rest) = std::mem::take(&mut self.to).split_at_mut(LANES * SIZE);
        row[SIZE * self.lane..][..SIZE].copy_from_slice(&number);
        self.to = rest;
    }

    fn put_half(&mut self, number: f32) {
        let half = half::f16::from_f32(number);
        debug_assert!(number.is_nan() || half.to_f32().to_bits() == number.to_bits());
        self.put(half.to_le_bytes());
    }

    /// One of the format's blocks, of so many groups.
    pub(crate) fn block(&mut self, grid: Grid, groups: usize, quants: &Quants) {
        let numbers = [(&quants.scale, &quants.scales), (&quants.min, &quants.mins)];
        let numbers = &numbers[..1 + usize::from(grid.mins)];
        if grid.scales == Scales::Nested {
            for (_, Nested { d, .. }) in numbers {
                self.put_half(*d);
            }
        }
        for group in 0..groups {
            for (floats, nested) in numbers {
                let number = floats[group];
                match grid.scales {
                    Scales::F16 => self.put_half(number),
                    Scales::BF16 => {
                        debug_assert!(number.to_bits() & 0xFFFF == 0);
                        self.put(((number.to_bits() >> 16) as u16).to_le_bytes());
                    }
                    Scales::Nested => self.put(nested.ints[group].to_le_bytes()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;
    use crate::cpu::simd::Portable;

    /// What a kernel reads of one lane, group by group.
    fn read<K: Kind, const MINS: bool>(bytes: &[u8], groups: usize, each: usize) -> Vec<[f32; 2]> {
        // SAFETY: the provider runs everywhere; there are so many groups, `each` a block of 32.
        unsafe {
            let mut reader = Reader::<Portable>::at(bytes.as_ptr());
            let next = |group: usize| {
                if group.is_multiple_of(each) {
                    reader.enter::<K, MINS>(group / each);
                }
                let [scale, min] = reader.next::<K, MINS>();
                [scale[LANE], min[LANE]]
            };
            (0..groups).map(next).collect()
        }
    }
    const LANE: usize = 5;

    #[test]
    fn what_is_written_is_read_to_the_bit() {
        const COLS: usize = 2 * MAX_BLOCK;
        for &format in Format::ALL {
            let Some(grid) = format.grid() else { continue };
            let (group, blocks) = (format.group(), COLS / format.block_len());
            let mut to = vec![0; bytes(grid, group, COLS)];
            let (mut expect, mut quants) = (Vec::new(), Quants::new());
            let mut writer = Writer::new(&mut to, LANE);
            for block in 0..blocks {
                // Any bytes that no half in them takes for an infinity.
                let byte = |i: usize| ((block * 57 + i * 31) % 251) as u8 & 0xBB;
                let stored: Vec<u8> = (0..format.block_bytes()).map(byte).collect();
                format.quants(&stored, &mut quants);
                let groups = format.block_len() / group;
                writer.block(grid, groups, &quants);
                expect.extend((0..groups).map(|g| [quants.scale[g], quants.min[g]]));
            }
            assert!(writer.to.is_empty(), "{format:?}: room is left");
            let read = match (grid.scales, grid.mins) {
                (Scales::F16, false) => read::<Halves, false>,
                (Scales::F16, true) => read::<Halves, true>,
                (Scales::BF16, _) => read::<Brains, false>,
                (Scales::Nested, false) => read::<Ints, false>,
                (Scales::Nested, true) => read::<Ints, true>,
            };
            let bits = |numbers: Vec<[f32; 2]>| -> Vec<Vec<u32>> {
                let taken = 1 + usize::from(grid.mins);
                let bits = |n: [f32; 2]| n[..taken].iter().map(|n| n.to_bits()).collect();
                numbers.into_iter().map(bits).collect()
            };
            let found = bits(read(&to, COLS / group, BLOCK / group));
            assert_eq!(found, bits(expect), "{format:?}");
        }
    }
}
