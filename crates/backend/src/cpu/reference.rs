//! Every op as plainly as it can be said, in f32 with f64 sums. This is what the other rows of the
//! kernel table, and other backends, are held to.

use super::acts::Place;
use super::attend::{Keys, Query, SEGMENT, partial_floats};
use super::body::{CLAMP, STEEPNESS, Target};
use super::kernels::Kernels;
use super::narrow::Narrow;
use super::pack::{LANES, Lanes};
use super::paged::{Piece, Side};
use super::prepare::Source;
use super::stored::{HALF_MAX, INT_MAX};
use super::whole::{Seer, Sequence};
use crate::{Activation, BLOCK_TOKENS, Bytes, Format, KV_GROUP, KvType, Mixing};

/// The reference's row of the kernel table.
pub(crate) const ROW: Kernels = Kernels::reference(
    (quantise, hand_over, narrow),
    (gate, norm, layer_norm, cap),
    (keep, attend, attend_whole),
);

/// The reference multiplies floats.
unsafe fn quantise(_: &Source, _: Place) {}

unsafe fn hand_over(tiles: &[Lanes], to: &Target) {
    for (row, at) in (0..to.rows).flat_map(|row| (0..to.cols).map(move |at| (row, at))) {
        let Lanes(tile) = &tiles[at / LANES * to.rows + row];
        // SAFETY: the caller's promise.
        unsafe {
            let bias = to.bias.map_or(0.0, |bias| *bias.add(at));
            let y = &mut *to.y.add(row * to.stride + at);
            *y = tile[at % LANES] + bias + if to.add { *y } else { 0.0 };
        }
    }
}

unsafe fn narrow(of: &Narrow) {
    for (row, lane) in (0..of.rows).flat_map(|row| (0..LANES).map(move |lane| (row, lane))) {
        // SAFETY: the caller's promise.
        unsafe {
            let term = |k: usize| {
                let m = *of.m.add(k * LANES + lane);
                f64::from(m) * f64::from(*of.x.add(row * of.x_stride + k))
            };
            let sum = (0..of.columns).map(term).sum::<f64>() * f64::from(of.scale);
            let y = &mut *of.y.add(row * of.y_stride + lane);
            *y = (sum + if of.add { f64::from(*y) } else { 0.0 }) as f32;
        }
    }
}

/// One row of weights times rows of activations: `y[t] = Σ w[col] · x[t][col]`.
pub(crate) fn product(w: &[f32], x: &[f32], y: &mut [f32]) {
    for (x, y) in x.chunks_exact(w.len()).zip(y) {
        let mut sums = [0.0f64; 8];
        for (col, (w, x)) in w.iter().zip(x).enumerate() {
            sums[col % 8] += f64::from(*w) * f64::from(*x);
        }
        *y = sums.iter().sum::<f64>() as f32;
    }
}

/// The experts of the largest logits, the likeliest first and the first of equal ones, then their
/// shares.
pub(crate) fn route(logits: &[f32], mixing: Mixing, routes: &mut [f32]) {
    let (chosen, shares) = routes.split_at_mut(routes.len() / 2);
    let before = |a: usize, b: usize| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)).is_lt();
    let mut last = None;
    for chosen in chosen.iter_mut() {
        let left = (0..logits.len()).filter(|&i| last.is_none_or(|last| before(last, i)));
        last = left.reduce(|best, i| if before(i, best) { i } else { best });
        *chosen = last.expect("no more are chosen than there are") as f32;
    }
    let of = |expert: &f32| f64::from(logits[*expert as usize]);
    let most = of(&chosen[0]);
    let sum: f64 = match mixing {
        Mixing::All => logits.iter().map(|l| (f64::from(*l) - most).exp()).sum(),
        Mixing::Chosen => chosen.iter().map(|expert| (of(expert) - most).exp()).sum(),
    };
    for (share, expert) in shares.iter_mut().zip(&*chosen) {
        *share = ((of(expert) - most).exp() / sum) as f32;
    }
}

/// One row of a stored matrix.
pub(crate) fn unpack_row(format: Format, bytes: &Bytes, row: usize, w: &mut [f32]) {
    let row_bytes = format.row_bytes(w.len()).expect("checked when the weight was taken");
    format.unpack(&bytes[row * row_bytes..][..row_bytes], w);
}

unsafe fn gate(act: Activation, gate: &[f32], up: Option<&[f32]>, y: &mut [f32]) {
    for (at, (g, y)) in gate.iter().zip(y).enumerate() {
        let (mut g, mut up) = (f64::from(*g), up.map_or(1.0, |up| f64::from(up[at])));
        if act == Activation::ClampedSwiglu {
            let limit = f64::from(CLAMP);
            (g, up) = (g.min(limit), up.clamp(-limit, limit) + 1.0);
        }
        let activated = match act {
            Activation::ClampedSwiglu => g / (1.0 + (-f64::from(STEEPNESS) * g).exp()),
            Activation::Silu => g / (1.0 + (-g).exp()),
            Activation::Gelu => 0.5 * g * (1.0 + erf(g / std::f64::consts::SQRT_2)),
            Activation::Relu => g.max(0.0),
            Activation::Tanh => g.tanh(),
            Activation::GeluTanh => {
                let root = (2.0 / std::f64::consts::PI).sqrt();
                0.5 * g * (1.0 + (root * (g + 0.044715 * g * g * g)).tanh())
            }
        };
        *y = (activated * up) as f32;
    }
}

/// The error function, by its Taylor series; beyond 5 it is 1 in 32 bits.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..120 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

unsafe fn layer_norm(x: *const f32, gain: &[f32], bias: Option<&[f32]>, eps: f32, y: *mut f32) {
    let n = gain.len();
    // SAFETY: the caller gives `n` floats; a copy, since `y` may be `x`.
    let x = unsafe { std::slice::from_raw_parts(x, n) }.to_vec();
    // SAFETY: as above.
    let y = unsafe { std::slice::from_raw_parts_mut(y, n) };
    let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
    let squares = x.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>();
    let scale = 1.0 / (squares / n as f64 + f64::from(eps)).sqrt();
    for (at, (x, y)) in x.iter().zip(y).enumerate() {
        let bias = bias.map_or(0.0, |bias| f64::from(bias[at]));
        *y = ((f64::from(*x) - mean) * scale * f64::from(gain[at]) + bias) as f32;
    }
}

unsafe fn norm(x: *const f32, gain: &[f32], eps: f32, y: *mut f32, add: bool) {
    // SAFETY: the caller gives `gain.len()` floats; a copy, since `y` may be `x`.
    let x = unsafe { std::slice::from_raw_parts(x, gain.len()) }.to_vec();
    // SAFETY: as above.
    let y = unsafe { std::slice::from_raw_parts_mut(y, gain.len()) };
    let mean = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / x.len() as f64;
    let scale = 1.0 / (mean + f64::from(eps)).sqrt();
    for ((x, gain), y) in x.iter().zip(gain).zip(y) {
        let normed = (f64::from(*x) * scale * f64::from(*gain)) as f32;
        *y = if add { *y + normed } else { normed };
    }
}

/// `cap · tanh(x / cap)`
fn capped(x: f64, cap: f32) -> f64 {
    f64::from(cap) * (x / f64::from(cap)).tanh()
}

unsafe fn cap(cap: f32, y: &mut [f32]) {
    y.iter_mut().for_each(|y| *y = capped(f64::from(*y), cap) as f32);
}

unsafe fn keep(piece: Piece, side: Side, slot: usize, x: &[f32], to: *mut u8) {
    for (group, x) in x.chunks(KV_GROUP).enumerate() {
        let most = x.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let scale = half::f16::from_f32((most / INT_MAX).min(HALF_MAX));
        for (d, v) in x.iter().enumerate() {
            let at = to.wrapping_add(piece.at(side, slot, group * KV_GROUP + d));
            // SAFETY: the caller gives a piece; this is a value's own place in it.
            unsafe {
                match piece.kv {
                    KvType::F32 => at.cast::<f32>().write_unaligned(*v),
                    KvType::F16 => {
                        let half = half::f16::from_f32(v.clamp(-HALF_MAX, HALF_MAX));
                        at.cast::<u16>().write_unaligned(half.to_bits());
                    }
                    KvType::Q8_0 => {
                        let scale = scale.to_f32();
                        let int = if scale > 0.0 { v * (1.0 / scale) } else { 0.0 };
                        let int = int.round_ties_even().clamp(-INT_MAX, INT_MAX);
                        at.cast::<i8>().write(int as i8);
                    }
                }
            }
        }
        if piece.kv == KvType::Q8_0 {
            let to = to.wrapping_add(piece.group(group) + 2 * slot);
            // SAFETY: the scale's own place in the piece.
            unsafe { to.cast::<u16>().write_unaligned(scale.to_bits()) };
        }
    }
}

/// One stored value.
///
/// # Safety
/// `from` is a piece, and the slot was stored.
unsafe fn kept(piece: Piece, side: Side, slot: usize, d: usize, from: *const u8) -> f64 {
    let half = |bits| f64::from(half::f16::from_bits(bits));
    let at = from.wrapping_add(piece.at(side, slot, d));
    // SAFETY: the caller's promise.
    unsafe {
        match piece.kv {
            KvType::F32 => f64::from(at.cast::<f32>().read_unaligned()),
            KvType::F16 => half(at.cast::<u16>().read_unaligned()),
            KvType::Q8_0 => {
                let scale = from.wrapping_add(piece.group(d / KV_GROUP) + 2 * slot);
                half(scale.cast::<u16>().read_unaligned()) * f64::from(at.cast::<i8>().read())
            }
        }
    }
}

unsafe fn attend(kv: &Keys<'_>, rows: &[Query], segment: usize, partial: &mut [f32]) {
    let dim = kv.piece.dim;
    for (row, partial) in rows.iter().zip(partial.chunks_exact_mut(partial_floats(dim))) {
        // SAFETY: every seen position was stored.
        let stored = |side, at: usize, d| unsafe {
            kept(kv.piece, side, at % BLOCK_TOKENS, d, kv.block(at / BLOCK_TOKENS, side))
        };
        let seen = row.from.max(segment * SEGMENT)..row.to.min((segment + 1) * SEGMENT);
        partial.fill(0.0);
        if seen.is_empty() {
            continue;
        }
        // SAFETY: a query has `dim` floats.
        let q: Vec<f64> = (0..dim).map(|d| f64::from(unsafe { *row.q.add(d) })).collect();
        let score = |at| {
            let products = (0..dim).map(|d| q[d] * stored(Side::Keys, at, d));
            let score = products.sum::<f64>() * f64::from(kv.scale);
            kv.softcap.map_or(score, |cap| capped(score, cap))
        };
        let scores: Vec<f64> = seen.clone().map(score).collect();
        let most = scores.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
        let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
        for (d, partial) in partial[..dim].iter_mut().enumerate() {
            let of = seen.clone().zip(&weights).map(|(at, w)| w * stored(Side::Values, at, d));
            *partial = of.sum::<f64>() as f32;
        }
        partial[dim] = most as f32;
        partial[dim + 1] = weights.iter().sum::<f64>() as f32;
    }
}

unsafe fn attend_whole(of: &Sequence, rows: &[Seer], _: &mut [Lanes]) {
    for row in rows {
        // SAFETY: the caller gives `dim` floats of each.
        let read = |from: *const f32, d| unsafe { f64::from(*from.add(d)) };
        let score = |at: usize| {
            let key = of.keys.wrapping_add(at * of.keys_stride);
            let products = (0..of.dim).map(|d| read(row.q, d) * read(key, d));
            let score = products.sum::<f64>() * f64::from(of.scale);
            of.softcap.map_or(score, |cap| capped(score, cap))
        };
        let scores: Vec<f64> = (row.from..row.to).map(score).collect();
        let sink = row.sink.map_or(f64::NEG_INFINITY, f64::from);
        let most = scores.iter().fold(sink, |a, b| a.max(*b));
        let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
        let total = weights.iter().sum::<f64>() + (sink - most).exp();
        for d in 0..of.dim {
            let value = |at: usize| read(of.values.wrapping_add(at * of.values_stride), d);
            let sum = (row.from..).zip(&weights).map(|(at, weight)| weight * value(at));
            // SAFETY: the row's own floats.
            unsafe { *row.y.add(d) = (sum.sum::<f64>() / total) as f32 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_experts_are_chosen() {
        let check = |logits: &[f32], mixing, expect: &[f32]| {
            let mut routes = vec![0.0; expect.len()];
            route(logits, mixing, &mut routes);
            let near = routes.iter().zip(expect).all(|(a, b)| (a - b).abs() < 1e-6);
            assert!(near, "{logits:?}: {routes:?}, not {expect:?}");
        };
        let ln = f32::ln;
        let logits = [ln(1.0), ln(4.0), ln(2.0), ln(3.0)];
        check(&logits, Mixing::All, &[1.0, 3.0, 0.4, 0.3]);
        check(&logits, Mixing::Chosen, &[1.0, 3.0, 4.0 / 7.0, 3.0 / 7.0]);
        check(&[5.0, 5.0, 5.0], Mixing::Chosen, &[0.0, 1.0, 0.5, 0.5]); // the first of equals
        check(&[-1e30, 1e30], Mixing::All, &[1.0, 0.0, 1.0, 0.0]); // all there are
        let mut routes = [0.0; 4];
        route(&[f32::NAN, f32::NEG_INFINITY, f32::NAN], Mixing::All, &mut routes);
        assert_eq!(routes[..2], [0.0, 2.0], "no numbers are chosen too, and spoil the shares");
    }
}
