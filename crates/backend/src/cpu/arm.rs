//! NEON with dot products, as a provider of [`Simd`]: four registers a vector. Two instruction sets
//! have them: ARMv8.4's of signed bytes, and i8mm's of unsigned with signed ones, which spares
//! weights of 8 bits a step.
//!
//! Absent: the matrix products of i8mm. They take 8 columns of 2 rows where the weights' layout has
//! 4 columns of 16 rows, so they would need a layout of their own.
#![allow(clippy::needless_range_loop, reason = "kernels are loops over fixed arrays, by index")]

use super::pack::BLOCK;
use super::simd::Simd;
use std::arch::aarch64::*;
use std::arch::asm;

/// Dot products of four bytes.
pub(crate) trait Dots: Copy {
    /// Whether both operands are signed. Weights of 8 bits are made so; smaller ones are both.
    const SIGNED: bool;
    /// `sum + Σ w·x` over each lane's four bytes.
    ///
    /// # Safety
    /// The processor has the row's instructions.
    unsafe fn dot(sum: int32x4_t, w: uint8x16_t, x: int32x4_t) -> int32x4_t;
}

/// NEON with one of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon<D>(std::marker::PhantomData<D>);

/// `sdot`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dotprod;

/// `usdot`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct I8mm;

/// An intrinsic on each of a vector's four registers.
macro_rules! each {
    ($of:expr; $a:ident) => {
        [$of($a[0]), $of($a[1]), $of($a[2]), $of($a[3])]
    };
    ($of:expr; $a:ident, $b:ident) => {
        [$of($a[0], $b[0]), $of($a[1], $b[1]), $of($a[2], $b[2]), $of($a[3], $b[3])]
    };
}

/// The compiler's own names for the instructions are not yet stable.
macro_rules! dots {
    ($set:ident, $signed:literal, $extension:literal, $instruction:literal) => {
        impl Dots for $set {
            const SIGNED: bool = $signed;
            #[inline(always)]
            unsafe fn dot(mut sum: int32x4_t, w: uint8x16_t, x: int32x4_t) -> int32x4_t {
                // SAFETY: the row's processors have the instruction; it touches registers alone.
                unsafe {
                    asm!(
                        concat!(".arch_extension ", $extension),
                        concat!($instruction, " {sum:v}.4s, {w:v}.16b, {x:v}.16b"),
                        sum = inout(vreg) sum,
                        w = in(vreg) w,
                        x = in(vreg) x,
                        options(pure, nomem, nostack, preserves_flags)
                    );
                }
                sum
            }
        }
    };
}

dots!(Dotprod, true, "dotprod", "sdot");
dots!(I8mm, false, "i8mm", "usdot");

/// Four halves as floats; stable only as an instruction too.
#[inline(always)]
unsafe fn widened(halves: uint16x4_t) -> float32x4_t {
    let floats;
    // SAFETY: NEON has the instruction; it touches registers alone.
    unsafe {
        asm!(
            "fcvtl {floats:v}.4s, {halves:v}.4h",
            floats = out(vreg) floats,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    floats
}

// SAFETY (all methods): the trait's contract; each is one or a few instructions of the row's set.
#[allow(clippy::undocumented_unsafe_blocks)]
impl<D: Dots> Simd for Neon<D> {
    type Bytes = [uint8x16_t; 4];
    type Ints = [int32x4_t; 4];
    type Floats = [float32x4_t; 4];

    const ROWS: usize = 2;
    const SIGNED: bool = D::SIGNED;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Bytes {
        unsafe {
            [vld1q_u8(from), vld1q_u8(from.add(16)), vld1q_u8(from.add(32)), vld1q_u8(from.add(48))]
        }
    }
    #[inline(always)]
    unsafe fn nibble<const HIGH: bool>(v: Self::Bytes) -> Self::Bytes {
        unsafe {
            let one = |v| if HIGH { vshrq_n_u8::<4>(v) } else { vandq_u8(v, vdupq_n_u8(15)) };
            each!(one; v)
        }
    }
    #[inline(always)]
    unsafe fn above(low: Self::Bytes, plane: Self::Bytes, from: u32, mask: u8) -> Self::Bytes {
        unsafe {
            let (by, mask) = (vdupq_n_s8(4 - from as i8), vdupq_n_u8(mask));
            let one = |low, plane| vorrq_u8(low, vandq_u8(vshlq_u8(plane, by), mask));
            each!(one; low, plane)
        }
    }
    #[inline(always)]
    unsafe fn zero() -> Self::Bytes {
        unsafe { [vdupq_n_u8(0); 4] }
    }
    #[inline(always)]
    unsafe fn none() -> Self::Ints {
        unsafe { [vdupq_n_s32(0); 4] }
    }
    #[inline(always)]
    unsafe fn dot<const BITS: u8>(sum: Self::Ints, w: Self::Bytes, x: *const i8) -> Self::Ints {
        unsafe {
            let x = vdupq_n_s32(x.cast::<i32>().read_unaligned());
            let one = |sum, w| {
                let flipped = D::SIGNED && BITS == 8;
                let w = if flipped { veorq_u8(w, vdupq_n_u8(0x80)) } else { w };
                D::dot(sum, w, x)
            };
            each!(one; sum, w)
        }
    }
    /// One row's sums are eight registers, and a block's weights thirty-two.
    #[inline(always)]
    unsafe fn sums<const BITS: u8, const R: usize>(
        v: &[Self::Bytes; 8],
        count: usize,
        x: *const i8,
    ) -> [Self::Ints; R] {
        unsafe {
            let mut sums = [Self::none(); R];
            for r in 0..R {
                let x = x.add(64 * r);
                let (mut high, mut low) = (Self::none(), Self::none());
                for g in 0..count {
                    high = Self::dot::<BITS>(high, v[g], x.add(4 * g));
                    low = Self::dot::<BITS>(low, v[g], x.add(BLOCK + 4 * g));
                }
                sums[r] = Self::plus(Self::scaled(high, 8), low);
            }
            sums
        }
    }
    #[inline(always)]
    unsafe fn ints(from: *const i32) -> Self::Ints {
        unsafe { [vld1q_dup_s32(from); 4] }
    }
    #[inline(always)]
    unsafe fn plus(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        unsafe { each!(vaddq_s32; a, b) }
    }
    #[inline(always)]
    unsafe fn minus(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        unsafe { each!(vsubq_s32; a, b) }
    }
    #[inline(always)]
    unsafe fn scaled(sum: Self::Ints, by: u32) -> Self::Ints {
        unsafe {
            let by = vdupq_n_s32(by as i32);
            let one = |sum| vshlq_s32(sum, by);
            each!(one; sum)
        }
    }
    #[inline(always)]
    unsafe fn to_floats(sum: Self::Ints) -> Self::Floats {
        unsafe { each!(vcvtq_f32_s32; sum) }
    }
    #[inline(always)]
    unsafe fn split(v: [Self::Floats; 2], to: *mut i8) -> [i32; 2] {
        unsafe {
            let mut sums = [0i32; 2];
            for (i, v) in v.into_iter().flatten().enumerate() {
                let ints = vcvtnq_s32_f32(v);
                let high = vshrq_n_s32::<8>(vaddq_s32(ints, vdupq_n_s32(128)));
                let low = vsubq_s32(ints, vshlq_n_s32::<8>(high));
                let (mut highs, mut lows) = ([0i32; 4], [0i32; 4]);
                vst1q_s32(highs.as_mut_ptr(), high);
                vst1q_s32(lows.as_mut_ptr(), low);
                for j in 0..4 {
                    *to.add(4 * i + j) = highs[j] as i8;
                    *to.add(BLOCK + 4 * i + j) = lows[j] as i8;
                }
                sums[i / 4] = i32::wrapping_add(sums[i / 4], vaddvq_s32(ints));
            }
            sums
        }
    }
    #[inline(always)]
    unsafe fn floats(value: f32) -> Self::Floats {
        unsafe { [vdupq_n_f32(value); 4] }
    }
    #[inline(always)]
    unsafe fn load_f32(from: *const u8) -> Self::Floats {
        unsafe {
            let from = from.cast::<f32>();
            [
                vld1q_f32(from),
                vld1q_f32(from.add(4)),
                vld1q_f32(from.add(8)),
                vld1q_f32(from.add(12)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self::Floats {
        unsafe {
            let from = from.cast::<u16>();
            [
                widened(vld1_u16(from)),
                widened(vld1_u16(from.add(4))),
                widened(vld1_u16(from.add(8))),
                widened(vld1_u16(from.add(12))),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Self::Floats {
        unsafe {
            let from = from.cast::<u16>();
            let one = |halves| vreinterpretq_f32_u32(vshll_n_u16::<16>(halves));
            [
                one(vld1_u16(from)),
                one(vld1_u16(from.add(4))),
                one(vld1_u16(from.add(8))),
                one(vld1_u16(from.add(12))),
            ]
        }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { each!(vmulq_f32; a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        unsafe {
            [
                vfmaq_f32(c[0], a[0], b[0]),
                vfmaq_f32(c[1], a[1], b[1]),
                vfmaq_f32(c[2], a[2], b[2]),
                vfmaq_f32(c[3], a[3], b[3]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { each!(vaddq_f32; a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { each!(vsubq_f32; a, b) }
    }
    #[inline(always)]
    unsafe fn abs(v: Self::Floats) -> Self::Floats {
        unsafe { each!(vabsq_f32; v) }
    }
    #[inline(always)]
    unsafe fn div(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { each!(vdivq_f32; a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe {
            let one = |a, b| vbslq_f32(vcgtq_f32(a, b), a, b);
            each!(one; a, b)
        }
    }
    #[inline(always)]
    unsafe fn min(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe {
            let one = |a, b| vbslq_f32(vcltq_f32(a, b), a, b);
            each!(one; a, b)
        }
    }
    #[inline(always)]
    unsafe fn round(v: Self::Floats) -> Self::Floats {
        unsafe { each!(vrndnq_f32; v) }
    }
    #[inline(always)]
    unsafe fn power(n: Self::Floats) -> Self::Floats {
        unsafe {
            let one = |n| {
                let exponent = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
                vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
            };
            each!(one; n)
        }
    }
    #[inline(always)]
    unsafe fn store(v: Self::Floats, to: *mut f32) {
        unsafe {
            for (i, v) in v.into_iter().enumerate() {
                vst1q_f32(to.add(4 * i), v);
            }
        }
    }
}
