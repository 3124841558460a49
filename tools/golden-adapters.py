#!/usr/bin/env python3
"""Writes crates/engine/tests/golden/adapters: random LoRA adapters of some of the tiny models of
golden-archs.py, as `peft` saves them, and what `transformers` and `peft` make of both in float64.

For each NAME there are the two files of the adapter and gold.json, as golden-archs.py has it. The
adapters are drawn large: the script fails where log-probabilities hardly move.

Needs what golden-archs.py does, and peft (written with 0.21.2).
"""

import importlib.util
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model

HERE = Path(__file__).parent
OUT = HERE.parent / "crates/engine/tests/golden/adapters"

spec = importlib.util.spec_from_file_location("archs", HERE / "golden-archs.py")
archs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(archs)

LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# name: (of which model, the configuration)
ADAPTERS = {
    # Heads that a GGUF file has in another order, ranks and alphas of their own, the output.
    "llama": ("llama-rope-scaled", dict(
        r=4, lora_alpha=8, target_modules=[*LLAMA, "lm_head"],
        rank_pattern={"q_proj": 3, r"layers\.1\.mlp\..*": 6},
        alpha_pattern={"lm_head": 2, "k_proj": 20})),
    # Scaled by the rank's root; the output shares the embeddings.
    "qwen3": ("qwen3", dict(
        r=16, lora_alpha=4, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"])),
    # Matrices that the graph has in parts.
    "phi3": ("phi3", dict(
        r=2, lora_alpha=2, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"])),
    # Gated by another function, and some layers alone.
    "gemma3": ("gemma3", dict(
        r=5, lora_alpha=10, target_modules=LLAMA, layers_to_transform=[0, 2, 5])),
}


def main():
    cases = [{"name": name, "ids": archs.tokenize(text)} for name, text in archs.TEXTS.items()]
    for seed, (name, (model, config)) in enumerate(ADAPTERS.items()):
        of = list(archs.MODELS).index(model)
        base = archs.draw(archs.MODELS[model][0], of)
        before = archs.log_probs(base, cases[1]["ids"])
        adapted = get_peft_model(base.float(), LoraConfig(**config)).eval()
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for key, weight in adapted.named_parameters():
                if "lora_" in key:
                    noise = torch.randn(weight.shape, generator=random)
                    weight.copy_(noise * (0.7 / weight.shape[-1] ** 0.5))
        folder = OUT / name
        shutil.rmtree(folder, ignore_errors=True)
        adapted.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        moved = float((archs.log_probs(adapted, cases[1]["ids"]) - before).abs().mean())
        print(f"{name}: log-probabilities move by {moved:.3f}")
        assert moved > 0.1, f"{name} hardly matters"
        archs.write_json(folder / "gold.json", [archs.gold(adapted, case) for case in cases])


if __name__ == "__main__":
    main()
