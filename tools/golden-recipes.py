#!/usr/bin/env python3
"""Writes crates/model/tests/golden/recipes.txt: which format llama.cpp's own quantizer gives to each
tensor of some small shapes, for each recipe. Needs numpy, gguf and llama-cpp-python (written with
0.19.0 and 0.3.36), and some minutes.

A line is a shape's name, a recipe, a tensor (`*` for every layer), the length of its rows, and the
formats by layer, as runs: `Q6_Kx2 Q4_Kx18`. Tensors that stay F32 are left out.
"""

import importlib.machinery
import importlib.util
import itertools
import tempfile
from pathlib import Path

import llama_cpp
from gguf import GGUFReader

ROOT = Path(__file__).parent.parent
OUT = ROOT / "crates/model/tests/golden/recipes.txt"
FILE_TYPES = {
    "q8_0": 7, "q6_k": 18, "q5_1": 9, "q5_k_m": 17, "q5_k_s": 16, "q5_0": 8, "q4_1": 3,
    "q4_k_m": 15, "q4_k_s": 14, "q4_0": 2, "iq4_nl": 25, "iq4_xs": 30, "mxfp4_moe": 38,
    "q3_k_l": 13, "q3_k_m": 12, "q3_k_s": 11, "q2_k": 10,
}
PLAIN = {
    "arch": "llama", "pre": "llama-bpe", "layers": 20, "context": 512, "width": 256, "hidden": 512,
    "heads": 8, "kv_heads": 2, "dim": 32, "vocabulary": 1024, "special": 16, "base": 1e4,
    "eps": 1e-5, "tied": True,
}
SHAPES = {
    "grouped": PLAIN,
    "untied": {**PLAIN, "kv_heads": 8, "tied": False},
    "odd": {**PLAIN, "width": 288, "heads": 9, "kv_heads": 3, "hidden": 320, "layers": 9},
    "big": {**PLAIN, "layers": 80, "kv_heads": 1},
    "eight": {
        **PLAIN, "arch": "qwen3moe", "layers": 16, "experts": 8, "used": 2, "expert_hidden": 256,
        "tied": False,
    },
}


def random_gguf():
    path = str(ROOT / "tools/random-gguf")
    loader = importlib.machinery.SourceFileLoader("random_gguf", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("random_gguf", loader))
    loader.exec_module(module)
    return module


def formats(path):
    """Each tensor's row length and formats, layers merged."""
    found = {}
    for tensor in sorted(GGUFReader(path).tensors, key=layer):
        name = tensor.name
        if name.startswith("blk."):
            name = "blk.*." + name.split(".", 2)[2]
        cols, kinds = found.setdefault(name, (tensor.shape[0], []))
        kinds.append(tensor.tensor_type.name)
    return {name: of for name, of in found.items() if set(of[1]) != {"F32"}}


def layer(tensor):
    return int(tensor.name.split(".")[1]) if tensor.name.startswith("blk.") else -1


def main():
    tool, lines = random_gguf(), []
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "f16.gguf"), Path(folder, "made.gguf")
        for name, shape in SHAPES.items():
            with source.open("wb") as out:
                tool.write(out, name, shape, shape["layers"], 1)
            for recipe, number in FILE_TYPES.items():
                params = llama_cpp.llama_model_quantize_default_params()
                params.ftype = number
                code = llama_cpp.llama_model_quantize(str(source).encode(), str(made).encode(), params)
                assert code == 0, (name, recipe)
                for tensor, (cols, kinds) in formats(made).items():
                    if name == "big" and "attn_v" not in tensor:
                        continue  # all else is as in `grouped`
                    runs = [f"{kind}x{len([*run])}" for kind, run in itertools.groupby(kinds)]
                    lines.append(f"{name} {recipe} {tensor} {cols} {' '.join(runs)}\n")
    OUT.write_text("".join(lines))
    print(f"{OUT}: {len(lines)} lines")


main()
