//! AVX-512 with VNNI, and AVX2 with and without VNNI, as providers of [`Simd`].
#![allow(clippy::needless_range_loop, reason = "kernels are loops over fixed arrays, by index")]

use super::pack::BLOCK;
use super::simd::Simd;
use std::arch::x86_64::*;

/// AVX-512 F, BW, VL and VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512;

/// The sum of eight integers.
///
/// # Safety
/// AVX2 runs here.
#[inline(always)]
unsafe fn folded(v: __m256i) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
        let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b01_00_11_10>(v));
        _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32::<0b10_11_00_01>(v)))
    }
}

// SAFETY (all methods): the trait's contract; each is one or a few instructions of the row's set.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx512 {
    type Bytes = __m512i;
    type Ints = __m512i;
    type Floats = __m512;

    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m512i {
        unsafe { _mm512_load_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch(line: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
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
    unsafe fn dot<const BITS: u8>(sum: __m512i, w: __m512i, x: *const i8) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(x.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn plus(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn ints(from: *const i32) -> __m512i {
        unsafe { _mm512_set1_epi32(*from) }
    }
    #[inline(always)]
    unsafe fn minus(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_sub_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn scaled(sum: __m512i, by: u32) -> __m512i {
        // `by` is a constant once this is inlined, and so is the shift.
        unsafe { _mm512_sll_epi32(sum, _mm_cvtsi32_si128(by as i32)) }
    }
    #[inline(always)]
    unsafe fn to_floats(sum: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(sum) }
    }
    #[inline(always)]
    unsafe fn split([a, b]: [__m512; 2], to: *mut i8) -> [i32; 2] {
        unsafe {
            let narrow = |v| _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(v));
            let ints = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(narrow(a)), narrow(b));
            let high = _mm512_srai_epi16::<8>(_mm512_add_epi16(ints, _mm512_set1_epi16(128)));
            _mm256_storeu_si256(to.cast(), _mm512_cvtepi16_epi8(high));
            // The low byte, signed, is just what is left of the integer's 16 bits.
            _mm256_storeu_si256(to.add(BLOCK).cast(), _mm512_cvtepi16_epi8(ints));
            let sums = _mm512_madd_epi16(ints, _mm512_set1_epi16(1));
            let sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32::<0b01_00_11_10>(sums));
            let sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32::<0b10_11_00_01>(sums));
            let sums = _mm512_add_epi32(sums, _mm512_shuffle_i32x4::<0b10_11_00_01>(sums, sums));
            [_mm512_cvtsi512_si32(sums), _mm_cvtsi128_si32(_mm512_extracti32x4_epi32::<2>(sums))]
        }
    }
    #[inline(always)]
    unsafe fn bytes([a, b]: [__m512; 2], to: *mut i8) -> i32 {
        unsafe {
            let low = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a));
            let high = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(b));
            let all = _mm256_set_m128i(high, low);
            _mm256_storeu_si256(to.cast(), all);
            let sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), all);
            folded(sums)
        }
    }
    #[inline(always)]
    unsafe fn transposed(v: [__m512; 16]) -> [__m512; 16] {
        unsafe {
            let (mut pairs, mut fours, mut out) = (v, v, v);
            for i in 0..8 {
                pairs[2 * i] = _mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]);
                pairs[2 * i + 1] = _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]);
            }
            // Quarter `q` of vector `4i + k` of these has column `4q + k` of rows `4i..4i + 4`.
            for i in 0..4 {
                for k in 0..2 {
                    let a = _mm512_castps_pd(pairs[4 * i + k]);
                    let b = _mm512_castps_pd(pairs[4 * i + k + 2]);
                    fours[4 * i + 2 * k] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                    fours[4 * i + 2 * k + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                }
            }
            for k in 0..4 {
                let [a, b, c, d] = [fours[k], fours[4 + k], fours[8 + k], fours[12 + k]];
                let even = [_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d)];
                let odd = [_mm512_shuffle_f32x4::<0xDD>(a, b), _mm512_shuffle_f32x4::<0xDD>(c, d)];
                out[k] = _mm512_shuffle_f32x4::<0x88>(even[0], even[1]);
                out[4 + k] = _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]);
                out[8 + k] = _mm512_shuffle_f32x4::<0xDD>(even[0], even[1]);
                out[12 + k] = _mm512_shuffle_f32x4::<0xDD>(odd[0], odd[1]);
            }
            out
        }
    }
    #[inline(always)]
    unsafe fn largest(v: __m512) -> f32 {
        unsafe { _mm512_reduce_max_ps(v) }
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
    unsafe fn load_i8(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
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
    #[inline(always)]
    unsafe fn store_f16(v: __m512, to: *mut u16) {
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<0>(v)) }
    }
}

/// How 256-bit vectors multiply bytes.
///
/// # Safety
/// As for [`Simd`].
pub(crate) trait Bytes256: Copy {
    /// Whether [`Bytes256::dpbusd`] is one instruction; else products are summed in 16 bits.
    const DPBUSD: bool;
    /// `sum + Σ w·x` over each lane's four bytes, `w` unsigned.
    unsafe fn dpbusd(sum: __m256i, w: __m256i, x: __m256i) -> __m256i;
}

/// AVX2's pairs of byte products in 16 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pairs;

impl Bytes256 for Pairs {
    const DPBUSD: bool = false;
    /// For weights of any 8 bits, which are widened first.
    #[inline(always)]
    unsafe fn dpbusd(sum: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe {
            let even_w = _mm256_and_si256(w, _mm256_set1_epi16(255));
            let even_x = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
            let even = _mm256_madd_epi16(even_w, even_x);
            let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(w), _mm256_srai_epi16::<8>(x));
            _mm256_add_epi32(sum, _mm256_add_epi32(even, odd))
        }
    }
}

/// AVX-VNNI: `vpdpbusd` in its older encoding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vnni;

impl Bytes256 for Vnni {
    const DPBUSD: bool = true;
    #[inline(always)]
    unsafe fn dpbusd(sum: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_dpbusd_avx_epi32(sum, w, x) }
    }
}

/// The same in AVX-512's encoding, for processors that have vectors of 512 bits turned off, and so
/// that what is built on it runs on more machines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vnni512;

impl Bytes256 for Vnni512 {
    const DPBUSD: bool = true;
    #[inline(always)]
    unsafe fn dpbusd(sum: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_dpbusd_epi32(sum, w, x) }
    }
}

/// AVX2 with FMA and F16C: two registers a vector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2<B>(std::marker::PhantomData<B>);

/// The first `count` of `v` times four `x` each, in sums of 16 bits that are widened when so many
/// were added.
#[inline(always)]
unsafe fn narrow<const BITS: u8>(
    v: &[[__m256i; 2]; 8],
    count: usize,
    x: *const i8,
) -> [__m256i; 2] {
    // Each of two products is below 2^BITS · 128.
    let most = (1 << (7 - BITS.min(7))) as usize;
    // SAFETY: the caller's promise.
    unsafe {
        let one = _mm256_set1_epi16(1);
        let mut wide = [_mm256_setzero_si256(); 2];
        for from in (0..count).step_by(most) {
            let mut pairs = [_mm256_setzero_si256(); 2];
            for g in from..count.min(from + most) {
                let x = _mm256_set1_epi32(x.add(4 * g).cast::<i32>().read_unaligned());
                for i in 0..2 {
                    pairs[i] = _mm256_add_epi16(pairs[i], _mm256_maddubs_epi16(v[g][i], x));
                }
            }
            for i in 0..2 {
                wide[i] = _mm256_add_epi32(wide[i], _mm256_madd_epi16(pairs[i], one));
            }
        }
        wide
    }
}

// SAFETY (all methods): as for [`Avx512`].
#[allow(clippy::undocumented_unsafe_blocks)]
impl<B: Bytes256> Simd for Avx2<B> {
    type Bytes = [__m256i; 2];
    type Ints = [__m256i; 2];
    type Floats = [__m256; 2];

    const ROWS: usize = 2;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> [__m256i; 2] {
        unsafe { [_mm256_load_si256(from.cast()), _mm256_load_si256(from.add(32).cast())] }
    }
    #[inline(always)]
    unsafe fn prefetch(line: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
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
    #[inline(always)]
    unsafe fn dot<const BITS: u8>(
        sum: [__m256i; 2],
        w: [__m256i; 2],
        x: *const i8,
    ) -> [__m256i; 2] {
        unsafe {
            let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            [B::dpbusd(sum[0], w[0], x), B::dpbusd(sum[1], w[1], x)]
        }
    }
    /// 16 registers hold no more than the sums of one row beside some weights.
    #[inline(always)]
    unsafe fn sums<const BITS: u8, const R: usize>(
        v: &[[__m256i; 2]; 8],
        count: usize,
        x: *const i8,
    ) -> [[__m256i; 2]; R] {
        unsafe {
            let mut sums = [Self::none(); R];
            for r in 0..R {
                let x = x.add(64 * r);
                let (mut high, mut low) = (Self::none(), Self::none());
                if BITS < 8 && !B::DPBUSD {
                    high = narrow::<BITS>(v, count, x);
                    low = narrow::<BITS>(v, count, x.add(BLOCK));
                } else {
                    for g in 0..count {
                        high = Self::dot::<BITS>(high, v[g], x.add(4 * g));
                        low = Self::dot::<BITS>(low, v[g], x.add(BLOCK + 4 * g));
                    }
                }
                sums[r] = Self::plus(Self::scaled(high, 8), low);
            }
            sums
        }
    }
    #[inline(always)]
    unsafe fn plus(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        unsafe { [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn ints(from: *const i32) -> [__m256i; 2] {
        unsafe { [_mm256_set1_epi32(*from); 2] }
    }
    #[inline(always)]
    unsafe fn minus(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        unsafe { [_mm256_sub_epi32(a[0], b[0]), _mm256_sub_epi32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn scaled(sum: [__m256i; 2], by: u32) -> [__m256i; 2] {
        unsafe {
            let by = _mm_cvtsi32_si128(by as i32);
            [_mm256_sll_epi32(sum[0], by), _mm256_sll_epi32(sum[1], by)]
        }
    }
    #[inline(always)]
    unsafe fn to_floats(sum: [__m256i; 2]) -> [__m256; 2] {
        unsafe { [_mm256_cvtepi32_ps(sum[0]), _mm256_cvtepi32_ps(sum[1])] }
    }
    #[inline(always)]
    unsafe fn split(v: [[__m256; 2]; 2], to: *mut i8) -> [i32; 2] {
        unsafe {
            // Packing goes by halves of a register; this puts their quarters in order again.
            let ordered = |v| _mm256_permute4x64_epi64::<0b11_01_10_00>(v);
            let ints = v.map(|[a, b]| {
                ordered(_mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b)))
            });
            let high =
                ints.map(|v| _mm256_srai_epi16::<8>(_mm256_add_epi16(v, _mm256_set1_epi16(128))));
            let low = ints.map(|v| _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(v)));
            let bytes = |[a, b]: [__m256i; 2]| ordered(_mm256_packs_epi16(a, b));
            _mm256_storeu_si256(to.cast(), bytes(high));
            _mm256_storeu_si256(to.add(BLOCK).cast(), bytes(low));
            ints.map(|v| folded(_mm256_madd_epi16(v, _mm256_set1_epi16(1))))
        }
    }
    #[inline(always)]
    unsafe fn bytes(v: [[__m256; 2]; 2], to: *mut i8) -> i32 {
        unsafe {
            let ordered = |v| _mm256_permute4x64_epi64::<0b11_01_10_00>(v);
            let [a, b] = v.map(|[a, b]| {
                ordered(_mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b)))
            });
            _mm256_storeu_si256(to.cast(), ordered(_mm256_packs_epi16(a, b)));
            folded(_mm256_madd_epi16(_mm256_add_epi16(a, b), _mm256_set1_epi16(1)))
        }
    }
    #[inline(always)]
    unsafe fn largest([a, b]: [__m256; 2]) -> f32 {
        unsafe {
            let v = _mm256_max_ps(a, b);
            let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)))
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
    unsafe fn load_i8(from: *const u8) -> [__m256; 2] {
        unsafe {
            let one = |from: *const u8| {
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())))
            };
            [one(from), one(from.add(8))]
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
    #[inline(always)]
    unsafe fn store_f16(v: [__m256; 2], to: *mut u16) {
        unsafe {
            _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<0>(v[0]));
            _mm_storeu_si128(to.add(8).cast(), _mm256_cvtps_ph::<0>(v[1]));
        }
    }
}
