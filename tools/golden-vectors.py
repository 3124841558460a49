#!/usr/bin/env python3
"""Writes into crates/model/tests/golden/directories tiny random checkpoints of models that make
vectors, as the programs lay them out that make such models, and beside each NAME.json: what
`tokenizers` makes of texts, and the vectors that `sentence-transformers` and `model2vec` compute.
Names of directories may be given; without any all of them are written.

Needs what golden-directories.py needs, and model2vec, sentence-transformers, sentencepiece and
scikit-learn (written with 0.10, 6.2, 0.2.3 and 1.9).
"""

import importlib.util
import json
import shutil
import string
import sys
import tempfile
from pathlib import Path

import model2vec
import numpy as np
import sentence_transformers as st
import sentencepiece
import tokenizers
import torch
import transformers as hf
from model2vec.model import quantize_model
from safetensors.torch import load_file, save_file
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

SPEC = importlib.util.spec_from_file_location(
    "directories", Path(__file__).parent / "golden-directories.py")
shared = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(shared)
OUT, TEXTS, PAIRS, small, rope = shared.OUT, shared.TEXTS, shared.PAIRS, shared.small, shared.rope
# Characters that become one of several, or several of one.
MAPPED = "cafe\u0301 a\u0300 u\u0308ber, ﾊﾟﾊ \u1e9e 5€…"
WIDTH = 16

# Markup in texts is not read as such when vectors are made.
PLAIN = [text for text in TEXTS if "[CLS]" not in text] + [
    "the lazy dog " * 30, "unheard-of Wörter, 中 and ∑", "∑∏∐"]
KINDS = "sentence_transformers.models."


def listed(*modules):
    """modules.json of these kinds and folders."""
    return [{"idx": i, "name": str(i), "path": folder, "type": KINDS + kind}
            for i, (kind, folder) in enumerate(modules)]


def pooling(way, width=WIDTH):
    keys = ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens",
            "weightedmean_tokens", "lasttoken"]
    return {"word_embedding_dimension": width, "include_prompt": True} | {
        f"pooling_mode_{key}": key == way for key in keys}


def dense(rows, cols, activation, bias, seed):
    """A Dense module's files."""
    random = torch.Generator().manual_seed(seed)
    weights = {"linear.weight": 0.4 * torch.randn(rows, cols, generator=random)}
    if bias:
        weights["linear.bias"] = 0.3 * torch.randn(rows, generator=random)
    config = {"in_features": cols, "out_features": rows, "bias": bias,
              "activation_function": f"torch.nn.modules.{activation}"}
    return config, weights


def store(folder, files):
    for file, content in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.endswith(".safetensors"):
            save_file(content, path)
        else:
            path.write_text(json.dumps(content, indent=1) + "\n")


def network(folder, tokenizer, kind, config, seed):
    """A model's own files."""
    config.vocab_size = len(tokenizer)
    config.bos_token_id = tokenizer.bos_token_id
    config.eos_token_id = tokenizer.eos_token_id
    shared.draw(kind, config, seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def rounded(rows):
    return [[round(float(x), 7) for x in row] for row in rows]


def told(name, fast, vectors, marks=True, prompt=None, late=None, more=()):
    """NAME.json. `output` is what there is to say of the first text."""
    texts = [{"text": text, "ids": fast.encode(text, add_special_tokens=marks).ids,
              "bare": fast.encode(text, add_special_tokens=False).ids,
              "spans": shared.spans(fast, text)} for text in [*TEXTS, *more]]
    pairs = []
    for a, b in PAIRS:
        encoded = fast.encode(a, b, add_special_tokens=marks)
        types = encoded.type_ids if marks else [0] * len(encoded.ids)
        pairs.append({"a": a, "b": b, "ids": encoded.ids, "types": types})
    gold = {"texts": texts, "pairs": pairs}
    if late is not None:
        gold |= {"output": rounded(late[0]), "late": [rounded(rows) for rows in late]}
    else:
        gold |= {"output": rounded(vectors[:1]), "vectors": rounded(vectors)}
    lengths = np.linalg.norm(np.concatenate(late) if late is not None else vectors, axis=-1)
    normalised = bool(np.all((np.abs(lengths - 1) < 1e-3) | (lengths == 0)))
    gold |= {"read": PLAIN, "prompt": prompt, "normalised": normalised}
    (OUT / f"{name}.json").write_text(json.dumps(gold, ensure_ascii=True, indent=0) + "\n")


def sentences(name, tokenizer, kind, config, files, seed, prompt=None, more=()):
    """A model of sentence-transformers, whose vectors it computes in float64."""
    folder = OUT / name
    network(folder, tokenizer, kind, config, seed)
    store(folder, files)
    # It prepends to texts what the marks of a `tokenizer.json` say by itself.
    model = st.SentenceTransformer(str(folder), device="cpu", model_kwargs={
        "dtype": torch.float32, "attn_implementation": "eager"}).double()
    asked = {} if prompt is None else {"prompt_name": prompt}
    vectors = model.encode(PLAIN, convert_to_numpy=True, batch_size=1, **asked)
    assert vectors.dtype == np.float64, vectors.dtype
    told(name, tokenizer.backend_tokenizer, vectors, prompt=prompt, more=more)


def bert_dense(name):
    first, second = dense(12, WIDTH, "activation.Tanh", True, 1), dense(
        10, 12, "activation.GELU", False, 2)
    sentences(name, shared.word_piece(), hf.BertModel, hf.BertConfig(**small()), {
        "modules.json": listed(("Transformer", ""), ("Pooling", "1_Pooling"),
                               ("Dense", "2_Dense"), ("Dense", "3_Dense")),
        "1_Pooling/config.json": pooling("cls_token"),
        "2_Dense/config.json": first[0], "2_Dense/model.safetensors": first[1],
        "3_Dense/config.json": second[0], "3_Dense/model.safetensors": second[1],
        "sentence_bert_config.json": {"max_seq_length": 48, "do_lower_case": False},
    }, 101)


NOMIC = {
    "modules.json": listed(("Transformer", ""), ("Pooling", "1_Pooling")),
    "1_Pooling/config.json": pooling("mean_tokens"),
    "sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": False},
    "config_sentence_transformers.json": {"prompts": {
        "search_query": "search_query: ", "search_document": "search_document: "}},
}


def nomic(name):
    """Nomic's names of tensors, which `transformers` keeps, and its own keys."""
    config = hf.NomicBertConfig(**small(), hidden_act="silu", rope_parameters=rope(1000.0))
    sentences(name, shared.word_piece(), hf.NomicBertModel, config, NOMIC, 102,
              prompt="search_query")


def nomic_own(name):
    """The same with the keys of Nomic's own code, which is not needed to compute it."""
    nomic(name)
    store(OUT / name, {"config.json": {
        "model_type": "nomic_bert", "architectures": ["NomicBertModel"],
        "activation_function": "swiglu", "n_embd": WIDTH, "n_head": 2, "n_inner": 24, "n_layer": 2,
        "n_positions": 64, "layer_norm_epsilon": 1e-12, "prenorm": False, "rotary_emb_base": 1000,
        "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False, "rotary_scaling_factor": None,
        "rotary_emb_scale_base": None, "max_trained_positions": 64, "type_vocab_size": 2,
        "vocab_size": len(shared.word_piece()), "pad_token_id": 0, "qkv_proj_bias": False}})


def gemma_with_ends():
    tokenizer = shared.gemma()
    tokenizer.pad_token = "<unk>"
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> <s>:1 $B:1 </s>:1",
        special_tokens=[("<s>", 1), ("</s>", 2)])
    return tokenizer


def embedding_gemma(name):
    wide, back = dense(24, WIDTH, "linear.Identity", False, 3), dense(
        WIDTH, 24, "linear.Identity", False, 4)
    config = hf.Gemma3TextConfig(**shared.writes(
        head_dim=8, query_pre_attn_scalar=8, sliding_window=16, num_hidden_layers=6,
        intermediate_size=16, use_bidirectional_attention=True,
        layer_types=["sliding_attention"] * 5 + ["full_attention"], rope_parameters=shared.BASES))
    sentences(name, gemma_with_ends(), hf.Gemma3TextModel, config, {
        "modules.json": listed(("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"),
                               ("Dense", "3_Dense"), ("Normalize", "4_Normalize")),
        "1_Pooling/config.json": pooling("mean_tokens"),
        "2_Dense/config.json": wide[0], "2_Dense/model.safetensors": wide[1],
        "3_Dense/config.json": back[0], "3_Dense/model.safetensors": back[1],
        "sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {
            "query": "task: search result | query: ", "document": "title: none | text: "}},
    }, 103, prompt="query")


def qwen_with_end():
    tokenizer = shared.qwen2()
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(
            single="$A <|endoftext|>", pair="$A <|endoftext|> $B:1 <|endoftext|>:1",
            special_tokens=[("<|endoftext|>", end)])])
    return tokenizer


def qwen3_embedding(name):
    config = hf.Qwen3Config(**shared.writes(head_dim=16, rope_parameters=rope(1e6)))
    sentences(name, qwen_with_end(), hf.Qwen3Model, config, {
        "modules.json": listed(("Transformer", ""), ("Pooling", "1_Pooling"),
                               ("Normalize", "2_Normalize")),
        "1_Pooling/config.json": pooling("lasttoken"),
        "sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {
            "query": "Instruct: Find what answers\nQuery: ", "document": ""}},
    }, 104, prompt="query")


def colbert(name):
    """ColBERT's own files: BERT, a matrix, and each token's vector of length 1."""
    folder, tokenizer = OUT / name, shared.word_piece()
    network(folder, tokenizer, hf.BertModel, hf.BertConfig(**small()), 105)
    model = hf.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    project = dense(8, WIDTH, "", False, 5)[1]["linear.weight"]
    weights = {f"bert.{key}": weight.contiguous() for key, weight in model.state_dict().items()}
    store(folder, {"model.safetensors": weights | {"linear.weight": project}})
    config = json.loads((folder / "config.json").read_text())
    store(folder, {"config.json": config | {"architectures": ["HF_ColBERT"]}})
    late, fast = [], tokenizer.backend_tokenizer
    with torch.no_grad():
        for text in PLAIN:
            ids = fast.encode(text).ids
            ids = ids if len(ids) <= 64 else ids[:63] + ids[-1:]
            hidden = model.double()(torch.tensor([ids])).last_hidden_state[0]
            late.append(torch.nn.functional.normalize(hidden @ project.double().T, dim=-1))
    told(name, fast, None, late=late)


def late_modules(name):
    """The same as sentence-transformers' modules, with a layer more."""
    folder, tokenizer = OUT / name, shared.word_piece()
    network(folder, tokenizer, hf.BertModel, hf.BertConfig(**small()), 106)
    bent, last = dense(12, WIDTH, "activation.SiLU", True, 6), dense(
        8, 12, "linear.Identity", False, 7)
    inside = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    kinds = ["base.modules.transformer.Transformer", "base.modules.dense.Dense",
             "base.modules.dense.Dense",
             "multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask",
             "base.modules.normalize.Normalize"]
    folders = ["", "1_Dense", "2_Dense", "3_MultiVectorMask", "4_Normalize"]
    store(folder, {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{kind}"}
            for i, (kind, path) in enumerate(zip(kinds, folders))],
        "1_Dense/config.json": bent[0] | inside, "1_Dense/model.safetensors": bent[1],
        "2_Dense/config.json": last[0] | inside, "2_Dense/model.safetensors": last[1],
        "3_MultiVectorMask/config.json": {
            "skiplist_words": [], "skiplist_tasks": ["document"], "keep_only_token_ids": None},
        "4_Normalize/config.json": {
            "module_input_name": "token_embeddings", "module_output_name": "token_embeddings"},
        "sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": False},
        "config_sentence_transformers.json": {"model_type": "MultiVectorEncoder"}})
    model = st.MultiVectorEncoder(str(folder), device="cpu", model_kwargs={
        "attn_implementation": "eager"}).double()
    late = [model.encode(text, convert_to_numpy=True) for text in PLAIN]
    assert late[0].dtype == np.float64, late[0].dtype
    told(name, tokenizer.backend_tokenizer, None, late=late)


# What becomes of characters, as SentencePiece's builder is told: one or several of either.
RULES = [("ﬁ", "fi"), ("①", "1"), ("②", "2"), ("③", "3"), ("ｆ", "f"), ("ｕ", "u"), ("ｌ", "l"),
         ("e\u0301", "\u00e9"), ("a\u0300", "\u00e0"), ("u\u0308", "\u00fc"), ("\u1e9e", "SS"),
         ("\t", " "), ("\n", " "), ("\u200b", " "), ("\u00ad", ""), ("\x07", ""), ("…", "..."),
         ("ﾊﾟ", "パ"), ("ﾊ", "ハ"), ("€", "EUR")]


def charsmap():
    """The map that SentencePiece compiles of the rules."""
    hexes = lambda text: " ".join(f"{ord(c):X}" for c in text)
    with tempfile.TemporaryDirectory() as folder:
        rules, texts = Path(folder) / "rules.tsv", Path(folder) / "texts.txt"
        rules.write_text("".join(f"{hexes(a)}\t{hexes(b)}\n" for a, b in RULES))
        texts.write_text("\n".join(shared.CORPUS) + "\n")
        sentencepiece.SentencePieceTrainer.train(
            input=str(texts), model_prefix=f"{folder}/m", vocab_size=60, model_type="unigram",
            normalization_rule_tsv=str(rules), hard_vocab_limit=False, minloglevel=2)
        return compiled(Path(f"{folder}/m.model").read_bytes())


def fields(message):
    """The fields of a protocol buffer that hold bytes, by their numbers."""
    at, found = 0, {}

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        key = number()
        match key & 7:
            case 0:
                number()
            case 1:
                at += 8
            case 2:
                length = number()
                found[key >> 3] = message[at:at + length]
                at += length
            case 5:
                at += 4
    return found


def compiled(model):
    """`normalizer_spec.precompiled_charsmap` of a SentencePiece model."""
    return fields(fields(model)[3])[2]


def unigram(precompiled):
    """XLM-R's tokenizer, with such a map."""
    out = shared.unigram()
    told = json.loads(out.backend_tokenizer.to_str())
    changed = normalizers.Precompiled(precompiled)
    told["normalizer"] = json.loads(changed.__getstate__())
    fast = tokenizers.Tokenizer.from_str(json.dumps(told))
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=fast, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        cls_token="<s>", sep_token="</s>", pad_token="<pad>", mask_token="<mask>")


def xlm_roberta_map(name):
    config = hf.XLMRobertaConfig(**small(pad_token_id=1, type_vocab_size=1))
    sentences(name, unigram(charsmap()), hf.XLMRobertaModel, config, {
        "modules.json": listed(("Transformer", ""), ("Pooling", "1_Pooling"),
                               ("Normalize", "2_Normalize")),
        "1_Pooling/config.json": pooling("mean_tokens"),
        "sentence_bert_config.json": {"max_seq_length": 60, "do_lower_case": False},
    }, 107, more=[MAPPED])


def whole_words():
    """A tokenizer of whole words."""
    out = tokenizers.Tokenizer(models.WordLevel(unk_token="[UNK]"))
    out.normalizer = normalizers.BertNormalizer()
    out.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    out.train_from_iterator(shared.CORPUS, trainers.WordLevelTrainer(
        special_tokens=["[PAD]", "[UNK]"]))
    return out


def table(tokenizer, seed):
    random = np.random.default_rng(seed)
    return random.normal(size=(tokenizer.get_vocab_size(), WIDTH)).astype(np.float32)


def static(name, tokenizer, seed, change=lambda model: model, config=lambda all: all, **more):
    """A model of Model2Vec, whose vectors it computes itself."""
    tokenizer.no_padding()
    folder = OUT / name
    folder.mkdir()
    made = change(model2vec.StaticModel(table(tokenizer, seed), tokenizer, **more))
    made.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "config.json"
    store(folder, {"config.json": config(json.loads(path.read_text()))})
    read = model2vec.StaticModel.from_pretrained(folder)
    vectors = read.encode(PLAIN)
    told(name, tokenizer, vectors, marks=False)


def without_post(tokenizer):
    told = json.loads(tokenizer.backend_tokenizer.to_str()) | {"post_processor": None}
    return tokenizers.Tokenizer.from_str(json.dumps(told))


def all_pieces(normalizer, around):
    """A tokenizer as Model2Vec 0.5 and 0.6 made them: pieces of all kinds, some of several words,
    longer ones likelier, and signs set apart."""
    words = json.loads(shared.word_piece().backend_tokenizer.to_str())["model"]["vocab"]
    words = [word for word in words if "[" not in word]
    pieces = [word[2:] if word.startswith("##") else f"▁{word}" for word in words]
    pieces = ["[PAD]", "[UNK]", *pieces, "▁the▁lazy▁dog", "▁in▁spain", "▁isn▁'▁t", "▁"]
    pieces = list(dict.fromkeys(pieces))
    weights = np.array([len(piece) + piece.count("▁") for piece in pieces], dtype=float)
    signs = [normalizers.Replace(sign, f" {sign} " if around else f"{sign} ")
             for sign in string.punctuation]
    out = tokenizers.Tokenizer(models.Unigram(
        list(zip(pieces, np.log(weights / weights.sum()).tolist())), 1, False))
    out.normalizer = normalizers.Sequence([
        normalizer, *signs, normalizers.Replace(tokenizers.Regex(r"\s+"), " "),
        normalizers.Strip(left=False, right=True)])
    out.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    out.add_special_tokens(["[PAD]", "[UNK]"])
    return out


def clustered(kind):
    return lambda model: quantize_model(model, vocabulary_quantization=40, quantize_to=kind)


def static_module(name):
    """A table that sentence-transformers has trained, in a folder of its own."""
    folder = OUT / name
    fast = shared.word_piece().backend_tokenizer
    weights = table(fast, 113)
    module = StaticEmbedding(fast, embedding_weights=weights)
    folder.mkdir()
    model = st.SentenceTransformer(modules=[module], device="cpu")
    model.save(str(folder), create_model_card=False)
    inner = folder / "0_StaticEmbedding"
    inner.mkdir(exist_ok=True)
    for file in ["model.safetensors", "tokenizer.json"]:
        if (folder / file).exists():
            (folder / file).rename(inner / file)
    store(folder, {"modules.json": listed(("StaticEmbedding", "0_StaticEmbedding"),
                                          ("Normalize", "1_Normalize"))})
    read = st.SentenceTransformer(str(folder), device="cpu").double()
    told(name, fast, read.encode(PLAIN, convert_to_numpy=True), marks=False)


DIRECTORIES = {
    "bert-dense": bert_dense,
    "nomic": nomic,
    "nomic-own": nomic_own,
    "embedding-gemma": embedding_gemma,
    "qwen3-embedding": qwen3_embedding,
    "colbert": colbert,
    "late-modules": late_modules,
    "xlm-roberta-map": xlm_roberta_map,
    "model2vec": lambda name: static(
        name, without_post(shared.word_piece()), 110, normalize=True, max_length=12),
    "model2vec-words": lambda name: static(
        name, whole_words(), 111, change=lambda model: quantize_model(model, quantize_to="int8"),
        config=lambda all: {key: all[key] for key in all if key != "max_length"}),
    "model2vec-clusters": lambda name: static(
        name, without_post(shared.unigram()), 112, change=clustered("float32"), max_length=None,
        normalize=True),
    "model2vec-half": lambda name: static(
        name, without_post(shared.word_piece()), 114, change=clustered("float16")),
    "model2vec-pieces": lambda name: static(
        name, all_pieces(normalizers.BertNormalizer(), True), 115, normalize=True),
    "model2vec-behind": lambda name: static(
        name, all_pieces(normalizers.Precompiled(charsmap()), False), 116, normalize=True),
    "static": static_module,
}


def main():
    names = sys.argv[1:] or list(DIRECTORIES)
    for name in names:
        shutil.rmtree(OUT / name, ignore_errors=True)
        DIRECTORIES[name](name)
        files = [file for file in (OUT / name).rglob("*") if file.is_file()]
        print(f"{name}: {sum(file.stat().st_size for file in files)} bytes")


if __name__ == "__main__":
    main()
