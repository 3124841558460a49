//! A step's attention over the threads: its keys and values are stored, then tiles of query rows
//! are parts, or segments of tiles where there are few. Segments are merged in their order, so that
//! what comes out does not depend on which of the two it was. Where tokens see those behind them
//! their sequence is all here: nothing is stored, and tiles are all there is.

use super::{Range, Scratch, Step, row_parts};
use crate::cpu::Cpu;
use crate::cpu::attend::{Keys, Query, SEGMENT, merge, partial_floats, share};
use crate::cpu::kernels::TILE;
use crate::cpu::pack::{LANES, Lanes};
use crate::cpu::paged::{LayerCache, Side};
use crate::cpu::pool::Member;
use crate::cpu::whole::{self, Seer, Sequence};
use crate::{Attend, BLOCK_TOKENS, Batch, Buffer, Graph, Op, Rows};

/// As [`super::check`].
pub(super) fn check(cpu: &Cpu, a: &Attend) {
    let width = |b: Buffer| cpu.buffers[b.0 as usize].width;
    let cache = &cpu.caches[a.cache.0 as usize];
    assert_eq!((cache.heads, cache.piece.dim), (a.kv_heads, a.dim));
    assert_eq!((width(a.q), width(a.y)), (a.heads * a.dim, a.heads * a.dim));
    assert_eq!((width(a.k), width(a.v)), (a.kv_heads * a.dim, a.kv_heads * a.dim));
    assert!(a.heads.is_multiple_of(a.kv_heads) && a.window != Some(0));
    assert!(a.sinks.is_none_or(|sinks| cpu.weights[sinks.0 as usize].floats.len() == a.heads));
    assert!(a.softcap.is_none_or(|cap| cap.is_finite() && cap > 0.0));
    for b in [a.q, a.k, a.v, a.y] {
        assert_eq!(cpu.buffers[b.0 as usize].rows, Rows::Tokens);
    }
}

impl Step<'_> {
    /// As [`Step::last`].
    pub(super) fn last_of_attend(&self, a: &Attend, threads: usize) -> (usize, usize) {
        let tiles = self.attention_tiles(a);
        if !a.causal {
            return (0, tiles.len());
        }
        let halved = segments(tiles, a, threads).is_some();
        (if halved { 2 } else { 1 }, tiles.len())
    }

    pub(super) fn attend(&self, at: usize, a: &Attend, member: Member<'_>, scratch: &mut Scratch) {
        if !a.causal {
            return self.attend_around(at, a, member, &mut scratch.tile);
        }
        let rows = self.size(a.k);
        self.rows(at, rows, member, |row| self.store(a, row));
        self.settle_half(at, 0, row_parts(rows.0, rows.1).1, member);
        let tiles = self.attention_tiles(a);
        let segments = segments(tiles, a, member.threads());
        let Some(segments) = segments else {
            return self.parts(at, 1, tiles.len(), member, |part| {
                self.attend_whole(a, &tiles[part], &mut scratch.floats);
            });
        };
        let floats = a.tile_floats();
        let place = |part: usize| self.partials.0.wrapping_add(part * floats);
        self.parts(at, 1, segments.len(), member, |part| {
            let (tile, segment) = segments[part];
            // SAFETY: this part's own place; `Cpu::reserve` made room for every part.
            let partial =
                unsafe { std::slice::from_raw_parts_mut(place(part), tiles[tile].floats(a)) };
            self.attend_segment(a, &tiles[tile], segment, partial);
        });
        self.settle_half(at, 1, segments.len(), member);
        self.parts(at, 2, tiles.len(), member, |tile| {
            let mine = segments.iter().enumerate().filter(|(_, (of, _))| *of == tile);
            // SAFETY: all segments are done, and each is read by the one part that merges it.
            let partial = |part| unsafe {
                std::slice::from_raw_parts_mut(place(part), tiles[tile].floats(a))
            };
            let merged = mine.map(|(part, _)| partial(part)).reduce(|sum, later| {
                merge_rows(sum, later, a.dim);
                sum
            });
            self.attended(a, &tiles[tile], merged.unwrap_or_default());
        });
    }

    /// Attention over sequences that are a span each.
    fn attend_around(&self, at: usize, a: &Attend, member: Member<'_>, room: &mut Vec<Lanes>) {
        let tiles = self.attention_tiles(a);
        let vectors = whole::room(a.dim);
        room.resize(room.len().max(vectors), Lanes::default());
        let (k, v, cols) = (self.mem(a.k), self.mem(a.v), a.dim);
        self.parts(at, 0, tiles.len(), member, |part| {
            let tile = &tiles[part];
            let first = tile.rows.start - tile.start;
            let of = Sequence {
                keys: k.row(first).wrapping_add(tile.head * cols),
                keys_stride: k.stride,
                values: v.row(first).wrapping_add(tile.head * cols),
                values_stride: v.stride,
                dim: cols,
                scale: a.scale,
                softcap: a.softcap,
            };
            let seer = |(row, head): (usize, usize)| {
                let Range { start: from, end: to } = a.sees(row - first, tile.end);
                Seer {
                    q: self.mem(a.q).row(row).wrapping_add(head * cols),
                    y: self.mem(a.y).row(row).wrapping_add(head * cols),
                    from,
                    to,
                    sink: a.sinks.map(|sinks| self.weight(sinks).floats[head]),
                }
            };
            let rows: Vec<Seer> = tile.rows(a).map(seer).collect();
            // SAFETY: a span's rows are next to each other, and its keys and values of an earlier
            // stage; no other tile has these heads of these rows; the kernel row runs here.
            unsafe { (self.cpu.kernels.attend_whole)(&of, &rows, &mut room[..vectors]) };
        });
    }

    /// What an op is cut into.
    pub(super) fn attention_tiles(&self, a: &Attend) -> &[Tile] {
        let of = self.tiles.iter().find(|(kind, _)| *kind == (a.kv_heads, a.causal));
        &of.expect("tiles of every number of heads").1
    }

    /// A tile's attention, segment after segment.
    fn attend_whole(&self, a: &Attend, tile: &Tile, floats: &mut Vec<f32>) {
        let each = tile.floats(a);
        floats.resize(floats.len().max(2 * each), 0.0);
        let (sum, later) = floats[..2 * each].split_at_mut(each);
        for (i, segment) in tile.segments(a).enumerate() {
            if i == 0 {
                self.attend_segment(a, tile, segment, sum);
            } else {
                self.attend_segment(a, tile, segment, later);
                merge_rows(sum, later, a.dim);
            }
        }
        self.attended(a, tile, sum);
    }

    /// What one segment gives a tile's query heads.
    fn attend_segment(&self, a: &Attend, tile: &Tile, segment: usize, partial: &mut [f32]) {
        let (cache, first) = self.cache(a);
        let kv = Keys {
            first: first.wrapping_add(tile.head * 2 * cache.piece.bytes()),
            stride: cache.block_bytes(),
            blocks: &self.batch.spans[tile.span].blocks,
            piece: cache.piece,
            scale: a.scale,
            softcap: a.softcap,
        };
        let query = |(row, head): (usize, usize)| {
            let Range { start: from, end: to } = a.sees(self.places[row].1, tile.end);
            Query { q: self.mem(a.q).row(row).wrapping_add(head * a.dim), from, to }
        };
        let rows: Vec<Query> = tile.rows(a).map(query).collect();
        // SAFETY: all positions up to `to` are stored; a tile's rows fit its floats.
        unsafe { (self.cpu.kernels.attend)(&kv, &rows, segment, partial) };
    }

    /// Writes a tile's merged rows.
    fn attended(&self, a: &Attend, tile: &Tile, merged: &[f32]) {
        for ((row, head), merged) in tile.rows(a).zip(merged.chunks_exact(partial_floats(a.dim))) {
            let sink = a.sinks.map(|sinks| self.weight(sinks).floats[head]);
            let by = share(merged[a.dim], merged[a.dim + 1], sink);
            // SAFETY: no other tile has these heads of these rows.
            let y = unsafe {
                let y = self.mem(a.y).row(row).add(head * a.dim);
                std::slice::from_raw_parts_mut(y, a.dim)
            };
            y.iter_mut().zip(merged).for_each(|(y, v)| *y = v * by);
        }
    }

    /// An op's cache, and its first block.
    fn cache(&self, a: &Attend) -> (&LayerCache, *mut u8) {
        (&self.cpu.caches[a.cache.0 as usize], self.caches[a.cache.0 as usize].0)
    }

    /// Stores one row's keys and values in its token's block.
    fn store(&self, a: &Attend, row: usize) {
        let position = self.places[row].1;
        let blocks = &self.batch.spans[self.span_of[row]].blocks;
        let (block, slot) = (blocks[position / BLOCK_TOKENS] as usize, position % BLOCK_TOKENS);
        let (cache, first) = self.cache(a);
        let (each, piece) = (cache.block_bytes(), cache.piece);
        let bytes = self.caches[a.cache.0 as usize].1;
        assert!((block + 1) * each <= bytes, "a block out of range; this is a bug");
        // SAFETY: in range as just checked; the token's slot is written by one thread.
        unsafe {
            let sides =
                [(Side::Keys, self.mem(a.k).read(row)), (Side::Values, self.mem(a.v).read(row))];
            for (at, (side, x)) in sides.into_iter().enumerate() {
                for (head, x) in x.chunks_exact(a.dim).enumerate() {
                    let to = first.add(block * each + (2 * head + at) * piece.bytes());
                    (self.cpu.kernels.keep)(piece, side, slot, x, to);
                }
            }
        }
    }
}

/// Some tokens of one span with the query heads of one KV head.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    span: usize,
    head: usize,
    /// Rows of the batch.
    rows: Range<usize>,
    /// The first row's position.
    start: usize,
    /// The one behind the span's last.
    end: usize,
}

impl Tile {
    /// Its query rows: rows of the batch, and query heads.
    pub(super) fn rows(&self, a: &Attend) -> impl Iterator<Item = (usize, usize)> {
        let heads = a.heads / a.kv_heads;
        let heads = self.head * heads..(self.head + 1) * heads;
        self.rows.clone().flat_map(move |row| heads.clone().map(move |head| (row, head)))
    }

    /// Floats of its partial rows.
    fn floats(&self, a: &Attend) -> usize {
        self.rows.len() * (a.heads / a.kv_heads) * partial_floats(a.dim)
    }

    /// Positions that its last row sees.
    pub(super) fn seen(&self, a: &Attend) -> usize {
        a.sees(self.start + self.rows.len() - 1, self.end).len()
    }

    /// The segments that any of its rows sees.
    fn segments(&self, a: &Attend) -> Range<usize> {
        let from = a.sees(self.start, self.end).start;
        let to = a.sees(self.start + self.rows.len() - 1, self.end).end;
        from / SEGMENT..to.div_ceil(SEGMENT)
    }
}

impl Attend {
    /// Floats of the largest tile's partial rows.
    fn tile_floats(&self) -> usize {
        TILE * (self.heads / self.kv_heads) * partial_floats(self.dim)
    }
}

/// What tiles depend on: how many KV heads there are, and whether tokens see the past alone.
pub(super) type Kind = (usize, bool);

/// The tiles of all ops, by their kinds.
pub(super) fn all_tiles(graph: &Graph, batch: &Batch) -> Vec<(Kind, Vec<Tile>)> {
    let mut all: Vec<(Kind, Vec<Tile>)> = Vec::new();
    for op in &graph.ops {
        if let Op::Attend(a) = op
            && all.iter().all(|(kind, _)| *kind != (a.kv_heads, a.causal))
        {
            all.push(((a.kv_heads, a.causal), tiles(batch, a)));
        }
    }
    all
}

fn tiles(batch: &Batch, a: &Attend) -> Vec<Tile> {
    let (mut tiles, mut first) = (Vec::new(), 0);
    let each = if a.causal { TILE } else { LANES };
    for (span, of) in batch.spans.iter().enumerate() {
        let len = of.tokens.len();
        assert!(a.causal || of.start == 0, "a part of what is read both ways; this is a bug");
        let tile = |(at, head): (usize, usize)| {
            let rows = first + at..first + len.min(at + each);
            Tile { span, head, rows, start: of.start + at, end: of.start + len }
        };
        let cuts = (0..len).step_by(each);
        if a.causal {
            let heads = |at| (0..a.kv_heads).map(move |head| (at, head));
            tiles.extend(cuts.flat_map(heads).map(tile));
        } else {
            // A head's keys and values stay in a cache for all who see them.
            let cuts = |head| cuts.clone().map(move |at| (at, head));
            tiles.extend((0..a.kv_heads).flat_map(cuts).map(tile));
        }
        first += len;
    }
    tiles
}

/// Tiles and segments as parts of their own, where whole tiles would leave threads without work.
fn segments(tiles: &[Tile], a: &Attend, threads: usize) -> Option<Vec<(usize, usize)>> {
    /// More parts would cost more to merge than they save.
    const MOST: usize = 1024;
    if !a.causal || threads == 1 || tiles.len() >= 4 * threads {
        return None;
    }
    let parts = tiles.iter().enumerate();
    let parts: Vec<(usize, usize)> =
        parts.flat_map(|(i, tile)| tile.segments(a).map(move |segment| (i, segment))).collect();
    (parts.len() > tiles.len() && parts.len() <= MOST).then_some(parts)
}

/// Floats that an op's partial rows need in this step, where its segments are parts.
pub(in crate::cpu) fn partials(batch: &Batch, op: &Op, threads: usize) -> usize {
    let Op::Attend(a) = op else { return 0 };
    let parts = segments(&tiles(batch, a), a, threads);
    parts.map_or(0, |parts| parts.len() * a.tile_floats())
}

fn merge_rows(sum: &mut [f32], later: &[f32], dim: usize) {
    let rows = later.chunks_exact(partial_floats(dim));
    sum.chunks_exact_mut(partial_floats(dim)).zip(rows).for_each(|(sum, later)| merge(sum, later));
}
