"""Ollama's own Python client against a server at URL, with KEY: `ollama_client.py URL KEY`.

Started by the test in clients.rs; what a check is stands in checks.py.
"""

import asyncio
import json
import urllib.error
import urllib.request

import ollama

from checks import KEY, URL, WEATHER_PARAMETERS, fails_with, idle, metric, run

HEADERS = {"Authorization": f"Bearer {KEY}"}
CLIENT = ollama.Client(host=URL, headers=HEADERS, timeout=120)
MODEL = CLIENT.list().models[0].model
ASK = [{"role": "user", "content": "Why is the sky blue?"}]
GREEDY = {"temperature": 0, "num_predict": 24}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "size": {"enum": ["big", "small"]}},
    "required": ["city", "size"],
    "additionalProperties": False,
}


def chat(client=CLIENT, **more):
    return client.chat(**({"model": MODEL, "messages": ASK, "options": GREEDY} | more))


def text(answer):
    return answer.message.content


def fetch(method, path, body=None):
    """The status and body of a request that the client cannot be made to send."""
    data = None if body is None else json.dumps(body).encode()
    headers = HEADERS | {"Content-Type": "application/json"}
    request = urllib.request.Request(URL + path, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def check_it_is_found():
    assert fetch("HEAD", "/") == (200, "")
    assert "Ollama is running" in fetch("GET", "/")[1]
    version = json.loads(fetch("GET", "/api/version")[1])["version"]
    assert tuple(map(int, version.split("."))) >= (0, 6, 4), version


def check_models():
    (model,) = CLIENT.list().models
    assert model.size > 90_000_000 and len(model.digest) == 64, model
    assert model.details.format == "gguf" and model.details.family == "llama", model
    shown = CLIENT.show(MODEL)
    assert "completion" in shown.capabilities and "messages" in shown.template, shown
    assert shown.modelinfo["general.architecture"] == "llama", shown
    (running,) = CLIENT.ps().models
    assert running.model == MODEL and running.context_length > 1000, running
    assert fails_with(ollama.ResponseError, lambda: CLIENT.show("nothing")).status_code == 404


def check_whole_and_streamed_are_the_same():
    whole = chat()
    assert text(whole).strip() and whole.message.role == "assistant", whole
    assert whole.done and whole.done_reason == "length" and whole.eval_count == 24, whole
    assert whole.total_duration > whole.eval_duration > 0 and whole.prompt_eval_count > 5, whole
    parts = list(chat(stream=True))
    assert "".join(text(part) for part in parts) == text(whole), (parts, whole)
    assert len(parts) > 10 and [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].done_reason == "length" and parts[-1].eval_count == 24, parts[-1]
    assert text(chat(model=f"{MODEL}:latest")) == text(whole), "the tag that clients add"


def check_generate():
    said = CLIENT.generate(model=MODEL, prompt=ASK[0]["content"], options=GREEDY)
    assert said.response == text(chat()), "a prompt is a conversation's only turn"
    parts = CLIENT.generate(model=MODEL, prompt=ASK[0]["content"], options=GREEDY, stream=True)
    assert "".join(part.response for part in parts) == said.response
    system = "Answer in French."
    ruled = CLIENT.generate(model=MODEL, prompt=ASK[0]["content"], system=system, options=GREEDY)
    turns = [{"role": "system", "content": system}, *ASK]
    assert ruled.response == text(chat(messages=turns)) != said.response
    raw = {"temperature": 0, "num_predict": 4}
    raw = CLIENT.generate(model=MODEL, prompt="The capital of France is", raw=True, options=raw)
    assert "Paris" in raw.response, raw


def check_options():
    whole = text(chat())
    stop = whole[8:14]
    answer = chat(options=GREEDY | {"stop": [stop]})
    assert text(answer) == whole[: whole.index(stop)] and answer.done_reason == "stop", answer
    drawn = {"temperature": 1.0, "seed": 7, "num_predict": 12}
    assert text(chat(options=drawn)) == text(chat(options=drawn))
    assert text(chat(options=GREEDY | {"temperature": 1.0, "top_k": 1})) == whole
    assert text(chat(options=GREEDY | {"num_ctx": 2048, "num_gpu": 0, "num_thread": 2})) == whole


def check_structured_output():
    turns = [{"role": "user", "content": "Name a city as JSON with its size."}]
    answer = chat(messages=turns, format=SCHEMA, options=GREEDY | {"num_predict": 200})
    value = json.loads(text(answer))
    assert set(value) == {"city", "size"} and value["size"] in ("big", "small"), value


PLACE = [{"role": "user", "content": "What is the weather in Bern?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather at a place, now.",
        "parameters": WEATHER_PARAMETERS,
    },
}


def check_a_tool_loop():
    # Its client cannot force a call; the server can be told to.
    ask = {"model": MODEL, "tools": [WEATHER], "options": GREEDY | {"num_predict": 100}}
    turns = list(PLACE)
    for turn in range(10):
        body = ask | {"messages": turns, "tool_choice": "required", "stream": turn % 2 == 0}
        status, lines = fetch("POST", "/api/chat", body)
        assert status == 200, lines
        parts = [json.loads(line) for line in lines.splitlines()]
        (call, *_) = [it for part in parts for it in part["message"].get("tool_calls", [])]
        assert set(call["function"]["arguments"]) == {"place", "unit"}, parts
        turns.append({"role": "assistant", "content": "", "tool_calls": [call]})
        turns.append({"role": "tool", "tool_name": "weather", "content": f"{turn} degrees"})
    free = chat(messages=turns, tools=[WEATHER])
    assert free.message.tool_calls or text(free).strip(), free


def check_logprobs():
    answer = chat(logprobs=True, top_logprobs=2, options=GREEDY | {"num_predict": 4})
    assert len(answer.logprobs) == 4, answer
    assert all(len(it.top_logprobs) == 2 and it.logprob <= 0 for it in answer.logprobs), answer


def check_keeping_and_unloading():
    assert CLIENT.generate(model=MODEL, keep_alive=0).done_reason == "unload"
    assert CLIENT.generate(model=MODEL, keep_alive="10m").done_reason == "load"
    assert text(chat(keep_alive=-1)), "it is loaded again"


def check_errors():
    rows = [
        ("POST", "/api/chat", {"model": MODEL, "messages": ASK, "tempratur": 1}, 400, "unknown"),
        ("POST", "/api/chat", {"model": MODEL, "options": {"top_q": 1}}, 400, "top_p"),
        ("POST", "/api/chat", {"messages": ASK}, 400, "'model' is missing"),
        ("POST", "/api/generate", {"model": MODEL, "context": [1]}, 400, "/api/chat"),
        ("POST", "/api/generate", {"model": MODEL, "prompt": "x", "suffix": "y"}, 400, "filling in"),
        ("POST", "/api/pull", {"model": "smollm2"}, 403, "--allow-pull"),
        ("DELETE", "/api/delete", {"model": "smollm2"}, 403, "--allow-pull"),
        ("POST", "/api/embed", {"model": MODEL, "input": "x"}, 400, "does not read"),
        ("POST", "/api/push", {"model": MODEL}, 404, "no such path"),
    ]
    for method, path, body, status, words in rows:
        told, answer = fetch(method, path, body)
        error = json.loads(answer)["error"]
        assert told == status and words in error, (path, body, told, answer)
    error = fails_with(ollama.ResponseError, lambda: chat(model="no-such-model"))
    assert error.status_code == 404 and MODEL in error.error, error
    picture = [{"role": "user", "content": "x", "images": ["aGVsbG8="]}]
    error = fails_with(ollama.ResponseError, lambda: chat(messages=picture))
    assert error.status_code == 400 and "images" in error.error, error
    error = fails_with(ollama.ResponseError, lambda: chat(options={"num_ctx": 10_000_000}))
    assert error.status_code == 400 and "--context" in error.error, error
    stranger = ollama.Client(host=URL, headers={"Authorization": "Bearer not-the-key"})
    assert fails_with(ollama.ResponseError, lambda: chat(stranger)).status_code == 401


def check_the_async_client():
    async def ask():
        client = ollama.AsyncClient(host=URL, headers=HEADERS)
        stream = await client.chat(model=MODEL, messages=ASK, options=GREEDY, stream=True)
        return "".join([text(part) async for part in stream])

    assert asyncio.run(ask()) == text(chat())


def check_cancelling_frees_what_was_held():
    turns = [{"role": "user", "content": "Count from 1 to 1000, one number a line."}]
    stream = chat(messages=turns, options={"temperature": 0, "num_predict": 4000}, stream=True)
    for _ in range(4):
        next(stream)
    assert metric("ingle_server_answers_in_flight") == 1
    stream.close()
    idle()
    assert text(chat()), "the server goes on"


run(globals())
