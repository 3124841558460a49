#!/usr/bin/env python3
"""Writes crates/gateway/src/prices/table.csv: what models of providers cost, of the table that the
PyPI package `litellm` carries (MIT licence), models that write, embed or rerank alone.

    tools/extract-prices.py [--date 2026-11-22] [FILE.json]

Without a file it takes the one in an installed package. Prices are pico-dollars a token (10^-12 US
dollars), whole ones: what is finer is rounded up. A model whose prompts and answers both cost
nothing there has no price here, since that is what the table says of prices that it does not know.
A tier is a row of its own, for prompts of more than `above` tokens; of several ways to write to a
cache the dearest is taken. `uplift` is what calls to a region cost, in thousandths. Prices for
priority, for hours of the day, for searches and for pictures are left out.

Capabilities are letters: `t` calls tools, `v` sees pictures, `s` answers by JSON schemas; a capital
says that it does not. Modes are `c` for chat, `e` for embeddings, `r` for reranking.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import re
from decimal import Decimal
from pathlib import Path

OUT = Path(__file__).parent.parent / "crates/gateway/src/prices/table.csv"
NAME = "model_prices_and_context_window*.json"
MODES = dict(chat="c", responses="c", completion="c", embedding="e", rerank="r")
# Beginnings of its names for providers, and ours; others keep theirs.
PROVIDERS = [
    ("vertex_ai", "vertex"), ("bedrock_converse", "bedrock"), ("azure_text", "azure"),
    ("text-completion-openai", "openai"), ("text-completion-codestral", "codestral"),
    ("text-completion-inception", "inception"), ("cohere_chat", "cohere"),
    ("fireworks_ai", "fireworks_ai"),
]
KINDS = {
    "input_cost_per_token": "input",
    "cache_read_input_token_cost": "cached",
    "cache_creation_input_token_cost": "written",
    "output_cost_per_token": "output",
    "output_cost_per_reasoning_token": "reasoning",
}
PRICED = re.compile(
    f"({'|'.join(KINDS)})(?:_above_(?:1|12)hr)?(?:_above_([0-9]+)k_tokens)?(_batches)?")
CAPABILITIES = dict(t="supports_function_calling", v="supports_vision", s="supports_response_schema")
UPLIFTS = ["regional_endpoint_uplift_multiplier", "regional_processing_uplift_multiplier_eu",
           "regional_processing_uplift_multiplier_us"]
RATES = ["input", "cached", "written", "output", "reasoning"]
COLUMNS = (["provider", "model", "mode", "above"] + RATES + ["batch_" + rate for rate in RATES]
           + ["context", "max_output", "capabilities", "uplift"])


def pico(price):
    """Whole pico-dollars, rounded up."""
    return int(-(-Decimal(price) * 10**12 // 1))


def tiers(entry):
    """By how long a prompt is: rates by column."""
    found = {0: {}}

    def put(above, column, price):
        if isinstance(price, (int, Decimal)) and not isinstance(price, bool) and price >= 0:
            rates = found.setdefault(above, {})
            rates[column] = max(pico(price), rates.get(column, 0))

    def read(fields, above):
        for field, price in fields.items():
            if at := PRICED.fullmatch(field):
                kind, thousands, batch = at.groups()
                column = ("batch_" if batch else "") + KINDS[kind]
                put(int(thousands) * 1000 if thousands else above, column, price)

    read(entry, 0)
    ranges = entry.get("tiered_pricing") or []
    for tier in ranges:
        if isinstance(tier, dict) and "range" in tier:
            read(tier, int(tier["range"][0]))
    for above, rates in found.items():
        # What a tier does not say of answers is as it was.
        if above and "output" not in rates and "output" in found[0]:
            rates["output"] = found[0]["output"]
        # Nothing for both is how the table says that it does not know.
        for batch in ["", "batch_"]:
            if not rates.get(batch + "input") and not rates.get(batch + "output"):
                for rate in RATES:
                    rates.pop(batch + rate, None)
    return {above: rates for above, rates in sorted(found.items()) if above == 0 or rates}


def rows(entries):
    """The rows, by provider, model and tier."""
    all_rows = {}
    for key, entry in entries.items():
        if entry.get("mode") not in MODES or "litellm_provider" not in entry:
            continue
        theirs = entry["litellm_provider"]
        ours = next((to for begin, to in PROVIDERS if theirs.startswith(begin)), theirs)
        prefix = next((p for p in [theirs, ours, "vertex_ai", "bedrock"] if key.startswith(p + "/")
                       and (p in (theirs, ours) or ours in ("vertex", "bedrock"))), None)
        model = key[len(prefix) + 1:] if prefix else key
        assert not re.search(r'[,"\s]', ours + model), key
        whole = lambda field: int(entry[field]) if isinstance(
            entry.get(field), (int, Decimal)) and entry[field] > 0 else ""
        letters = "".join(letter if entry[field] else letter.upper()
                          for letter, field in CAPABILITIES.items() if field in entry)
        uplift = max((Decimal(entry[field]) for field in UPLIFTS if field in entry), default=1)
        for above, rates in tiers(entry).items():
            last = [whole("max_input_tokens"), whole("max_output_tokens"), letters,
                    int(-(-uplift * 1000 // 1)) if uplift > 1 else ""]
            row = [ours, model, MODES[entry["mode"]], above or ""]
            row += [rates.get(column, "") for column in COLUMNS[4:14]]
            row += last if above == 0 else [""] * 4
            at = (ours, model, above)
            # A name with its provider before it goes before one without.
            if at not in all_rows or prefix:
                all_rows[at] = row
    return [all_rows[at] for at in sorted(all_rows)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--date", default=datetime.date.today().isoformat())
    parser.add_argument("file", nargs="?", type=Path)
    told = parser.parse_args()
    version = "of a file"
    if told.file is None:
        folder = Path(importlib.util.find_spec("litellm").origin).parent
        told.file = next(folder.glob(NAME))
        version = importlib.metadata.version("litellm")
    else:
        # A wheel's folder has its version beside the package.
        beside = told.file.resolve().parent.parent.glob("litellm-*.dist-info")
        version = next((it.name.split("-")[1].removesuffix(".dist") for it in beside), version)
    entries = json.loads(told.file.read_text(), parse_float=Decimal)
    lines = [f"# {datetime.date.fromisoformat(told.date)} litellm {version}", ",".join(COLUMNS)]
    lines += [",".join(map(str, row)).rstrip(",") for row in rows(entries)]
    OUT.write_text("\n".join(lines) + "\n")
    print(f"{OUT.name}: {len(lines) - 2} rows, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
