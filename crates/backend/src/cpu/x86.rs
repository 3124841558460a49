//! AVX-512 with VNNI and AVX2, as providers of [`Simd`].

use super::simd::Simd;
use std::arch::x86_64::*;

/// AVX-512 F, BW, VL and VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512;

// SAFETY (all methods): the trait's contract; each is one or a few instructions of the row's set.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx512 {
    type Bytes = __m512i;
    type Ints = __m512i;
    type Floats = __m512;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m512i {
        unsafe { _mm512_load_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn nibble<const HIGH: bool>(v: __m512i) -> __m512i {
        unsafe {
            let v = if HIGH { _mm512_srli_epi16::<4>(v) } else { v };
            _mm512_and_si512(v, _mm512_set1_epi8(15))
        }
    }
    #[inline(always)]
    unsafe fn above(low: __m512i, plane: __m512i, from: u32, mask: u8) -> __m512i {
        // `from` is a constant once the loop over column groups is unrolled, and so is the shift.
        unsafe {
            let moved = if from <= 4 {
                _mm512_sll_epi16(plane, _mm_cvtsi32_si128(4 - from as i32))
            } else {
                _mm512_srl_epi16(plane, _mm_cvtsi32_si128(from as i32 - 4))
            };
            // low | (moved & mask)
            _mm512_ternarylogic_epi32::<0xF8>(low, moved, _mm512_set1_epi8(mask as i8))
        }
    }
    #[inline(always)]
    unsafe fn zero() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn none() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn dot<const SMALL: bool>(sum: __m512i, w: __m512i, x: *const i8) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(x.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn plus(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn shift(sum: __m512i) -> __m512i {
        unsafe { _mm512_slli_epi32::<8>(sum) }
    }
    #[inline(always)]
    unsafe fn to_floats(sum: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(sum) }
    }
    #[inline(always)]
    unsafe fn split(v: __m512, to: *mut i8) -> i32 {
        unsafe {
            let ints = _mm512_cvtps_epi32(v);
            let high = _mm512_srai_epi32::<8>(_mm512_add_epi32(ints, _mm512_set1_epi32(128)));
            let low = _mm512_sub_epi32(ints, _mm512_slli_epi32::<8>(high));
            _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(high));
            _mm_storeu_si128(to.add(super::pack::BLOCK).cast(), _mm512_cvtepi32_epi8(low));
            _mm512_reduce_add_epi32(ints)
        }
    }
    #[inline(always)]
    unsafe fn abs(v: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(v) }
    }
    #[inline(always)]
    unsafe fn floats(value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load_f32(from: *const u8) -> __m512 {
        unsafe { _mm512_loadu_ps(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> __m512 {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn round(v: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<8>(v) }
    }
    #[inline(always)]
    unsafe fn power(n: __m512) -> __m512 {
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    unsafe fn store(v: __m512, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, v) }
    }
}

/// AVX2 with FMA and F16C: two registers a vector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2;

// SAFETY (all methods): as for [`Avx512`].
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx2 {
    type Bytes = [__m256i; 2];
    type Ints = [__m256i; 2];
    type Floats = [__m256; 2];

    #[inline(always)]
    unsafe fn load(from: *const u8) -> [__m256i; 2] {
        unsafe { [_mm256_load_si256(from.cast()), _mm256_load_si256(from.add(32).cast())] }
    }
    #[inline(always)]
    unsafe fn nibble<const HIGH: bool>([a, b]: [__m256i; 2]) -> [__m256i; 2] {
        unsafe {
            let [a, b] =
                if HIGH { [_mm256_srli_epi16::<4>(a), _mm256_srli_epi16::<4>(b)] } else { [a, b] };
            let mask = _mm256_set1_epi8(15);
            [_mm256_and_si256(a, mask), _mm256_and_si256(b, mask)]
        }
    }
    #[inline(always)]
    unsafe fn above(low: [__m256i; 2], plane: [__m256i; 2], from: u32, mask: u8) -> [__m256i; 2] {
        unsafe {
            let mask = _mm256_set1_epi8(mask as i8);
            let one = |low, plane| {
                let moved = if from <= 4 {
                    _mm256_sll_epi16(plane, _mm_cvtsi32_si128(4 - from as i32))
                } else {
                    _mm256_srl_epi16(plane, _mm_cvtsi32_si128(from as i32 - 4))
                };
                _mm256_or_si256(low, _mm256_and_si256(moved, mask))
            };
            [one(low[0], plane[0]), one(low[1], plane[1])]
        }
    }
    #[inline(always)]
    unsafe fn zero() -> [__m256i; 2] {
        unsafe { [_mm256_setzero_si256(); 2] }
    }
    #[inline(always)]
    unsafe fn none() -> [__m256i; 2] {
        unsafe { [_mm256_setzero_si256(); 2] }
    }
    /// Byte products are summed in pairs to 16 bits: below 64 · 128 · 2 they fit. Larger weights
    /// are widened first.
    #[inline(always)]
    unsafe fn dot<const SMALL: bool>(
        sum: [__m256i; 2],
        w: [__m256i; 2],
        x: *const i8,
    ) -> [__m256i; 2] {
        unsafe {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            let one = |sum, w| {
                if SMALL {
                    let pairs = _mm256_maddubs_epi16(w, x);
                    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
                }
                let even_w = _mm256_and_si256(w, _mm256_set1_epi16(255));
                let even_x = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
                let even = _mm256_madd_epi16(even_w, even_x);
                let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(w), _mm256_srai_epi16::<8>(x));
                _mm256_add_epi32(sum, _mm256_add_epi32(even, odd))
            };
            [one(sum[0], w[0]), one(sum[1], w[1])]
        }
    }
    #[inline(always)]
    unsafe fn plus(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        unsafe { [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn shift(sum: [__m256i; 2]) -> [__m256i; 2] {
        unsafe { [_mm256_slli_epi32::<8>(sum[0]), _mm256_slli_epi32::<8>(sum[1])] }
    }
    #[inline(always)]
    unsafe fn to_floats(sum: [__m256i; 2]) -> [__m256; 2] {
        unsafe { [_mm256_cvtepi32_ps(sum[0]), _mm256_cvtepi32_ps(sum[1])] }
    }
    #[inline(always)]
    unsafe fn split(v: [__m256; 2], to: *mut i8) -> i32 {
        unsafe {
            let mut ints = [0i32; 16];
            _mm256_storeu_si256(ints.as_mut_ptr().cast(), _mm256_cvtps_epi32(v[0]));
            _mm256_storeu_si256(ints.as_mut_ptr().add(8).cast(), _mm256_cvtps_epi32(v[1]));
            let mut sum = 0;
            for (i, int) in ints.into_iter().enumerate() {
                let high = int.wrapping_add(128) >> 8;
                *to.add(i) = high as i8;
                *to.add(super::pack::BLOCK + i) = int.wrapping_sub(high << 8) as i8;
                sum = i32::wrapping_add(sum, int);
            }
            sum
        }
    }
    #[inline(always)]
    unsafe fn abs(v: [__m256; 2]) -> [__m256; 2] {
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, v[0]), _mm256_andnot_ps(sign, v[1])]
        }
    }
    #[inline(always)]
    unsafe fn floats(value: f32) -> [__m256; 2] {
        unsafe { [_mm256_set1_ps(value); 2] }
    }
    #[inline(always)]
    unsafe fn load_f32(from: *const u8) -> [__m256; 2] {
        unsafe { [_mm256_loadu_ps(from.cast()), _mm256_loadu_ps(from.add(32).cast())] }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> [__m256; 2] {
        unsafe {
            [
                _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(16).cast())),
            ]
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> [__m256; 2] {
        unsafe {
            let one = |half| {
                let wide = _mm256_cvtepu16_epi32(half);
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            };
            [one(_mm_loadu_si128(from.cast())), one(_mm_loadu_si128(from.add(16).cast()))]
        }
    }
    #[inline(always)]
    unsafe fn mul(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn fma(a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    unsafe fn add(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn sub(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn div(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn max(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn min(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn round(v: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_round_ps::<8>(v[0]), _mm256_round_ps::<8>(v[1])] }
    }
    #[inline(always)]
    unsafe fn power(n: [__m256; 2]) -> [__m256; 2] {
        unsafe {
            let bias = _mm256_set1_epi32(127);
            let a = _mm256_add_epi32(_mm256_cvtps_epi32(n[0]), bias);
            let b = _mm256_add_epi32(_mm256_cvtps_epi32(n[1]), bias);
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(a)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(b)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store(v: [__m256; 2], to: *mut f32) {
        unsafe {
            _mm256_storeu_ps(to, v[0]);
            _mm256_storeu_ps(to.add(8), v[1]);
        }
    }
}
