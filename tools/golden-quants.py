#!/usr/bin/env python3
"""Writes crates/backend/tests/golden/rows.bin: rows of a real model's weights, and the root mean
square error that ggml's own quantisers make on them, for each format but F32.

    tools/golden-quants.py SMOLLM2.gguf

Needs numpy, gguf and llama-cpp-python (written with 0.19.0 and 0.3.36). The rows are of SmolLM2's
embeddings, stored in 8 bits, each block shifted and stretched a little by a fixed seed, so that they
lie on no format's grid. The file is little-endian: u32 weights, the weights as f32, u32 formats, for
each its ggml id as u32 and the error as f32.
"""

import ctypes
import struct
import sys
from pathlib import Path

import llama_cpp
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type, GGUFReader
from gguf.quants import dequantize

OUT = Path(__file__).parent.parent / "crates/backend/tests/golden/rows.bin"
FORMATS = [
    Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.Q2_K, Type.Q3_K,
    Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.IQ4_NL, Type.IQ4_XS, Type.MXFP4,
]
COLS, ROWS = 256, 24


def rows(path):
    tensor = next(t for t in GGUFReader(path).tensors if t.name == "token_embd.weight")
    all_rows = dequantize(tensor.data, tensor.tensor_type).reshape(-1, 576)
    rng = np.random.default_rng(5)
    x = all_rows[rng.integers(0, len(all_rows), ROWS), :COLS].astype("<f4")
    step = np.abs(x).max() / 127
    return x * rng.uniform(0.9, 1.1, (ROWS, 1)).astype("f4") + rng.uniform(
        -step / 2, step / 2, x.shape
    ).astype("<f4")


def error(library, x, kind):
    block, size = GGML_QUANT_SIZES[kind]
    out = np.zeros(x.size // block * size, np.uint8)
    library.ggml_quantize_chunk(
        int(kind), x.ctypes.data, out.ctypes.data, 0, *map(int, x.shape), None
    )
    back = dequantize(out, kind).reshape(x.shape).astype("f8")
    return float(np.sqrt(np.mean((back - x) ** 2)))


def main():
    folder = Path(llama_cpp.__file__).parent / "lib"
    library = ctypes.CDLL(str(next(folder.glob("libggml-base.so*"))))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2] + [
        ctypes.c_int64
    ] * 3 + [ctypes.c_void_p]
    x = np.ascontiguousarray(rows(sys.argv[1]), "<f4")
    out = struct.pack("<I", x.size) + x.tobytes() + struct.pack("<I", len(FORMATS))
    for kind in FORMATS:
        out += struct.pack("<If", kind, error(library, x, kind))
    OUT.write_bytes(out)
    print(f"{OUT}: {len(out)} bytes")


main()
