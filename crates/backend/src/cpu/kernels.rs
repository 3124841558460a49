//! Instruction sets as rows of a table, best first. A row is the bodies compiled under its target
//! features; the reference row is another way to compute the same, plain and slow. Which weight
//! layouts exist is one more table, in `layouts!`: the combinations that formats ask for.

use super::acts::{Part, Place};
#[cfg(target_arch = "aarch64")]
use super::arm::{Dotprod, I8mm, Neon};
use super::attend::{self, Keys, Query};
use super::body::{self, Target};
use super::narrow::{self, Narrow};
use super::pack::{Lanes, Layout, Packed, plane_offset};
use super::paged::{Piece, Side};
use super::prepare::{self, Source};
use super::product;
use super::reference;
use super::scales::{Brains, Halves, Ints};
use super::simd::{Portable, Simd};
use super::stored;
use super::whole::{self, Seer, Sequence};
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512, Pairs, Vnni, Vnni512};
use crate::formats::Scales;
use crate::{Activation, KvType};

/// 16 rows of weights times some rows of activations; see [`Kernels::product`].
type Product = unsafe fn(&Packed, usize, &Part, &mut [Lanes]);
type Quantise = unsafe fn(&Source, Place);
type HandOver = unsafe fn(&[Lanes], &Target);
type Low = unsafe fn(&Narrow);
type Gate = unsafe fn(Activation, &[f32], Option<&[f32]>, &mut [f32]);
type Norm = unsafe fn(*const f32, &[f32], f32, *mut f32, bool);
type LayerNorm = unsafe fn(*const f32, &[f32], Option<&[f32]>, f32, *mut f32);
type Cap = unsafe fn(f32, &mut [f32]);
type Keep = unsafe fn(Piece, Side, usize, &[f32], *mut u8);
type AttendWhole = unsafe fn(&Sequence, &[Seer], &mut [Lanes]);
type AttendRows = unsafe fn(&Keys<'_>, &[Query], usize, &mut [f32]);

/// Query rows that one attention tile takes at most.
pub const TILE: usize = 8;

/// One row of the table. Its functions may be called only where [`Kernels::runs_here`].
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    /// What `--kernels` calls it.
    pub name: &'static str,
    /// How it keeps keys and values unless told otherwise: the reference as they are.
    pub kv: KvType,
    runs: fn() -> bool,
    /// `Some` for rows that take packed weights; the reference reads the file's own blocks.
    pub(crate) product: Option<Product>,
    /// Of rows whose products read integers.
    pub(crate) quantise: Quantise,
    pub(crate) hand_over: HandOver,
    pub(crate) narrow: Low,
    pub(crate) gate: Gate,
    pub(crate) norm: Norm,
    pub(crate) layer_norm: LayerNorm,
    pub(crate) cap: Cap,
    pub(crate) keep: Keep,
    pub(crate) attend: AttendRows,
    /// Over sequences that are one span, with [`whole::room`].
    pub(crate) attend_whole: AttendWhole,
}

/// Calls the tile for a layout; one line a combination of bits, offset, minima, halves, scales.
macro_rules! layouts {
    (
        $S:ident, $w:expr, $at:expr, $x:expr, $y:expr;
        $($bits:literal $offset:literal $mins:literal $halves:literal $scales:ident $kind:ident),*
        $(,)?
    ) => {
        match $w.layout {
            Layout::Float => product::floats::<$S>($w, $at, $x, $y),
            Layout::Grid { grid, group } => match (
                grid.bits, plane_offset(grid), grid.mins, 32 / group, grid.scales,
            ) {
                $(($bits, $offset, $mins, $halves, Scales::$scales) => product::tile::<
                    $S, $kind, $bits, $offset, $mins, $halves,
                >($w, $at, $x, $y),)*
                other => unreachable!("no kernel for layout {other:?}; this is a bug"),
            },
        }
    };
}

/// # Safety
/// The provider's instructions run here; `x` has the matrix's columns and as many rows as `y`.
#[inline(always)]
unsafe fn product<S: Simd>(w: &Packed, at: usize, x: &Part, y: &mut [Lanes]) {
    // SAFETY: the caller's promise.
    unsafe {
        if x.high {
            return product::bytes::<S>(w, at, x, y);
        }
        layouts!(S, w, at, x, y;
            4 8 false 1 F16 Halves,    // Q4_0
            4 0 true 1 F16 Halves,     // Q4_1
            5 16 false 1 F16 Halves,   // Q5_0
            5 0 true 1 F16 Halves,     // Q5_1
            8 128 false 1 F16 Halves,  // Q8_0, IQ4_NL
            4 0 true 2 Nested Ints,    // Q2_K
            4 8 false 2 Nested Ints,   // Q3_K
            4 0 true 1 Nested Ints,    // Q4_K
            5 0 true 1 Nested Ints,    // Q5_K
            6 32 false 2 Nested Ints,  // Q6_K
            8 128 false 1 Nested Ints, // IQ4_XS
            5 16 false 1 BF16 Brains,  // MXFP4
        );
    }
}

/// Whether this machine has a feature of its architecture.
macro_rules! detected {
    ($feature:tt) => {{
        #[cfg(target_arch = "x86_64")]
        let has = std::arch::is_x86_feature_detected!($feature);
        #[cfg(target_arch = "aarch64")]
        let has = std::arch::is_aarch64_feature_detected!($feature);
        has
    }};
}

macro_rules! row {
    ($name:literal, $module:ident, $simd:ty $(, $feature:tt)*) => {{
        mod $module {
            use super::*;
            $(#[target_feature(enable = $feature)])*
            pub(super) unsafe fn product(w: &Packed, at: usize, x: &Part, y: &mut [Lanes]) {
                // SAFETY: the caller runs on a machine with these features.
                unsafe { super::product::<$simd>(w, at, x, y) }
            }
            $(#[target_feature(enable = $feature)])*
            pub(super) unsafe fn quantise(from: &Source, to: Place) {
                // SAFETY: the caller's promise.
                unsafe { prepare::quantise::<$simd>(from, to) }
            }
            $(#[target_feature(enable = $feature)])*
            pub(super) unsafe fn hand_over(tiles: &[Lanes], to: &Target) {
                // SAFETY: the caller's promise.
                unsafe { body::hand_over::<$simd>(tiles, to) }
            }
            $(#[target_feature(enable = $feature)])*
            pub(super) unsafe fn narrow(of: &Narrow) {
                // SAFETY: the caller's promise.
                unsafe { narrow::narrow::<$simd>(of) }
            }
            $(#[target_feature(enable = $feature)])*
            pub(super) unsafe fn gate(
                act: Activation, gate: &[f32], up: Option<&[f32]>, y: &mut [f32],
            ) {
                // SAFETY: the caller's promise.
                unsafe { body::gate::<$simd>(act, gate, up, y) }
            }
            $(#[target_feature(enable = $feature)])*
            pub(super) unsafe fn norm(
                x: *const f32, gain: &[f32], eps: f32, y: *mut f32, add: bool,
            ) {
                // SAFETY: the caller's promise.
                unsafe { body::norm::<$simd>(x, gain, eps, y, add) }
            }
            $(#[target_feature(enable = $feature)])*
            pub(super) unsafe fn layer_norm(
                x: *const f32, gain: &[f32], bias: Option<&[f32]>, eps: f32, y: *mut f32,
            ) {
                // SAFETY: the caller's promise.
                unsafe { body::layer_norm::<$simd>(x, gain, bias, eps, y) }
            }
            $(#[target_feature(enable = $feature)])*
            pub(super) unsafe fn cap(cap: f32, y: &mut [f32]) {
                // SAFETY: the caller's promise.
                unsafe { body::cap::<$simd>(cap, y) }
            }
            $(#[target_feature(enable = $feature)])*
            pub(super) unsafe fn keep(
                piece: Piece, side: Side, slot: usize, x: &[f32], to: *mut u8,
            ) {
                // SAFETY: the caller's promise.
                unsafe { stored::keep::<$simd>(piece, side, slot, x, to) }
            }
            $(#[target_feature(enable = $feature)])*
            pub(super) unsafe fn attend(
                kv: &Keys<'_>, rows: &[Query], segment: usize, partial: &mut [f32],
            ) {
                // SAFETY: the caller's promise.
                unsafe { attend::rows::<$simd>(kv, rows, segment, partial) }
            }
            $(#[target_feature(enable = $feature)])*
            pub(super) unsafe fn attend_whole(of: &Sequence, rows: &[Seer], room: &mut [Lanes]) {
                // SAFETY: the caller's promise.
                unsafe { whole::rows::<$simd>(of, rows, room) }
            }
        }
        Kernels {
            name: $name,
            kv: KvType::F16,
            #[allow(clippy::redundant_closure_call, reason = "one macro for every row")]
            runs: || true $(&& detected!($feature))*,
            product: Some($module::product),
            quantise: $module::quantise,
            hand_over: $module::hand_over,
            narrow: $module::narrow,
            gate: $module::gate,
            norm: $module::norm,
            layer_norm: $module::layer_norm,
            cap: $module::cap,
            keep: $module::keep,
            attend: $module::attend,
            attend_whole: $module::attend_whole,
        }
    }};
}

/// Every row, best first; the last two run everywhere. On ARM the portable row is compiled to
/// NEON without dot products, which every such machine has.
pub static KERNELS: &[Kernels] = &[
    #[cfg(target_arch = "x86_64")]
    row!(
        "avx512",
        avx512,
        Avx512,
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512dq",
        "avx512vnni",
        "avx2",
        "fma",
        "f16c"
    ),
    #[cfg(target_arch = "x86_64")]
    row!("avxvnni", avxvnni, Avx2<Vnni>, "avxvnni", "avx2", "fma", "f16c"),
    #[cfg(target_arch = "x86_64")]
    row!("avx512-256", avx512_256, Avx2<Vnni512>, "avx512vl", "avx512vnni", "avx2", "fma", "f16c"),
    #[cfg(target_arch = "x86_64")]
    row!("avx2", avx2, Avx2<Pairs>, "avx2", "fma", "f16c"),
    #[cfg(target_arch = "aarch64")]
    row!("neon-i8mm", neon_i8mm, Neon<I8mm>, "neon", "i8mm"),
    #[cfg(target_arch = "aarch64")]
    row!("neon-dotprod", neon_dotprod, Neon<Dotprod>, "neon", "dotprod"),
    row!("portable", portable, Portable),
    reference::ROW,
];

impl Kernels {
    /// The row of the plain versions.
    pub(crate) const fn reference(
        (quantise, hand_over, narrow): (Quantise, HandOver, Low),
        (gate, norm, layer_norm, cap): (Gate, Norm, LayerNorm, Cap),
        (keep, attend, attend_whole): (Keep, AttendRows, AttendWhole),
    ) -> Self {
        Self {
            name: "reference",
            kv: KvType::F32,
            runs: || true,
            product: None,
            quantise,
            hand_over,
            narrow,
            gate,
            norm,
            layer_norm,
            cap,
            keep,
            attend,
            attend_whole,
        }
    }

    /// Whether this machine has the row's instructions.
    pub fn runs_here(&self) -> bool {
        (self.runs)()
    }

    /// The best row that runs here.
    pub fn best() -> &'static Self {
        KERNELS.iter().find(|row| row.runs_here()).expect("the portable row runs everywhere")
    }

    /// The row of that name, if it exists and runs here.
    pub fn named(name: &str) -> Option<&'static Self> {
        KERNELS.iter().find(|row| row.name == name && row.runs_here())
    }
}
