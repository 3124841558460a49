//! The few vector operations that the matrix kernels are written in, and who provides them. Every
//! provider computes the same bits: integer sums are exact, and each float step is one rounding.
//!
//! A kernel body is generic over [`Simd`] and compiled once a provider, under its target features.
#![allow(clippy::needless_range_loop, reason = "kernels are loops over fixed arrays, by index")]

use super::body::fold;
use super::pack::BLOCK;

/// A provider of vectors of 16 lanes.
///
/// # Safety
/// Methods may use instructions that only [`super::kernels::Kernels::runs_here`] allows; pointers
/// must be readable (writable) for the stated length.
pub(crate) trait Simd: Copy {
    /// 64 unsigned bytes: 4 columns of 16 rows.
    type Bytes: Copy;
    /// 16 sums of integers.
    type Ints: Copy;
    /// 16 floats.
    type Floats: Copy;

    /// Rows of activations that a kernel takes at once: as many as fill the registers.
    const ROWS: usize;
    /// Whether products of 8-bit weights take the weights as signed, 128 less than they are stored.
    const SIGNED: bool = false;

    /// 64 bytes, aligned.
    unsafe fn load(from: *const u8) -> Self::Bytes;
    /// Has a cache line on its way, wherever it is, before it is loaded; it need not be readable.
    #[inline(always)]
    unsafe fn prefetch(_line: *const u8) {}
    /// The low (`HIGH` false) or high four bits of every byte.
    unsafe fn nibble<const HIGH: bool>(v: Self::Bytes) -> Self::Bytes;
    /// `low | ((plane >> from) << 4) & mask`, byte by byte; `from` is 0 to 7.
    unsafe fn above(low: Self::Bytes, plane: Self::Bytes, from: u32, mask: u8) -> Self::Bytes;
    /// All bits zero.
    unsafe fn zero() -> Self::Bytes;
    /// All sums zero.
    unsafe fn none() -> Self::Ints;
    /// `sum + Σ w·x` over each lane's four bytes, with the same four signed `x` for all lanes.
    /// `w` has so many bits; see [`Simd::SIGNED`].
    unsafe fn dot<const BITS: u8>(sum: Self::Ints, w: Self::Bytes, x: *const i8) -> Self::Ints;
    /// `Σ w·(256·high + low)` for `R` rows of activations, 64 bytes apart, whose 32 high bytes are
    /// followed by the low ones: the first `count` of `v`, each with the next four `x`.
    ///
    /// Neighbouring instructions belong to different sums here: a processor that finds its own
    /// order looks only so far ahead.
    #[inline(always)]
    unsafe fn sums<const BITS: u8, const R: usize>(
        v: &[Self::Bytes; 8],
        count: usize,
        x: *const i8,
    ) -> [Self::Ints; R] {
        // SAFETY: the caller's promise.
        unsafe {
            // Few rows: more sums, of fewer products each.
            let ways = if R <= 2 { 2 } else { 1 };
            let (mut high, mut low) = ([[Self::none(); 2]; R], [[Self::none(); 2]; R]);
            for g in 0..count {
                for r in 0..R {
                    let x = x.add(64 * r + 4 * g);
                    let way = g % ways;
                    high[r][way] = Self::dot::<BITS>(high[r][way], v[g], x);
                    low[r][way] = Self::dot::<BITS>(low[r][way], v[g], x.add(BLOCK));
                }
            }
            let mut sums = [Self::none(); R];
            for r in 0..R {
                let ([mut h, other], [mut l, rest]) = (high[r], low[r]);
                if ways == 2 {
                    (h, l) = (Self::plus(h, other), Self::plus(l, rest));
                }
                sums[r] = Self::plus(Self::scaled(h, 8), l);
            }
            sums
        }
    }
    /// The same integer in all lanes.
    unsafe fn ints(from: *const i32) -> Self::Ints;
    /// `a + b`
    unsafe fn plus(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// `a - b`
    unsafe fn minus(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// `2^by · sum`
    unsafe fn scaled(sum: Self::Ints, by: u32) -> Self::Ints;
    /// The nearest floats.
    unsafe fn to_floats(sum: Self::Ints) -> Self::Floats;
    /// Rounds 32 floats (of at most [`super::acts::ACT_MAX`], ties to even; NaN counts as any
    /// integer) and writes them as 32 high bytes and then 32 low bytes, both signed:
    /// `256·high + low`. Returns the sums of the first and of the last 16 integers.
    #[inline(always)]
    unsafe fn split(v: [Self::Floats; 2], to: *mut i8) -> [i32; 2] {
        let mut sums = [0i32; 2];
        for half in 0..2 {
            let mut lanes = [0.0f32; 16];
            // SAFETY: the caller gives 64 bytes.
            unsafe {
                Self::store(v[half], lanes.as_mut_ptr());
                for (i, lane) in lanes.into_iter().enumerate() {
                    let int = lane.round_ties_even() as i32;
                    let high = (int + 128) >> 8;
                    *to.add(16 * half + i) = high as i8;
                    *to.add(BLOCK + 16 * half + i) = (int - (high << 8)) as i8;
                    sums[half] += int;
                }
            }
        }
        sums
    }
    /// Rounds 32 floats (of at most 127, ties to even; NaN counts as any integer) and writes them
    /// as signed bytes. Returns their sum.
    #[inline(always)]
    unsafe fn bytes(v: [Self::Floats; 2], to: *mut i8) -> i32 {
        let mut sum = 0;
        for half in 0..2 {
            let mut lanes = [0.0f32; 16];
            // SAFETY: the caller gives 32 bytes.
            unsafe {
                Self::store(v[half], lanes.as_mut_ptr());
                for (i, lane) in lanes.into_iter().enumerate() {
                    let int = lane.round_ties_even() as i8;
                    *to.add(16 * half + i) = int;
                    sum += i32::from(int);
                }
            }
        }
        sum
    }
    /// Lane `i` of vector `j` becomes lane `j` of vector `i`.
    #[inline(always)]
    unsafe fn transposed(v: [Self::Floats; 16]) -> [Self::Floats; 16] {
        let (mut rows, mut cols) = ([[0.0f32; 16]; 16], [[0.0f32; 16]; 16]);
        let mut out = v;
        // SAFETY: 16 floats at a time.
        unsafe {
            for i in 0..16 {
                Self::store(v[i], rows[i].as_mut_ptr());
            }
            for i in 0..16 {
                for j in 0..16 {
                    cols[i][j] = rows[j][i];
                }
                out[i] = Self::load_f32(cols[i].as_ptr().cast());
            }
        }
        out
    }
    /// The largest lane; any of them where one is NaN.
    #[inline(always)]
    unsafe fn largest(v: Self::Floats) -> f32 {
        let mut lanes = [0.0f32; 16];
        // SAFETY: 16 floats.
        unsafe { Self::store(v, lanes.as_mut_ptr()) };
        fold(lanes, |a, b| if a > b { a } else { b })
    }
    /// All lanes the same.
    unsafe fn floats(value: f32) -> Self::Floats;
    /// 16 floats.
    unsafe fn load_f32(from: *const u8) -> Self::Floats;
    /// 16 halves.
    unsafe fn load_f16(from: *const u8) -> Self::Floats;
    /// 16 signed bytes.
    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self::Floats {
        let mut lanes = [0.0f32; 16];
        // SAFETY: the caller's promise.
        unsafe {
            let bytes = from.cast::<[i8; 16]>().read_unaligned();
            for i in 0..16 {
                lanes[i] = f32::from(bytes[i]);
            }
            Self::load_f32(lanes.as_ptr().cast())
        }
    }
    /// 16 brain floats.
    unsafe fn load_bf16(from: *const u8) -> Self::Floats;
    /// `a · b`
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a · b + c`, rounded once.
    unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// `a + b`
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a - b`
    unsafe fn sub(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `|v|`
    unsafe fn abs(v: Self::Floats) -> Self::Floats;
    /// `a / b`
    unsafe fn div(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The larger; `b` where one is NaN.
    unsafe fn max(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The smaller; `b` where one is NaN.
    unsafe fn min(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// To the nearest integer, ties to even.
    unsafe fn round(v: Self::Floats) -> Self::Floats;
    /// `2^n` for integers from -126 to 127.
    unsafe fn power(n: Self::Floats) -> Self::Floats;
    /// Writes 16 floats.
    unsafe fn store(v: Self::Floats, to: *mut f32);
    /// Writes the 16 nearest halves, ties to even.
    #[inline(always)]
    unsafe fn store_f16(v: Self::Floats, to: *mut u16) {
        let mut lanes = [0.0f32; 16];
        // SAFETY: the caller's promise.
        unsafe {
            Self::store(v, lanes.as_mut_ptr());
            for i in 0..16 {
                to.add(i).write_unaligned(half::f16::from_f32(lanes[i]).to_bits());
            }
        }
    }
}

/// Plain arrays, for every machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Simd for Portable {
    type Bytes = [u8; 64];
    type Ints = [i32; 16];
    type Floats = [f32; 16];

    const ROWS: usize = 2;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> [u8; 64] {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[u8; 64]>().read() }
    }
    #[inline(always)]
    unsafe fn nibble<const HIGH: bool>(mut v: [u8; 64]) -> [u8; 64] {
        for byte in &mut v {
            *byte = if HIGH { *byte >> 4 } else { *byte & 15 };
        }
        v
    }
    #[inline(always)]
    unsafe fn above(mut low: [u8; 64], plane: [u8; 64], from: u32, mask: u8) -> [u8; 64] {
        for i in 0..64 {
            low[i] |= ((plane[i] >> from) << 4) & mask;
        }
        low
    }
    #[inline(always)]
    unsafe fn zero() -> [u8; 64] {
        [0; 64]
    }
    #[inline(always)]
    unsafe fn none() -> [i32; 16] {
        [0; 16]
    }
    #[inline(always)]
    unsafe fn dot<const BITS: u8>(mut sum: [i32; 16], w: [u8; 64], x: *const i8) -> [i32; 16] {
        // SAFETY: the caller's promise.
        let x = unsafe { x.cast::<[i8; 4]>().read() };
        for lane in 0..16 {
            for j in 0..4 {
                sum[lane] += i32::from(w[4 * lane + j]) * i32::from(x[j]);
            }
        }
        sum
    }
    #[inline(always)]
    unsafe fn ints(from: *const i32) -> [i32; 16] {
        // SAFETY: the caller's promise.
        [unsafe { *from }; 16]
    }
    #[inline(always)]
    unsafe fn plus(mut a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        for i in 0..16 {
            a[i] = a[i].wrapping_add(b[i]);
        }
        a
    }
    #[inline(always)]
    unsafe fn minus(mut a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        for i in 0..16 {
            a[i] = a[i].wrapping_sub(b[i]);
        }
        a
    }
    #[inline(always)]
    unsafe fn scaled(mut sum: [i32; 16], by: u32) -> [i32; 16] {
        for i in 0..16 {
            sum[i] <<= by;
        }
        sum
    }
    #[inline(always)]
    unsafe fn to_floats(sum: [i32; 16]) -> [f32; 16] {
        let mut out = [0.0; 16];
        for i in 0..16 {
            out[i] = sum[i] as f32;
        }
        out
    }
    #[inline(always)]
    unsafe fn abs(mut a: [f32; 16]) -> [f32; 16] {
        for i in 0..16 {
            a[i] = a[i].abs();
        }
        a
    }
    #[inline(always)]
    unsafe fn floats(value: f32) -> [f32; 16] {
        [value; 16]
    }
    #[inline(always)]
    unsafe fn load_f32(from: *const u8) -> [f32; 16] {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[f32; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> [f32; 16] {
        // SAFETY: the caller's promise.
        let bits = unsafe { from.cast::<[u16; 16]>().read_unaligned() };
        let mut out = [0.0; 16];
        for i in 0..16 {
            out[i] = half::f16::from_bits(bits[i]).to_f32();
        }
        out
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> [f32; 16] {
        // SAFETY: the caller's promise.
        let bits = unsafe { from.cast::<[u16; 16]>().read_unaligned() };
        let mut out = [0.0; 16];
        for i in 0..16 {
            out[i] = f32::from_bits(u32::from(bits[i]) << 16);
        }
        out
    }
    #[inline(always)]
    unsafe fn mul(mut a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        for i in 0..16 {
            a[i] *= b[i];
        }
        a
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 16], b: [f32; 16], mut c: [f32; 16]) -> [f32; 16] {
        for i in 0..16 {
            c[i] = a[i].mul_add(b[i], c[i]);
        }
        c
    }
    #[inline(always)]
    unsafe fn add(mut a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        for i in 0..16 {
            a[i] += b[i];
        }
        a
    }
    #[inline(always)]
    unsafe fn sub(mut a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        for i in 0..16 {
            a[i] -= b[i];
        }
        a
    }
    #[inline(always)]
    unsafe fn div(mut a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        for i in 0..16 {
            a[i] /= b[i];
        }
        a
    }
    #[inline(always)]
    unsafe fn max(mut a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        for i in 0..16 {
            a[i] = if a[i] > b[i] { a[i] } else { b[i] };
        }
        a
    }
    #[inline(always)]
    unsafe fn min(mut a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        for i in 0..16 {
            a[i] = if a[i] < b[i] { a[i] } else { b[i] };
        }
        a
    }
    #[inline(always)]
    unsafe fn round(mut a: [f32; 16]) -> [f32; 16] {
        for i in 0..16 {
            a[i] = a[i].round_ties_even();
        }
        a
    }
    #[inline(always)]
    unsafe fn power(mut a: [f32; 16]) -> [f32; 16] {
        for i in 0..16 {
            a[i] = f32::from_bits(((a[i] as i32 + 127) << 23) as u32);
        }
        a
    }
    #[inline(always)]
    unsafe fn store(v: [f32; 16], to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; 16]>().write_unaligned(v) }
    }
}
