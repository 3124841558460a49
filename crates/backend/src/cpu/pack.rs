//! Weights as the kernels want them: 16 rows interleaved, so that a vector holds 4 columns of 16
//! rows and no kernel sums across a register. One layout serves every instruction set.
//!
//! A block is 16 rows × 32 columns. Its integers, made unsigned, stand in planes of 64-byte
//! vectors; byte `4·row + j` of a vector belongs to column `4·g + j` of its group of columns `g`:
//! - 8 bits: vector `g` holds group `g`, of 8;
//! - 4 to 6 bits: vector `v` holds the low four bits of group `2v`, and above them those of
//!   `2v + 1`; then bit `g` of every byte of one more vector is bit 4 of group `g`, or bits
//!   `2(g mod 4)..` of vector `g / 4` of two more are bits 4 and 5.
//!
//! Absent: the activations that meet them (`acts.rs`), and kernels.

use super::{scales, zeroed_huge};
use crate::formats::{Grid, Quants, Scales};
use crate::{Bytes, Format, Refusal};

/// Rows that are interleaved.
pub(crate) const LANES: usize = 16;
/// Columns of a block, and of one activation scale.
pub(crate) const BLOCK: usize = 32;

/// 64 bytes at a cache line's start.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line(pub(crate) [u8; 64]);
const _: () = assert!(size_of::<Line>() == 64);

/// 16 outputs of one row of activations, a cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lanes(pub(crate) [f32; LANES]);

/// How a packed matrix is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Integers with scales.
    Grid { grid: Grid, group: usize },
    /// `[column][16 rows]` of the format's own floats.
    Float,
}

/// A matrix repacked for the kernels.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) format: Format,
    pub(crate) cols: usize,
    pub(crate) layout: Layout,
    /// `[group of 16 rows][block]` planes, or floats.
    pub(crate) lines: Vec<Line>,
    /// Lines per group of 16 rows.
    pub(crate) group_lines: usize,
    /// Those of each group of 16 rows, as `scales.rs` has them.
    pub(crate) scales: Vec<u8>,
    /// Bytes of scales per group of 16 rows.
    pub(crate) group_scales: usize,
}

impl Packed {
    /// Whether kernels take integers to multiply by it, not floats.
    pub(crate) fn takes_ints(&self) -> bool {
        self.layout != Layout::Float
    }

    /// Whether there is a kernel that takes the high bytes of integers alone.
    pub(crate) fn takes_high(&self) -> bool {
        matches!(self.layout, Layout::Grid { grid, group: 32 }
            if grid.bits == 8 && !grid.mins && grid.scales == Scales::F16)
    }
}

fn layout(format: Format) -> Layout {
    match format.grid() {
        Some(grid) => Layout::Grid { grid, group: format.group() },
        None => Layout::Float,
    }
}

/// Vectors of 64 bytes that a block's planes take.
pub(crate) const fn plane_lines(bits: u8) -> usize {
    match bits {
        4 => 4,
        5 => 5,
        6 => 6,
        _ => 8,
    }
}

impl Packed {
    /// An empty matrix to be filled group by group; `None` where the columns are not whole blocks
    /// of 32 (the kernels then have nothing for it).
    pub(crate) fn new(format: Format, rows: usize, cols: usize) -> Result<Option<Self>, Refusal> {
        let groups = rows.div_ceil(LANES);
        let Some((layout, group_lines, group_scales)) = Self::shape(format, cols) else {
            return Ok(None);
        };
        Ok(Some(Self {
            format,
            cols,
            layout,
            lines: zeroed_huge(Line([0; 64]), groups * group_lines)?,
            group_lines,
            scales: zeroed_huge(0, groups * group_scales)?,
            group_scales,
        }))
    }

    /// Bytes that a matrix takes when packed; `None` where it cannot be.
    pub(crate) fn bytes(format: Format, rows: usize, cols: usize) -> Option<u64> {
        let (_, lines, scales) = Self::shape(format, cols)?;
        let group = lines as u64 * size_of::<Line>() as u64 + scales as u64;
        Some(rows.div_ceil(LANES) as u64 * group)
    }

    /// The layout, and the lines and scale bytes of a group of 16 rows.
    fn shape(format: Format, cols: usize) -> Option<(Layout, usize, usize)> {
        let layout = layout(format);
        let (group_lines, group_scales) = match layout {
            Layout::Float => ((cols * LANES * format.block_bytes()).div_ceil(64), 0),
            Layout::Grid { grid, group } => {
                if !cols.is_multiple_of(BLOCK) {
                    return None;
                }
                (cols / BLOCK * plane_lines(grid.bits), scales::bytes(grid, group, cols))
            }
        };
        Some((layout, group_lines, group_scales))
    }
}

/// Fills the groups `first..` of a packed matrix, whose lines and scales are given, from the file's
/// rows. Rows past the last are left zero.
pub(crate) fn fill(
    packed: (Format, usize, usize),
    bytes: &Bytes,
    first: usize,
    lines: &mut [Line],
    scales: &mut [u8],
) {
    let (format, rows, cols) = packed;
    let row_bytes = format.row_bytes(cols).expect("checked when the weight was taken");
    let (layout, group_lines, group_scales) =
        Packed::shape(format, cols).expect("checked by the caller");
    let groups = lines.len() / group_lines;
    let mut quants = Quants::new();
    for at in 0..groups {
        let lines = &mut lines[at * group_lines..][..group_lines];
        let scales = &mut scales[at * group_scales..][..group_scales];
        for lane in 0..LANES.min(rows.saturating_sub((first + at) * LANES)) {
            let row = &bytes[((first + at) * LANES + lane) * row_bytes..][..row_bytes];
            match layout {
                Layout::Float => fill_floats(format.block_bytes(), row, lane, lines),
                Layout::Grid { grid, group } => {
                    let part = (format, grid, group);
                    fill_row(part, row, lane, lines, scales, &mut quants);
                }
            }
        }
    }
}

fn fill_floats(size: usize, row: &[u8], lane: usize, lines: &mut [Line]) {
    for (col, float) in row.chunks_exact(size).enumerate() {
        let at = (col * LANES + lane) * size;
        lines[at / 64].0[at % 64..][..size].copy_from_slice(float);
    }
}

/// One row's integers and scales into its lane.
fn fill_row(
    (format, grid, group): (Format, Grid, usize),
    row: &[u8],
    lane: usize,
    lines: &mut [Line],
    scales: &mut [u8],
    quants: &mut Quants,
) {
    let per = plane_lines(grid.bits);
    let mut scales = scales::Writer::new(scales, lane);
    let mut block = 0;
    for stored in row.chunks_exact(format.block_bytes()) {
        format.quants(stored, quants);
        for part in quants.q[..format.block_len()].as_chunks::<BLOCK>().0 {
            fill_block(grid, part, lane, &mut lines[block * per..][..per]);
            block += 1;
        }
        scales.block(grid, format.block_len() / group, quants);
    }
}

fn fill_block(grid: Grid, q: &[i8; BLOCK], lane: usize, lines: &mut [Line]) {
    for (col, &q) in q.iter().enumerate() {
        let (g, at) = (col / 4, 4 * lane + col % 4);
        if grid.bits == 8 {
            lines[g].0[at] = q.cast_unsigned() ^ 0x80;
            continue;
        }
        let u = (i32::from(q) + grid.offset) as u8;
        lines[g / 2].0[at] |= (u & 15) << (4 * (g % 2));
        match grid.bits {
            5 => lines[4].0[at] |= (u >> 4) << g,
            6 => lines[4 + g / 4].0[at] |= (u >> 4) << (2 * (g % 4)),
            _ => {}
        }
    }
}

/// What is subtracted from a plane's unsigned integers to get the format's.
pub(crate) fn plane_offset(grid: Grid) -> i32 {
    if grid.bits == 8 { 128 } else { grid.offset }
}
