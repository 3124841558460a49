#!/usr/bin/env python3
"""Writes crates/engine/tests/golden/archs: one tiny random model for each of a few architectures,
as a GGUF file in float32, and what `transformers` makes of it in float64.

For each NAME there are NAME.gguf, NAME.cases.json (texts and ids) and NAME.gold.json (by case and
position: the log-probability of the next id, and the ten likeliest ids). Weights are drawn large
enough for attention to be peaked and for every feature named in `MODELS` to matter: the script
fails where turning one off leaves the log-probabilities as they are.

Needs torch, transformers, numpy and gguf (written with 2.15, 5.23, 2.4 and 0.19). Tensor names,
metadata keys and the order of rotated dimensions are those of llama.cpp's converter.
"""

import json
import math
from pathlib import Path

import torch
import transformers as hf
from gguf import GGUFWriter

OUT = Path(__file__).parent.parent / "crates/engine/tests/golden/archs"

TEXTS = {
    "short": "The rain in Spain stays mainly.",
    "prose": "In the beginning there was a header, and the header was without form; void.",
    "digits": "f(x) = 3.14159 * (x - 27) / 1000; print(f(12), f(34), 0x7ff)",
}


def bytes_to_text():
    """How GPT-2 spells each byte: itself where it can be seen, else a character from 256 on."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    unseen = [byte for byte in range(256) if byte not in seen]
    return [chr(b) if b in seen else chr(256 + unseen.index(b)) for b in range(256)]


# All bytes, two merges of letters that no pre-tokenizer parts, and an end.
TOKENS = [*bytes_to_text(), "he", "in", "<|endoftext|>"]
MERGES = ["h e", "i n"]


def tokenize(text):
    text = text.replace("he", "\u0100").replace("in", "\u0101")
    assert all(ord(c) < 128 or ord(c) in (256, 257) for c in text), "ASCII only"
    return [ord(c) for c in text]


def sizes(**changes):
    # The vocabulary has an odd number of rows, and no width is a multiple of 256.
    return dict(
        vocab_size=len(TOKENS), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=96, max_position_embeddings=512,
        rms_norm_eps=1e-6, attn_implementation="eager", bos_token_id=258, eos_token_id=258,
        pad_token_id=None,
    ) | changes


def rope(theta, **more):
    return {"rope_type": "default", "rope_theta": theta} | more


LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
GEMMA_WINDOW = 16

# name: (configuration, {what must matter: the configuration without it, or tensors to blank})
MODELS = {
    "qwen2": (
        hf.Qwen2Config(**sizes(rope_parameters=rope(1e6), tie_word_embeddings=True)),
        {"biases": ("self_attn", ".bias", 0.0)},
    ),
    "qwen3": (
        hf.Qwen3Config(**sizes(
            rope_parameters=rope(1e6), tie_word_embeddings=True, head_dim=32,
            intermediate_size=80)),
        {"norms of q": ("self_attn", "q_norm.weight", 1.0),
         "norms of k": ("self_attn", "k_norm.weight", 1.0)},
    ),
    "llama-rope-scaled": (
        hf.LlamaConfig(**sizes(rope_parameters=rope(1e4, **LLAMA3), tie_word_embeddings=False)),
        {"scaling": {"rope_parameters": rope(1e4)}},
    ),
    "gemma3": (
        hf.Gemma3TextConfig(**sizes(
            hidden_size=32, num_hidden_layers=7, intermediate_size=64, head_dim=16,
            query_pre_attn_scalar=16, sliding_window=GEMMA_WINDOW, tie_word_embeddings=True,
            layer_types=[*["sliding_attention"] * 5, "full_attention", "sliding_attention"],
            rope_parameters={"full_attention": rope(1e6), "sliding_attention": rope(1e4)})),
        {"the window": {"sliding_window": 4096},
         "the width of the window": {"sliding_window": GEMMA_WINDOW + 1},
         "the second base": {"rope_parameters": {
             "full_attention": rope(1e4), "sliding_attention": rope(1e4)}},
         "the global layer": {"layer_types": ["sliding_attention"] * 7}},
    ),
}


def draw(config, seed):
    """A model whose weights are drawn so that nothing in it is idle."""
    model = hf.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=random)
            if "norm" in name:
                weight.copy_(0.2 * noise + (0.0 if config.model_type.startswith("gemma") else 1.0))
            elif name.endswith(".bias"):
                weight.copy_(0.5 * noise)
            elif "embed" in name:
                weight.copy_(0.25 * noise)
            else:
                weight.copy_(noise * (1.5 / math.sqrt(weight.shape[1])))
    return model.eval()


def log_probs(model, ids):
    with torch.no_grad():
        logits = model.double()(torch.tensor([ids])).logits[0]
    return torch.log_softmax(logits, dim=-1)


def gold(model, case):
    logs = log_probs(model, case["ids"])
    after = case["ids"][1:]
    likeliest = logs.topk(10)
    return {
        "name": case["name"],
        "ids": case["ids"],
        "next_logprob": [round(float(logs[i, id]), 6) for i, id in enumerate(after)],
        "top10": [
            [[int(id), round(float(log), 6)] for id, log in zip(ids, values)]
            for ids, values in zip(likeliest.indices, likeliest.values)
        ],
    }


def check_matters(name, model, without, ids):
    """Each feature, turned off, must move the log-probabilities."""
    before = log_probs(model, ids)
    for feature, change in without.items():
        changes = change if isinstance(change, dict) else {}
        config = type(model.config)(**(model.config.to_dict() | changes))
        other = hf.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        state = {k: v.clone() for k, v in model.state_dict().items()}
        if isinstance(change, tuple):
            part, end, value = change
            for key in state:
                if part in key and key.endswith(end):
                    state[key].fill_(value)
        other.double().load_state_dict(state)
        moved = float((log_probs(other.eval(), ids) - before).abs().mean())
        print(f"{name}: without {feature}, log-probabilities move by {moved:.3f}")
        assert moved > 0.02, f"{name}: {feature} does not matter"


# transformers' names within a layer, and llama.cpp's.
LAYER = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
}
PLAIN = LAYER | {"post_attention_layernorm": "ffn_norm"}
GEMMA = LAYER | {
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name, layer):
    stem, kind = name.rsplit(".", 1)
    if stem in OUTER:
        return f"{OUTER[stem]}.{kind}"
    _, _, index, rest = stem.split(".", 3)
    return f"blk.{index}.{layer[rest]}.{kind}"


def interleave(weight, heads):
    """Brings the two halves of each head's rotated dimensions side by side."""
    rows = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, rows, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def llama3_factors(config):
    """What each frequency is divided by (`rope_freqs.weight`)."""
    scaling, dim = config.rope_parameters, config.hidden_size // config.num_attention_heads
    low = scaling["original_max_position_embeddings"] / scaling["low_freq_factor"]
    high = scaling["original_max_position_embeddings"] / scaling["high_freq_factor"]
    for i in range(dim // 2):
        wavelength = 2 * math.pi * scaling["rope_theta"] ** (2 * i / dim)
        if wavelength < high:
            yield 1.0
        elif wavelength > low:
            yield scaling["factor"]
        else:
            smooth = (low / wavelength - 1) / (low / high - 1)
            yield 1 / ((1 - smooth) / scaling["factor"] + smooth)


def write_metadata(out, config, gemma):
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    theta = config.rope_parameters["full_attention"] if gemma else config.rope_parameters
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_key_length(head_dim)
    out.add_value_length(head_dim)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_freq_base(theta["rope_theta"])
    if gemma:
        out.add_sliding_window(config.sliding_window)
    else:
        out.add_rope_dimension_count(head_dim)
    out.add_vocab_size(config.vocab_size)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(TOKENS)
    out.add_token_types([*[1] * 258, 3])
    out.add_token_merges(MERGES)
    out.add_bos_token_id(258)
    out.add_eos_token_id(258)
    out.add_add_bos_token(False)


def write_gguf(path, arch, model):
    config, gemma = model.config, arch == "gemma3"
    out = GGUFWriter(path, arch)
    out.add_name(f"random {path.stem}")
    write_metadata(out, config, gemma)
    tied = config.tie_word_embeddings
    for name, weight in model.state_dict().items():
        if tied and name.startswith("lm_head"):
            continue
        array = weight.float().numpy()
        if gemma and "norm" in name:
            array = array + 1
        if arch == "llama" and ("q_proj" in name or "k_proj" in name):
            query = "q_proj" in name
            heads = config.num_attention_heads if query else config.num_key_value_heads
            array = interleave(array, heads)
        out.add_tensor(gguf_name(name, GEMMA if gemma else PLAIN), array.astype("float32"))
    if arch == "llama":
        out.add_tensor("rope_freqs.weight", torch.tensor(list(llama3_factors(config))).numpy())
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def write_json(path, items):
    path.write_text("[" + ",\n".join(json.dumps(item) for item in items) + "]\n")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    cases = [{"name": name, "text": text, "ids": tokenize(text)} for name, text in TEXTS.items()]
    for seed, (name, (config, without)) in enumerate(MODELS.items()):
        model = draw(config, seed)
        write_gguf(OUT / f"{name}.gguf", name.split("-")[0], model)
        check_matters(name, model, without, cases[1]["ids"])
        write_json(OUT / f"{name}.cases.json", cases)
        write_json(OUT / f"{name}.gold.json", [gold(model, case) for case in cases])


main()
