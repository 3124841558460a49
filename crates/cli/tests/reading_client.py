"""A client's checks of models that read, against a server that has MiniLM, at URL with KEY:
`reading_client.py URL KEY PACKAGE`, where the package is `openai`, `cohere` or `ollama`.

Started by the test in clients.rs; what a check is stands in checks.py.
"""

import base64
import importlib
import json
import math
import struct
import sys
import urllib.request

from checks import KEY, URL, fails_with, run

PACKAGE = sys.argv[3]
THEIRS = importlib.import_module(PACKAGE)
MODEL = "minilm"
# Two that mean nearly the same, and one that does not.
TEXTS = ["A man is eating food.", "A man is eating a piece of bread.", "The stock market fell."]
# The first numbers of the vector of "This is an example sentence", as the model's own page and
# sentence-transformers have it.
EXAMPLE = ("This is an example sentence", [0.06765689, 0.06349594, 0.0487131])


def near(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def right(vectors, length=384):
    """Vectors of TEXTS, of length 1, are near where their texts are."""
    assert [len(vector) for vector in vectors] == [length] * 3, [len(vector) for vector in vectors]
    for vector in vectors:
        assert abs(near(vector, vector) - 1) < 1e-4, near(vector, vector)
    alike, apart = near(vectors[0], vectors[1]), near(vectors[0], vectors[2])
    assert alike > 0.7 and apart < 0.2, (alike, apart)


def is_example(vector):
    assert all(abs(a - b) < 2e-3 for a, b in zip(vector, EXAMPLE[1])), vector[:3]


def post(path, body):
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{URL}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer), answer.headers


def openai():
    return THEIRS.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0, timeout=120)


def check_openai_vectors():
    # The client asks for base64 and decodes it.
    answer = openai().embeddings.create(model=MODEL, input=TEXTS)
    assert answer.object == "list" and [row.index for row in answer.data] == [0, 1, 2]
    right([row.embedding for row in answer.data])
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 15, answer.usage
    assert answer.ingle["left_machine"] is False, answer.ingle


def check_openai_floats_are_what_base64_is():
    plain = openai().embeddings.create(model=MODEL, input=EXAMPLE[0], encoding_format="float")
    coded = openai().embeddings.create(model=MODEL, input=EXAMPLE[0])
    is_example(plain.data[0].embedding)
    apart = zip(plain.data[0].embedding, coded.data[0].embedding, strict=True)
    assert all(abs(a - b) < 1e-7 for a, b in apart)


def check_openai_dimensions():
    answer = openai().embeddings.create(model=MODEL, input=TEXTS, dimensions=128)
    right([row.embedding for row in answer.data], 128)
    fails_with(
        THEIRS.BadRequestError,
        lambda: openai().embeddings.create(model=MODEL, input="a", dimensions=385),
    )


def check_openai_batches_change_nothing():
    one = openai().embeddings.create(model=MODEL, input=TEXTS[1]).data[0].embedding
    all_ = openai().embeddings.create(model=MODEL, input=TEXTS * 8).data
    assert all(row.embedding == one for row in all_[1::3]), "batch invariance"


def check_openai_long_texts():
    long = "word " * 1000
    error = fails_with(
        THEIRS.BadRequestError, lambda: openai().embeddings.create(model=MODEL, input=long)
    )
    assert "tokens" in str(error), error
    for how in ["END", "START", "CHUNK"]:
        answer = openai().embeddings.create(model=MODEL, input=long, extra_body={"truncate": how})
        assert math.isclose(near(*[answer.data[0].embedding] * 2), 1, abs_tol=1e-4)


def check_openai_no_chat_with_a_model_that_reads():
    ask = [{"role": "user", "content": "Hi"}]
    error = fails_with(
        THEIRS.BadRequestError,
        lambda: openai().chat.completions.create(model=MODEL, messages=ask),
    )
    assert "writes none" in str(error), error


def check_openai_models_say_what_they_read():
    model = next(iter(openai().models.list()))
    assert model.id == MODEL and model.reads["dimensions"] == 384, model
    assert model.chat is False and model.reads["max_tokens"] > 100, model


def cohere():
    return THEIRS.ClientV2(base_url=URL, api_key=KEY, timeout=120)


def check_cohere_vectors():
    answer = cohere().embed(
        model=MODEL,
        texts=TEXTS,
        input_type="search_document",
        embedding_types=["float", "int8", "uint8", "binary", "ubinary", "base64"],
    )
    told = answer.embeddings
    right(told.float_)
    assert [len(bits) for bits in told.ubinary] == [48] * 3
    assert [[bits - 128 for bits in row] for row in told.ubinary] == told.binary
    assert [[number - 128 for number in row] for row in told.uint8] == told.int8
    scale = math.sqrt(near(told.int8[0], told.int8[0]) * near(told.int8[1], told.int8[1]))
    floats = near(told.float_[0], told.float_[1])
    assert abs(near(told.int8[0], told.int8[1]) / scale - floats) < 0.01
    first = struct.unpack("<384f", base64.b64decode(told.base64[0]))
    assert all(abs(a - b) < 1e-7 for a, b in zip(first, told.float_[0], strict=True))
    assert answer.texts == TEXTS and answer.meta.billed_units.input_tokens > 15


def check_cohere_dimensions():
    answer = cohere().embed(
        model=MODEL,
        texts=TEXTS,
        input_type="clustering",
        embedding_types=["float"],
        output_dimension=64,
    )
    right(answer.embeddings.float_, 64)


def check_cohere_order():
    answer = cohere().rerank(model=MODEL, query="What is he eating?", documents=TEXTS, top_n=2)
    assert len(answer.results) == 2 and {row.index for row in answer.results} == {0, 1}, answer
    assert answer.results[0].relevance_score >= answer.results[1].relevance_score


def check_cohere_order_of_the_first_version():
    client = THEIRS.Client(base_url=URL, api_key=KEY, timeout=120)
    answer = client.rerank(model=MODEL, query="money", documents=TEXTS, return_documents=True)
    assert answer.results[0].index == 2 and answer.results[0].document.text == TEXTS[2], answer


def check_cohere_errors():
    error = fails_with(
        THEIRS.core.api_error.ApiError,
        lambda: cohere().embed(model="none", texts=["a"], input_type="clustering"),
    )
    assert error.status_code == 404 and "there is no model" in str(error.body), error


def ollama():
    return THEIRS.Client(host=URL, headers={"Authorization": f"Bearer {KEY}"}, timeout=120)


def check_ollama_vectors():
    answer = ollama().embed(model=MODEL, input=TEXTS)
    right(answer.embeddings)
    assert answer.model == MODEL and answer.prompt_eval_count > 15 and answer.total_duration > 0
    right(ollama().embed(model=f"{MODEL}:latest", input=TEXTS, dimensions=128).embeddings, 128)


def check_ollama_one_vector():
    is_example(ollama().embeddings(model=MODEL, prompt=EXAMPLE[0]).embedding)


def check_ollama_long_texts():
    long = "word " * 1000
    error = fails_with(
        THEIRS.ResponseError, lambda: ollama().embed(model=MODEL, input=long, truncate=False)
    )
    assert error.status_code == 400, error
    assert len(ollama().embed(model=MODEL, input=long, truncate=True).embeddings[0]) == 384


def check_ollama_capabilities():
    assert ollama().show(MODEL).capabilities == ["embedding"]


def check_ollama_the_paths_that_have_no_client_here():
    """Text Embeddings Inference's and vLLM's."""
    vectors, headers = post("/embed", {"inputs": TEXTS})
    right(vectors)
    assert json.loads(headers["x-ingle-receipt"])["model"] == MODEL
    inputs = {"source_sentence": TEXTS[0], "sentences": TEXTS}
    scores, _ = post("/similarity", {"inputs": inputs})
    assert abs(scores[0] - 1) < 1e-4 and scores[1] > 0.7 > 0.2 > scores[2], scores
    pooled, _ = post("/pooling", {"input": EXAMPLE[0]})
    is_example(pooled["data"][0]["data"])
    scored, _ = post("/v1/score", {"text_1": TEXTS[0], "text_2": TEXTS[1:]})
    assert [row["index"] for row in scored["data"]] == [0, 1], scored


run({name: it for name, it in globals().items() if name.startswith(f"check_{PACKAGE}_")})
