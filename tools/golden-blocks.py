#!/usr/bin/env python3
"""Writes crates/backend/tests/golden/blocks.bin: random blocks of every weight format beside the
values that the Python package `gguf` unpacks them to. Needs numpy and gguf (written with gguf
0.19.0); the seed is fixed, so that running it again changes nothing.

The file is records, all little-endian: u32 ggml id, u32 bytes, u32 values, the bytes, the values
as f32.
"""

import struct
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize

OUT = Path(__file__).parent.parent / "crates/backend/tests/golden/blocks.bin"

# Where in a block its IEEE halves stand.
HALVES = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
    Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2],
    Type.Q6_K: [208], Type.IQ4_NL: [0], Type.IQ4_XS: [0], Type.MXFP4: [],
}
# Scales that a decoder may get wrong: zeros, subnormals, the largest, and negative ones.
EDGES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0xB555]


def blocks(rng, kind):
    weights, size = GGML_QUANT_SIZES[kind]
    count = 16 if weights == 32 else 10
    data = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for place, offset in enumerate(HALVES[kind]):
        scales = (rng.standard_normal(count) * 0.02).astype(np.float16).view(np.uint16)
        scales[: len(EDGES)] = np.roll(EDGES, 3 * place)
        data[:, offset : offset + 2] = scales.view(np.uint8).reshape(count, 2)
    if kind == Type.MXFP4:
        data[:, 0] = rng.integers(100, 140, count)
        data[:6, 0] = [0, 1, 2, 127, 254, 255]
    return data


def floats(rng, kind):
    words = rng.integers(0, 1 << 16, 250, dtype=np.uint16)
    edges = np.array([0, 0x8000, 1, 0x8001, 0x03FF, 0x0400, 0x7C00, 0xFC00], dtype=np.uint16)
    words = np.concatenate([words, edges, edges ^ 0x0380])
    return words.view(np.uint8).reshape(1, -1)


def main():
    rng = np.random.default_rng(20)
    out = b""
    for kind in [Type.F32, Type.F16, Type.BF16, *HALVES]:
        data = blocks(rng, kind) if kind in HALVES else floats(rng, kind)
        with np.errstate(all="ignore"):
            values = dequantize(data, kind).astype("<f4").tobytes()
        out += struct.pack("<III", kind, data.size, len(values) // 4) + data.tobytes() + values
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_bytes(out)
    print(f"{OUT}: {len(out)} bytes")


main()
