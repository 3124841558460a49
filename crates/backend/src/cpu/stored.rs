//! How each type of the KV cache is read and written by the kernels, 16 values at a time. A value
//! is rounded here, once, in the same way by every provider.
#![allow(clippy::needless_range_loop, reason = "kernels are loops over fixed arrays, by index")]

use super::pack::LANES;
use super::paged::{Piece, Side};
use super::simd::Simd;
use crate::{BLOCK_TOKENS, KV_GROUP, KvType};

/// The largest half.
pub(crate) const HALF_MAX: f32 = 65_504.0;
/// The largest stored integer.
pub(crate) const INT_MAX: f32 = 127.0;

/// A type of the cache.
pub(crate) trait Stored {
    /// Bytes of a value.
    const SIZE: usize;
    /// Bytes of a group's scales.
    const SCALES: usize;
    /// Whether values are integers with a scale a group.
    const SCALED: bool = Self::SCALES > 0;

    /// 16 values, without their scales.
    ///
    /// # Safety
    /// They can be read.
    unsafe fn load<S: Simd>(from: *const u8) -> S::Floats;
}

/// [`KvType::F32`]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floats;
/// [`KvType::F16`]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Halves;
/// [`KvType::Q8_0`]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes;

impl Stored for Floats {
    const SIZE: usize = 4;
    const SCALES: usize = 0;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u8) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::load_f32(from) }
    }
}

impl Stored for Halves {
    const SIZE: usize = 2;
    const SCALES: usize = 0;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u8) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::load_f16(from) }
    }
}

impl Stored for Bytes {
    const SIZE: usize = 1;
    const SCALES: usize = 2 * BLOCK_TOKENS;

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const u8) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { S::load_i8(from) }
    }
}

/// Stores one position's key, or value, of one head.
///
/// # Safety
/// `to` is a piece for heads of `x`'s length; nobody else touches the slot meanwhile.
#[inline(always)]
pub(crate) unsafe fn keep<S: Simd>(piece: Piece, side: Side, slot: usize, x: &[f32], to: *mut u8) {
    for (group, x) in x.chunks(KV_GROUP).enumerate() {
        let mut values = [0.0f32; KV_GROUP];
        values[..x.len()].copy_from_slice(x);
        let at = piece.at(side, slot, group * KV_GROUP);
        // SAFETY: the slot's places of this group, as `Piece` has them.
        unsafe {
            match piece.kv {
                KvType::F32 => lay(side, x.len(), &values, to.add(at).cast()),
                KvType::F16 => lay(side, x.len(), &halves::<S>(&values), to.add(at).cast()),
                KvType::Q8_0 => {
                    let (scale, ints) = quantise(&values);
                    to.add(piece.group(group)).cast::<u16>().add(slot).write_unaligned(scale);
                    lay(side, x.len(), &ints, to.add(at).cast());
                }
            }
        }
    }
}

/// Writes a group's values, side by side or a vector apart.
#[inline(always)]
unsafe fn lay<T: Copy>(side: Side, len: usize, values: &[T; KV_GROUP], to: *mut T) {
    // SAFETY: the caller's promise.
    unsafe {
        match side {
            Side::Keys => {
                for d in 0..len {
                    to.add(d * BLOCK_TOKENS).write_unaligned(values[d]);
                }
            }
            Side::Values => to.copy_from_nonoverlapping(values.as_ptr(), len),
        }
    }
}

#[inline(always)]
unsafe fn halves<S: Simd>(values: &[f32; KV_GROUP]) -> [u16; KV_GROUP] {
    let mut halves = [0u16; KV_GROUP];
    for at in (0..KV_GROUP).step_by(LANES) {
        // SAFETY: 16 values at a time. A value that is no number stays none.
        unsafe {
            let v = S::load_f32(values[at..at + LANES].as_ptr().cast());
            let v = S::min(S::floats(HALF_MAX), S::max(S::floats(-HALF_MAX), v));
            S::store_f16(v, halves[at..at + LANES].as_mut_ptr());
        }
    }
    halves
}

/// `scale · integer`, the scale a half, rounded first: the integers are of what is stored.
#[inline(always)]
fn quantise(values: &[f32; KV_GROUP]) -> (u16, [i8; KV_GROUP]) {
    let mut most = 0.0f32;
    for v in values {
        most = if v.abs() > most { v.abs() } else { most };
    }
    let scale = half::f16::from_f32((most / INT_MAX).min(HALF_MAX));
    let inverse = if scale.to_f32() > 0.0 { 1.0 / scale.to_f32() } else { 0.0 };
    let mut ints = [0i8; KV_GROUP];
    for d in 0..KV_GROUP {
        ints[d] = (values[d] * inverse).round_ties_even().clamp(-INT_MAX, INT_MAX) as i8;
    }
    (scale.to_bits(), ints)
}
