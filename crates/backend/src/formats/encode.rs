//! The other direction: weights into blocks. Each format says how it chooses and stores its scales
//! and how it packs its codes; which code is nearest is found once, for all of them, from the
//! scales as the format's own decoder reads them back. So no rounding of a stored scale goes
//! unnoticed. How scales are chosen is for `search` and `nested`.

use half::f16;

use super::nested::{self, half};
use super::search::{self, Book, Even, Levels};
use super::{E2M1, Fields, MAX_BLOCK, Quants, UNEVEN};

/// How weights become one block of a format.
pub(super) struct Encoder {
    /// Chooses the scales for a block's weights and writes them into the block.
    scales: fn(&[f32], &mut [u8]),
    /// The same, compiled for AVX2: the same bits, sooner.
    #[cfg(target_arch = "x86_64")]
    scales_avx2: unsafe fn(&[f32], &mut [u8]),
    /// The code whose level is nearest.
    code: fn(f32) -> u8,
    /// Writes a block's codes beside the scales.
    pack: fn(&[u8; MAX_BLOCK], &mut [u8]),
}

impl Encoder {
    /// Fills `block`, whose decoder is `quants`, with as many weights as it has.
    pub(super) fn encode(
        &self,
        weights: &[f32],
        (group, quants): (usize, fn(Fields<'_>, &mut Quants)),
        block: &mut [u8],
    ) {
        block.fill(0);
        self.choose(weights, block);
        let mut stored = Quants::new();
        quants(Fields(block), &mut stored);
        let mut codes = [0; MAX_BLOCK];
        let groups = weights.chunks_exact(group).zip(codes.chunks_exact_mut(group));
        for ((x, codes), (scale, min)) in groups.zip(stored.scale.iter().zip(&stored.min)) {
            for (x, code) in x.iter().zip(codes) {
                let level = if *scale == 0.0 { 0.0 } else { (x - min) / scale };
                *code = (self.code)(level);
            }
        }
        (self.pack)(&codes, block);
    }

    fn choose(&self, weights: &[f32], block: &mut [u8]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function was compiled for.
            return unsafe { (self.scales_avx2)(weights, block) };
        }
        (self.scales)(weights, block);
    }
}

/// The code of an even level: how many it stands above the lowest.
fn count<const LOW: i32, const HIGH: i32>(level: f32) -> u8 {
    (Even::<LOW, HIGH>::snap(level) - LOW as f32) as u8
}

/// The code of an uneven level: where it stands in the format's own book.
fn look_up<B: Book>(level: f32, book: &[i8; 16]) -> u8 {
    let level = B::snap(level) as i8;
    book.iter().position(|value| *value == level).unwrap_or(0) as u8
}

pub(super) struct Uneven;
impl Book for Uneven {
    const LEVELS: &'static [i8] = &UNEVEN;
}

pub(super) struct Floats;
impl Book for Floats {
    const LEVELS: &'static [i8] = &[-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12];
}

macro_rules! encoders {
    ($($name:ident: $scales:expr, $code:expr, $pack:expr;)*) => {$(
        pub(super) const $name: Encoder = {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn scales_avx2(weights: &[f32], block: &mut [u8]) {
                $scales(weights, block);
            }
            Encoder {
                scales: $scales,
                #[cfg(target_arch = "x86_64")]
                scales_avx2,
                code: $code,
                pack: $pack,
            }
        };
    )*};
}

encoders! {
    Q4_0: one_scale::<Even<-8, 7>>, count::<-8, 7>, nibbles_from::<2>;
    Q4_1: one_line::<Even<0, 15>>, count::<0, 15>, nibbles_from::<4>;
    Q5_0: one_scale::<Even<-16, 15>>, count::<-16, 15>, five_bits_from::<2>;
    Q5_1: one_line::<Even<0, 31>>, count::<0, 31>, five_bits_from::<4>;
    Q8_0: one_scale::<Even<-127, 127>>, count::<-127, 127>, q8_0;
    Q2_K: q2_k_scales, count::<0, 3>, q2_k;
    Q3_K: q3_k_scales, count::<-4, 3>, q3_k;
    Q4_K: k_scales::<Even<0, 15>>, count::<0, 15>, q4_k;
    Q5_K: k_scales::<Even<0, 31>>, count::<0, 31>, q5_k;
    Q6_K: q6_k_scales, count::<-32, 31>, q6_k;
    IQ4_NL: one_scale::<Uneven>, |v| look_up::<Uneven>(v, &UNEVEN), nibbles_from::<2>;
    IQ4_XS: iq4_xs_scales, |v| look_up::<Uneven>(v, &UNEVEN), iq4_xs;
    MXFP4: mxfp4_scale, |v| look_up::<Floats>(v, &E2M1), nibbles_from::<1>;
}

fn put(value: f16, block: &mut [u8], at: usize) {
    block[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// The block as groups of one length.
fn groups<const N: usize>(x: &[f32]) -> &[[f32; N]] {
    x.as_chunks().0
}

#[inline(always)]
fn one_scale<L: Levels>(x: &[f32], block: &mut [u8]) {
    put(half(search::scale::<L, 32>(&groups(x)[0])), block, 0);
}

#[inline(always)]
fn one_line<L: Levels>(x: &[f32], block: &mut [u8]) {
    let (scale, min) = search::affine::<L, 32>(&groups(x)[0], false);
    put(half(scale), block, 0);
    put(half(min), block, 2);
}

/// A power of two: the largest weight's, or one of its neighbours.
#[inline(always)]
fn mxfp4_scale(x: &[f32], block: &mut [u8]) {
    let x = &groups::<32>(x)[0];
    let extreme = search::extreme(x).abs();
    if extreme == 0.0 {
        return;
    }
    // The largest level is 6 = 1.5 · 2²; the byte counts from 2⁻¹²⁷.
    let nearest = (extreme.log2().floor() as i32 - 2 + 127).clamp(1, 253);
    let error = |exponent: i32| {
        let mut stored = Quants::new();
        super::mxfp4(Fields(&[&[exponent as u8][..], &[0; 16]].concat()), &mut stored);
        search::error::<Floats, 32>(x, stored.scale[0], 0.0)
    };
    let tried = (nearest - 1..=nearest + 1).map(|exponent| (error(exponent), exponent));
    let best = tried.min_by(|a, b| a.0.total_cmp(&b.0));
    block[0] = best.map_or(0, |(_, exponent)| exponent as u8);
}

/// The layout that [`super::k_scales`] reads.
#[inline(always)]
fn k_scales<L: Levels>(x: &[f32], block: &mut [u8]) {
    let (d, d_min, scales, mins) = nested::lines::<L, 8, 32>(groups(x), 63);
    put(d, block, 0);
    put(d_min, block, 2);
    let bytes = &mut block[4..16];
    for g in 0..8 {
        let (scale, min) = (scales[g], mins[g]);
        if g < 4 {
            bytes[g] |= scale;
            bytes[g + 4] |= min;
        } else {
            bytes[g + 4] = scale & 15 | min << 4;
            bytes[g - 4] |= scale >> 4 << 6;
            bytes[g] |= min >> 4 << 6;
        }
    }
}

#[inline(always)]
fn q2_k_scales(x: &[f32], block: &mut [u8]) {
    let (d, d_min, scales, mins) = nested::lines::<Even<0, 3>, 16, 16>(groups(x), 15);
    for ((byte, scale), min) in block.iter_mut().zip(scales).zip(mins) {
        *byte = scale | min << 4;
    }
    put(d, block, 80);
    put(d_min, block, 82);
}

#[inline(always)]
fn q3_k_scales(x: &[f32], block: &mut [u8]) {
    let (d, scales) = nested::scales::<Even<-4, 3>, 16, 16>(groups(x), (-32, 31));
    let bytes = &mut block[96..108];
    for (g, scale) in scales.iter().enumerate() {
        let scale = (scale + 32) as u8;
        bytes[g % 8] |= (scale & 15) << (4 * (g / 8));
        bytes[8 + g % 4] |= scale >> 4 << (2 * (g / 4));
    }
    put(d, block, 108);
}

#[inline(always)]
fn q6_k_scales(x: &[f32], block: &mut [u8]) {
    let (d, scales) = nested::scales::<Even<-32, 31>, 16, 16>(groups(x), (-128, 127));
    for (byte, scale) in block[192..208].iter_mut().zip(scales) {
        *byte = scale as i8 as u8;
    }
    put(d, block, 208);
}

#[inline(always)]
fn iq4_xs_scales(x: &[f32], block: &mut [u8]) {
    let (d, scales) = nested::scales::<Uneven, 8, 32>(groups(x), (-32, 31));
    put(d, block, 0);
    for (g, scale) in scales.iter().enumerate() {
        let scale = (scale + 32) as u8;
        block[2 + g / 4] |= scale >> 4 << (2 * (g % 4));
        block[4 + g / 2] |= (scale & 15) << (4 * (g % 2));
    }
}

/// The first half of the codes into the low halves of the bytes, the second into the high ones.
fn nibbles(codes: &[u8], bytes: &mut [u8]) {
    let (low, high) = codes.split_at(codes.len() / 2);
    for ((byte, low), high) in bytes.iter_mut().zip(low).zip(high) {
        *byte = low & 15 | high << 4;
    }
}

/// Nibbles for each 64 codes.
fn k_nibbles(codes: &[u8; MAX_BLOCK], bytes: &mut [u8]) {
    for (codes, bytes) in codes.chunks_exact(64).zip(bytes.chunks_exact_mut(32)) {
        nibbles(codes, bytes);
    }
}

/// 32 codes as nibbles from byte `AT` on, behind the scales.
fn nibbles_from<const AT: usize>(codes: &[u8; MAX_BLOCK], block: &mut [u8]) {
    nibbles(&codes[..32], &mut block[AT..]);
}

/// 32 fifth bits in one word from byte `AT` on, then 32 nibbles.
fn five_bits_from<const AT: usize>(codes: &[u8; MAX_BLOCK], block: &mut [u8]) {
    let high = (0..32).fold(0, |high, i| high | u32::from(codes[i] >> 4) << i);
    block[AT..AT + 4].copy_from_slice(&high.to_le_bytes());
    nibbles(&codes[..32], &mut block[AT + 4..]);
}

fn q8_0(codes: &[u8; MAX_BLOCK], block: &mut [u8]) {
    for (byte, code) in block[2..].iter_mut().zip(codes) {
        *byte = code.wrapping_sub(127);
    }
}

/// The lowest two bits of 256 codes, where `pairs` of the decoder looks for them.
fn pairs(codes: &[u8; MAX_BLOCK], bytes: &mut [u8]) {
    for (run, codes) in bytes.chunks_exact_mut(32).zip(codes.chunks_exact(128)) {
        for (pair, codes) in codes.chunks_exact(32).enumerate() {
            for (byte, code) in run.iter_mut().zip(codes) {
                *byte |= (code & 3) << (2 * pair);
            }
        }
    }
}

/// Bit `bit` of 256 codes, 32 of them to a bit of 32 bytes.
fn plane(codes: &[u8; MAX_BLOCK], bit: u32, bytes: &mut [u8]) {
    for (place, codes) in codes.chunks_exact(32).enumerate() {
        for (byte, code) in bytes.iter_mut().zip(codes) {
            *byte |= (code >> bit & 1) << place;
        }
    }
}

fn q2_k(codes: &[u8; MAX_BLOCK], block: &mut [u8]) {
    pairs(codes, &mut block[16..80]);
}

fn q3_k(codes: &[u8; MAX_BLOCK], block: &mut [u8]) {
    plane(codes, 2, &mut block[..32]);
    pairs(codes, &mut block[32..96]);
}

fn q4_k(codes: &[u8; MAX_BLOCK], block: &mut [u8]) {
    k_nibbles(codes, &mut block[16..]);
}

fn q5_k(codes: &[u8; MAX_BLOCK], block: &mut [u8]) {
    plane(codes, 4, &mut block[16..48]);
    k_nibbles(codes, &mut block[48..]);
}

fn q6_k(codes: &[u8; MAX_BLOCK], block: &mut [u8]) {
    for (codes, bytes) in codes.chunks_exact(128).zip(block.chunks_exact_mut(64)) {
        nibbles(codes, bytes);
    }
    pairs(&codes.map(|code| code >> 4), &mut block[128..192]);
}

fn iq4_xs(codes: &[u8; MAX_BLOCK], block: &mut [u8]) {
    for (codes, bytes) in codes.chunks_exact(32).zip(block[8..].chunks_exact_mut(16)) {
        nibbles(codes, bytes);
    }
}
