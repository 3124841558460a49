//! Weight formats as data: one row of [`ROWS`] and one small decoder a format.
//!
//! A decoder turns one block into small integers and scales ([`Quants`]), and [`Format::unpack`]
//! multiplies them out, so there is one description of each layout. Values agree bit for bit with
//! the Python package `gguf` (`gguf.quants.dequantize`), whose layouts these are. There are no
//! kernels here and no choice of one: a decoder is the specification that a kernel is tested
//! against. The way back, [`Format::quantise`], stands in `encode`; how it chooses scales, in
//! `search` and `nested`.

mod encode;
mod nested;
mod search;

use encode::Encoder;

/// Most weights that a block of any format holds.
pub const MAX_BLOCK: usize = 256;
/// Most scales that a block of any format holds.
pub const MAX_GROUPS: usize = 16;

/// How weights are stored. The names are the ones that GGUF files use.
#[allow(non_camel_case_types, reason = "the names by which the field knows these formats")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of an IEEE single.
    BF16,
    /// 4 bits, a scale for each 32.
    Q4_0,
    /// 4 bits, a scale and a minimum for each 32.
    Q4_1,
    /// 5 bits, a scale for each 32.
    Q5_0,
    /// 5 bits, a scale and a minimum for each 32.
    Q5_1,
    /// 8 bits, a scale for each 32.
    Q8_0,
    /// 2 bits, 4-bit scales and minima for each 16 of 256.
    Q2_K,
    /// 3 bits, 6-bit scales for each 16 of 256.
    Q3_K,
    /// 4 bits, 6-bit scales and minima for each 32 of 256.
    Q4_K,
    /// 5 bits, 6-bit scales and minima for each 32 of 256.
    Q5_K,
    /// 6 bits, 8-bit scales for each 16 of 256.
    Q6_K,
    /// A 4-bit code into 16 uneven steps, a scale for each 32.
    IQ4_NL,
    /// The same steps, 6-bit scales for each 32 of 256.
    IQ4_XS,
    /// 4-bit floats (E2M1), a power of two for each 32 (OCP Microscaling, MXFP4).
    MXFP4,
}

/// What the small integers of a block format look like, for whoever packs them anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// The smallest of 4, 5, 6 and 8 bits that holds `q + offset`; with 8, `q` is a signed byte
    /// and `offset` is 0.
    pub bits: u8,
    /// Makes `q` unsigned: `q + offset` lies in `0..1 << bits` (where `bits` is below 8).
    pub offset: i32,
    /// Whether groups have a minimum beside their scale.
    pub mins: bool,
    /// What scales and minima are made of.
    pub scales: Scales,
}

/// What the scales and minima of a format are made of, so that they can be kept as small as the
/// file has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scales {
    /// Each is exactly an IEEE half.
    F16,
    /// Each is exactly the upper half of an IEEE single.
    BF16,
    /// Each is a small integer times one number a block, in one rounding: see [`Nested`].
    Nested,
}

/// Small integers under one number: a block's scales, or its minima, are `d * ints[g]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nested {
    /// What they are multiplied by: exactly an IEEE half.
    pub d: f32,
    /// One a group.
    pub ints: [i8; MAX_GROUPS],
}

impl Nested {
    const NONE: Self = Self { d: -0.0, ints: [0; MAX_GROUPS] };

    fn multiply_out(&self) -> [f32; MAX_GROUPS] {
        self.ints.map(|int| self.d * f32::from(int))
    }
}

/// One block as small integers: weight `i` is `scale[g] * q[i] + min[g]`, with `g = i / group`,
/// one rounding after the product and one after the sum.
///
/// Only the first [`Format::block_len`] integers and the first `block_len / group` scales and
/// minima have a meaning. Where a format has no minima they are -0.0, the zero that changes no
/// sum, not even one that is itself a zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Quants {
    /// The integers.
    pub q: [i8; MAX_BLOCK],
    /// What a group's integers are multiplied by.
    pub scale: [f32; MAX_GROUPS],
    /// What is then added.
    pub min: [f32; MAX_GROUPS],
    /// What `scale` is made of, where the format's are [`Scales::Nested`].
    pub scales: Nested,
    /// What `min` is made of, likewise.
    pub mins: Nested,
}

impl Quants {
    /// Somewhere to decode into.
    pub const fn new() -> Self {
        Self {
            q: [0; MAX_BLOCK],
            scale: [0.0; MAX_GROUPS],
            min: [-0.0; MAX_GROUPS],
            scales: Nested::NONE,
            mins: Nested::NONE,
        }
    }

    fn nest(&mut self, scales: Nested, mins: Nested) {
        (self.scale, self.min) = (scales.multiply_out(), mins.multiply_out());
        (self.scales, self.mins) = (scales, mins);
    }
}

impl Default for Quants {
    fn default() -> Self {
        Self::new()
    }
}

/// Everything there is to know about one format.
struct FormatRow {
    format: Format,
    name: &'static str,
    ggml_id: u32,
    block_len: usize,
    block_bytes: usize,
    /// The largest magnitude that is quantised.
    most: f32,
    decode: Decode,
}

/// The largest finite half, the type of most scales.
const F16_MOST: f32 = 65504.0;

/// One float out of its bytes, and into them.
type Read = fn(&[u8]) -> f32;
type Write = fn(f32, &mut [u8]);

/// How stored bytes become numbers, and the way back.
enum Decode {
    /// Each weight by itself.
    Float { read: Read, write: Write },
    /// Blocks of integers with one scale for each `group` weights.
    Block { group: usize, grid: Grid, quants: fn(Fields<'_>, &mut Quants), encoder: Encoder },
}

const fn float(
    format: Format,
    name: &'static str,
    ggml_id: u32,
    bytes: usize,
    (read, write): (Read, Write),
    most: f32,
) -> FormatRow {
    FormatRow {
        format,
        name,
        ggml_id,
        block_len: 1,
        block_bytes: bytes,
        most,
        decode: Decode::Float { read, write },
    }
}

const fn block(
    (format, name, ggml_id): (Format, &'static str, u32),
    (block_len, block_bytes, group): (usize, usize, usize),
    grid: Grid,
    quants: fn(Fields<'_>, &mut Quants),
    encoder: Encoder,
) -> FormatRow {
    let decode = Decode::Block { group, grid, quants, encoder };
    FormatRow { format, name, ggml_id, block_len, block_bytes, most: F16_MOST, decode }
}

const fn grid(bits: u8, offset: i32, scales: Scales) -> Grid {
    Grid { bits, offset, mins: false, scales }
}

impl Grid {
    const fn with_mins(self) -> Self {
        Self { mins: true, ..self }
    }
}

/// One row a format, in the order of [`Format`]. Ids and sizes: `GGMLQuantizationType` and
/// `GGML_QUANT_SIZES` of the Python package `gguf`.
#[rustfmt::skip]
const ROWS: &[FormatRow] = &[
    float(Format::F32, "F32", 0, 4, (read_f32, write_f32), f32::MAX),
    float(Format::F16, "F16", 1, 2, (read_f16, write_f16), F16_MOST),
    float(Format::BF16, "BF16", 30, 2, (read_bf16, write_bf16), bf16_to_f32(0x7f7f)),
    //     format, name, GGUF's id          weights, bytes, group          grid; there and back
    block((Format::Q4_0, "Q4_0", 2),       (32, 2 + 16, 32),              grid(4, 8, Scales::F16), q4_0, encode::Q4_0),
    block((Format::Q4_1, "Q4_1", 3),       (32, 4 + 16, 32),              grid(4, 0, Scales::F16).with_mins(), q4_1, encode::Q4_1),
    block((Format::Q5_0, "Q5_0", 6),       (32, 2 + 4 + 16, 32),          grid(5, 16, Scales::F16), q5_0, encode::Q5_0),
    block((Format::Q5_1, "Q5_1", 7),       (32, 4 + 4 + 16, 32),          grid(5, 0, Scales::F16).with_mins(), q5_1, encode::Q5_1),
    block((Format::Q8_0, "Q8_0", 8),       (32, 2 + 32, 32),              grid(8, 0, Scales::F16), q8_0, encode::Q8_0),
    block((Format::Q2_K, "Q2_K", 10),      (256, 16 + 64 + 4, 16),        grid(4, 0, Scales::Nested).with_mins(), q2_k, encode::Q2_K),
    block((Format::Q3_K, "Q3_K", 11),      (256, 32 + 64 + 12 + 2, 16),   grid(4, 8, Scales::Nested), q3_k, encode::Q3_K),
    block((Format::Q4_K, "Q4_K", 12),      (256, 4 + 12 + 128, 32),       grid(4, 0, Scales::Nested).with_mins(), q4_k, encode::Q4_K),
    block((Format::Q5_K, "Q5_K", 13),      (256, 4 + 12 + 32 + 128, 32),  grid(5, 0, Scales::Nested).with_mins(), q5_k, encode::Q5_K),
    block((Format::Q6_K, "Q6_K", 14),      (256, 128 + 64 + 16 + 2, 16),  grid(6, 32, Scales::Nested), q6_k, encode::Q6_K),
    block((Format::IQ4_NL, "IQ4_NL", 20),  (32, 2 + 16, 32),              grid(8, 0, Scales::F16), iq4_nl, encode::IQ4_NL),
    block((Format::IQ4_XS, "IQ4_XS", 23),  (256, 2 + 2 + 4 + 128, 32),    grid(8, 0, Scales::Nested), iq4_xs, encode::IQ4_XS),
    block((Format::MXFP4, "MXFP4", 39),    (32, 1 + 16, 32),              grid(5, 16, Scales::BF16), mxfp4, encode::MXFP4),
];

/// The rows stand in the enum's order and fit the fixed arrays of [`Quants`].
const _: () = {
    let mut i = 0;
    while i < ROWS.len() {
        let row = &ROWS[i];
        assert!(row.format as usize == i, "ROWS is not in the order of Format");
        assert!(row.block_len <= MAX_BLOCK);
        if let Decode::Block { group, .. } = row.decode {
            assert!(row.block_len.is_multiple_of(group) && row.block_len / group <= MAX_GROUPS);
        }
        i += 1;
    }
    assert!(Format::Q4_0.block_bytes() == 18 && Format::Q8_0.block_bytes() == 34);
    assert!(Format::Q4_K.block_bytes() == 144 && Format::Q6_K.block_bytes() == 210);
    assert!(Format::IQ4_XS.block_bytes() == 136 && Format::MXFP4.block_bytes() == 17);
};

impl Format {
    /// Every format.
    pub const ALL: &'static [Self] = &{
        let mut all = [Self::F32; ROWS.len()];
        let mut i = 0;
        while i < all.len() {
            all[i] = ROWS[i].format;
            i += 1;
        }
        all
    };

    const fn row(self) -> &'static FormatRow {
        &ROWS[self as usize]
    }

    /// The name that model files and their readers use, such as "Q4_1".
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The number that stands for this format in a GGUF file.
    pub const fn ggml_id(self) -> u32 {
        self.row().ggml_id
    }

    /// The format that a GGUF file's number stands for, if it is one of these.
    pub fn from_ggml_id(id: u32) -> Option<Self> {
        ROWS.iter().find(|row| row.ggml_id == id).map(|row| row.format)
    }

    /// Weights a block; 1 for floats.
    pub const fn block_len(self) -> usize {
        self.row().block_len
    }

    /// Bytes a block.
    pub const fn block_bytes(self) -> usize {
        self.row().block_bytes
    }

    /// Weights a scale; 1 for floats.
    pub const fn group(self) -> usize {
        match self.row().decode {
            Decode::Float { .. } => 1,
            Decode::Block { group, .. } => group,
        }
    }

    /// The shape of a block's integers; `None` for floats.
    pub const fn grid(self) -> Option<Grid> {
        match self.row().decode {
            Decode::Float { .. } => None,
            Decode::Block { grid, .. } => Some(grid),
        }
    }

    /// Bytes that a row of `cols` weights takes; `None` where these are not whole blocks, or too
    /// many to count.
    pub const fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Turns whole blocks into weights.
    ///
    /// # Panics
    /// If `bytes` are not whole blocks, or `out` is not as long as the weights in them.
    pub fn unpack(self, bytes: &[u8], out: &mut [f32]) {
        let row = self.row();
        assert_eq!(
            self.row_bytes(out.len()),
            Some(bytes.len()),
            "{} weights of {} do not take {} bytes; this is a bug",
            out.len(),
            row.name,
            bytes.len()
        );
        let blocks = bytes.chunks_exact(row.block_bytes);
        match row.decode {
            Decode::Float { read, .. } => {
                for (out, bytes) in out.iter_mut().zip(blocks) {
                    *out = read(bytes);
                }
            }
            Decode::Block { group, quants, .. } => {
                let mut decoded = Quants::new();
                for (out, bytes) in out.chunks_exact_mut(row.block_len).zip(blocks) {
                    quants(Fields(bytes), &mut decoded);
                    multiply_out(&decoded, group, out);
                }
            }
        }
    }

    /// Turns weights into whole blocks, with the least sum of squared errors that the search finds.
    /// The same weights give the same bytes on every machine.
    ///
    /// # Errors
    /// [`Unfit`] where a weight is not finite or too large for the format; `out` is then of no use.
    ///
    /// # Panics
    /// If `weights` are not whole blocks, or `out` is not as long as they take.
    pub fn quantise(self, weights: &[f32], out: &mut [u8]) -> Result<(), Unfit> {
        let row = self.row();
        assert_eq!(
            self.row_bytes(weights.len()),
            Some(out.len()),
            "{} weights do not make {} bytes of {}; this is a bug",
            weights.len(),
            out.len(),
            row.name
        );
        let fits = |x: &f32| x.abs() <= row.most; // so is no NaN
        if let Some(at) = weights.iter().position(|x| !fits(x)) {
            return Err(Unfit { at, value: weights[at], format: self });
        }
        let blocks = out.chunks_exact_mut(row.block_bytes);
        match &row.decode {
            Decode::Float { write, .. } => {
                weights.iter().zip(blocks).for_each(|(x, bytes)| write(*x, bytes));
            }
            Decode::Block { group, quants, encoder, .. } => {
                for (weights, block) in weights.chunks_exact(row.block_len).zip(blocks) {
                    encoder.encode(weights, (*group, *quants), block);
                }
            }
        }
        Ok(())
    }

    /// Turns one block into small integers and scales.
    ///
    /// # Panics
    /// If the format is a float (it has no [`Format::grid`]), or `block` is not one block.
    pub fn quants(self, block: &[u8], out: &mut Quants) {
        let row = self.row();
        assert_eq!(block.len(), row.block_bytes, "not one block of {}; this is a bug", row.name);
        let Decode::Block { quants, .. } = row.decode else {
            panic!("{} has no quants: ask grid() first; this is a bug", row.name);
        };
        quants(Fields(block), out);
    }
}

/// A weight that a format cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("weight {at} is {value}, which {} cannot hold", format.name())]
pub struct Unfit {
    /// Where it stands, counted from the first of the weights given.
    pub at: usize,
    /// What it is.
    pub value: f32,
    /// What was to hold it.
    pub format: Format,
}

/// `scale * q + min`, each of the two steps rounded.
fn multiply_out(quants: &Quants, group: usize, out: &mut [f32]) {
    let groups = out.chunks_exact_mut(group).zip(quants.q.chunks_exact(group));
    for ((out, q), (scale, min)) in groups.zip(quants.scale.iter().zip(&quants.min)) {
        for (out, q) in out.iter_mut().zip(q) {
            *out = scale * f32::from(*q) + min;
        }
    }
}

/// An IEEE half, given by its bits, as a single; exact for every finite value and both infinities.
pub const fn f16_to_f32(bits: u16) -> f32 {
    let sign = (bits as u32 & 0x8000) << 16;
    // A half's exponent is biased by 15, a single's by 127: the product moves one to the other,
    // and makes subnormal halves normal.
    let magnitude = f32::from_bits((bits as u32 & 0x7fff) << 13) * f32::from_bits((254 - 15) << 23);
    let special = if bits & 0x7c00 == 0x7c00 { 0xff << 23 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | sign)
}

/// A brain float, given by its bits, as a single.
pub const fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

fn read_f32(bytes: &[u8]) -> f32 {
    f32::from_le_bytes(*Fields(bytes).take())
}

fn read_f16(bytes: &[u8]) -> f32 {
    Fields(bytes).f16()
}

fn read_bf16(bytes: &[u8]) -> f32 {
    bf16_to_f32(Fields(bytes).u16())
}

fn write_f32(value: f32, bytes: &mut [u8]) {
    bytes.copy_from_slice(&value.to_le_bytes());
}

fn write_f16(value: f32, bytes: &mut [u8]) {
    bytes.copy_from_slice(&half::f16::from_f32(value).to_le_bytes());
}

fn write_bf16(value: f32, bytes: &mut [u8]) {
    bytes.copy_from_slice(&half::bf16::from_f32(value).to_le_bytes());
}

/// What is still to be read of a block.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> &'a [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("a block as long as its row says");
        self.0 = rest;
        field
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(*self.take())
    }

    fn f16(&mut self) -> f32 {
        f16_to_f32(self.u16())
    }
}

/// The low halves of all bytes, then the high halves.
fn nibbles(bytes: &[u8], q: &mut [i8]) {
    let (low, high) = q.split_at_mut(bytes.len());
    for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
        *low = (byte & 15) as i8;
        *high = (byte >> 4) as i8;
    }
}

fn q4_0(mut block: Fields<'_>, out: &mut Quants) {
    out.scale[0] = block.f16();
    out.min[0] = -0.0;
    nibbles(block.take::<16>(), &mut out.q[..32]);
    for q in &mut out.q[..32] {
        *q -= 8;
    }
}

fn q4_1(mut block: Fields<'_>, out: &mut Quants) {
    out.scale[0] = block.f16();
    out.min[0] = block.f16();
    nibbles(block.take::<16>(), &mut out.q[..32]);
}

/// 32 fifth bits in one word, then 32 nibbles.
fn five_bits(mut block: Fields<'_>, q: &mut [i8; MAX_BLOCK], offset: i8) {
    let high = u32::from_le_bytes(*block.take());
    nibbles(block.take::<16>(), &mut q[..32]);
    for (i, q) in q[..32].iter_mut().enumerate() {
        *q = (*q | ((high >> i & 1) << 4) as i8) - offset;
    }
}

fn q5_0(mut block: Fields<'_>, out: &mut Quants) {
    out.scale[0] = block.f16();
    out.min[0] = -0.0;
    five_bits(block, &mut out.q, 16);
}

fn q5_1(mut block: Fields<'_>, out: &mut Quants) {
    out.scale[0] = block.f16();
    out.min[0] = block.f16();
    five_bits(block, &mut out.q, 0);
}

fn q8_0(mut block: Fields<'_>, out: &mut Quants) {
    out.scale[0] = block.f16();
    out.min[0] = -0.0;
    for (q, byte) in out.q.iter_mut().zip(block.take::<32>()) {
        *q = *byte as i8;
    }
}

/// 256 integers of 2 bits: bytes in runs of 32, and of each run first all lowest pairs of bits.
fn pairs(bytes: &[u8; 64], q: &mut [i8; MAX_BLOCK]) {
    for (run, q) in bytes.chunks_exact(32).zip(q.chunks_exact_mut(128)) {
        for (pair, q) in q.chunks_exact_mut(32).enumerate() {
            for (q, byte) in q.iter_mut().zip(run) {
                *q = (byte >> (2 * pair) & 3) as i8;
            }
        }
    }
}

fn q2_k(mut block: Fields<'_>, out: &mut Quants) {
    let scales = block.take::<16>();
    pairs(block.take(), &mut out.q);
    let (d, d_min) = (block.f16(), block.f16());
    out.nest(
        Nested { d, ints: scales.map(|byte| (byte & 15) as i8) },
        Nested { d: -d_min, ints: scales.map(|byte| (byte >> 4) as i8) },
    );
}

fn q3_k(mut block: Fields<'_>, out: &mut Quants) {
    let high = block.take::<32>();
    pairs(block.take(), &mut out.q);
    let scales = block.take::<12>();
    let d = block.f16();
    // The third bit says "do not take 4 away".
    for (bit, q) in out.q.chunks_exact_mut(32).enumerate() {
        for (q, byte) in q.iter_mut().zip(high) {
            *q -= if byte >> bit & 1 == 1 { 0 } else { 4 };
        }
    }
    let mut ints = [0; MAX_GROUPS];
    for (g, int) in ints.iter_mut().enumerate() {
        let low = scales[g % 8] >> (4 * (g / 8)) & 15;
        let high = scales[8 + g % 4] >> (2 * (g / 4)) & 3;
        *int = (low | high << 4) as i8 - 32;
    }
    out.nest(Nested { d, ints }, Nested::NONE);
}

/// Eight scales and eight minima of 6 bits each, in 12 bytes: the first four of each whole, the
/// others' low nibbles in the last four bytes and their upper two bits atop the first eight.
fn k_scales(d: f32, d_min: f32, bytes: &[u8; 12], out: &mut Quants) {
    let (mut scales, mut mins) = ([0; MAX_GROUPS], [0; MAX_GROUPS]);
    for g in 0..8 {
        let (scale, min) = if g < 4 {
            (bytes[g] & 63, bytes[g + 4] & 63)
        } else {
            let low = bytes[g + 4];
            (low & 15 | bytes[g - 4] >> 2 & 0x30, low >> 4 | bytes[g] >> 2 & 0x30)
        };
        (scales[g], mins[g]) = (scale as i8, min as i8);
    }
    out.nest(Nested { d, ints: scales }, Nested { d: -d_min, ints: mins });
}

fn q4_k(mut block: Fields<'_>, out: &mut Quants) {
    let (d, d_min) = (block.f16(), block.f16());
    k_scales(d, d_min, block.take(), out);
    for (bytes, q) in block.take::<128>().chunks_exact(32).zip(out.q.chunks_exact_mut(64)) {
        nibbles(bytes, q);
    }
}

fn q5_k(mut block: Fields<'_>, out: &mut Quants) {
    let (d, d_min) = (block.f16(), block.f16());
    k_scales(d, d_min, block.take(), out);
    let high = block.take::<32>();
    for (bytes, q) in block.take::<128>().chunks_exact(32).zip(out.q.chunks_exact_mut(64)) {
        nibbles(bytes, q);
    }
    for (bit, q) in out.q.chunks_exact_mut(32).enumerate() {
        for (q, byte) in q.iter_mut().zip(high) {
            *q |= ((byte >> bit & 1) << 4) as i8;
        }
    }
}

fn q6_k(mut block: Fields<'_>, out: &mut Quants) {
    let low = block.take::<128>();
    let mut high = [0; MAX_BLOCK];
    pairs(block.take(), &mut high);
    for (bytes, q) in low.chunks_exact(64).zip(out.q.chunks_exact_mut(128)) {
        nibbles(bytes, q);
    }
    for (q, high) in out.q.iter_mut().zip(high) {
        *q = (*q | high << 4) - 32;
    }
    let scales = block.take::<16>();
    let d = block.f16();
    out.nest(Nested { d, ints: scales.map(u8::cast_signed) }, Nested::NONE);
}

/// The steps of IQ4_NL and IQ4_XS (`kvalues` of `gguf.quants.IQ4_NL`).
const UNEVEN: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Twice the values of a 4-bit float with 2 bits of exponent and 1 of mantissa.
const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 4-bit codes into `book`, for each 16 bytes 32 of them.
fn codes(bytes: &[u8], book: &[i8; 16], q: &mut [i8]) {
    for (bytes, q) in bytes.chunks_exact(16).zip(q.chunks_exact_mut(32)) {
        nibbles(bytes, q);
        for q in q {
            *q = book[(*q & 15) as usize];
        }
    }
}

fn iq4_nl(mut block: Fields<'_>, out: &mut Quants) {
    out.scale[0] = block.f16();
    out.min[0] = -0.0;
    codes(block.take::<16>(), &UNEVEN, &mut out.q);
}

fn iq4_xs(mut block: Fields<'_>, out: &mut Quants) {
    let (d, high, low) = (block.f16(), block.u16(), block.take::<4>());
    let mut ints = [0; MAX_GROUPS];
    for (g, int) in ints[..8].iter_mut().enumerate() {
        let scale = low[g / 2] >> (4 * (g % 2)) & 15 | ((high >> (2 * g) & 3) << 4) as u8;
        *int = scale as i8 - 32;
    }
    out.nest(Nested { d, ints }, Nested::NONE);
    codes(block.take::<128>(), &UNEVEN, &mut out.q);
}

fn mxfp4(mut block: Fields<'_>, out: &mut Quants) {
    let [exponent] = *block.take();
    // Half of 2^(exponent - 127), since the book holds twice the values; below 2 it is subnormal.
    let bits = match u32::from(exponent) {
        e @ 0..2 => 0x0020_0000 << e,
        e => (e - 1) << 23,
    };
    out.scale[0] = f32::from_bits(bits);
    out.min[0] = -0.0;
    codes(block.take::<16>(), &E2M1, &mut out.q);
}
