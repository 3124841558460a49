"""OpenAI's own Python client against a server at BASE_URL, with KEY: `openai_client.py URL KEY`.

Started by the test in clients.rs; what a check is stands in checks.py.
"""

import asyncio
import concurrent.futures
import json
import re
import time

import openai

from checks import KEY, URL, WEATHER_PARAMETERS, fails_with, idle, metric, run

CLIENT = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0, timeout=120)
MODEL = CLIENT.models.list().data[0].id
ASK = [{"role": "user", "content": "Why is the sky blue?"}]
ENDLESS = {"max_tokens": 4000, "extra_body": {"ignore_eos": True}}


def chat(client=CLIENT, **options):
    options = {"model": MODEL, "messages": ASK, "temperature": 0, "max_tokens": 24} | options
    return client.chat.completions.create(**options)


def text(answer, choice=0):
    return answer.choices[choice].message.content


def check_models():
    model = CLIENT.models.retrieve(MODEL)
    assert model.id == MODEL and model.object == "model", model
    fails_with(openai.NotFoundError, lambda: CLIENT.models.retrieve("no-such-model"))


def check_whole_and_streamed_are_the_same():
    whole = chat()
    assert text(whole).strip(), whole
    assert whole.choices[0].message.role == "assistant", whole
    assert whole.choices[0].finish_reason == "length", whole
    assert whole.usage.completion_tokens == 24, whole.usage
    total = whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert whole.usage.total_tokens == total, whole.usage
    assert whole.ingle["left_machine"] is False, whole
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == text(whole), (said, text(whole))
    assert len(chunks) > 10, "in pieces"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens, chunks[-1]
    assert chunks[-1].ingle["left_machine"] is False, chunks[-1]
    plain = list(chat(stream=True))
    assert all(c.choices and c.usage is None for c in plain), "no usage where none is asked for"


def check_an_answer_ends_by_itself():
    messages = [{"role": "user", "content": "Reply with the single word: yes"}]
    answer = chat(messages=messages, max_tokens=400)
    assert answer.choices[0].finish_reason == "stop", answer
    assert "<|im_end|>" not in text(answer), answer


def check_message_shapes():
    parts = [{"type": "text", "text": "Why is the sky blue?"}]
    assert text(chat(messages=[{"role": "user", "content": parts}])) == text(chat())
    rule = "Answer in French."
    as_system = chat(messages=[{"role": "system", "content": rule}, *ASK])
    as_developer = chat(messages=[{"role": "developer", "content": rule}, *ASK])
    assert text(as_system) == text(as_developer) != text(chat())
    before = chat().choices[0].message.model_dump()
    again = chat(messages=[*ASK, before, {"role": "user", "content": "Go on."}])
    assert text(again), "an answer can be sent back as it came"


def check_choices_and_seeds():
    options = {"n": 3, "seed": 11, "temperature": 1.0, "max_tokens": 12}
    first, second = chat(**options), chat(**options)
    texts = [text(first, i) for i in range(3)]
    assert texts == [text(second, i) for i in range(3)], (first, second)
    assert [c.index for c in first.choices] == [0, 1, 2]
    assert len(set(texts)) == 3, texts
    assert first.usage.completion_tokens == 36, first.usage
    streamed = ["", "", ""]
    for chunk in chat(stream=True, **options):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts, (streamed, texts)
    alone = chat(**(options | {"n": 1, "seed": 12}))
    assert text(alone) == texts[1], "the second choice draws with the next seed"


def check_stop():
    whole = text(chat())
    stop = whole[8:14]
    for stops in (stop, [stop, "never said"]):
        answer = chat(stop=stops)
        assert text(answer) == whole[: whole.index(stop)], (whole, answer)
        assert answer.choices[0].finish_reason == "stop", answer


def check_sampling_parameters():
    greedy = text(chat())
    extra = {"top_k": 1, "min_p": 0.1, "typical_p": 1.0, "repetition_penalty": 1.0}
    one = chat(temperature=1.0, extra_body=extra, seed=5)
    assert text(one) == greedy, "the likeliest of one"
    assert text(chat(temperature=1.0, top_p=1e-6, seed=5)) == greedy
    token = chat(logprobs=True, max_tokens=1).choices[0].logprobs.content[0].id
    biased = chat(logit_bias={str(token): -100}, max_tokens=4, logprobs=True)
    assert biased.choices[0].logprobs.content[0].id != token, biased
    assert text(chat(frequency_penalty=2, presence_penalty=2)), "penalties are taken"
    assert chat(max_completion_tokens=3, max_tokens=None).usage.completion_tokens == 3


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


def person(text):
    value = json.loads(text)
    assert list(value) == ["name", "age", "tags"], value
    assert len(value["name"]) <= 20 and 0 <= value["age"] <= 120, value
    assert len(value["tags"]) <= 2 and set(value["tags"]) <= {"a", "b"}, value
    return value


def schema(schema, **more):
    wrapped = {"name": "person", "schema": schema, **more}
    return {"type": "json_schema", "json_schema": wrapped}


def check_structured_output():
    wanted = {"response_format": schema(PERSON, strict=True), "max_tokens": 200}
    whole = chat(**wanted)
    person(text(whole))
    assert whole.choices[0].finish_reason == "stop", whole
    streamed = "".join(c.choices[0].delta.content or "" for c in chat(stream=True, **wanted))
    assert streamed == text(whole), streamed
    several = chat(n=3, temperature=1.5, seed=3, **wanted)
    assert len({c.message.content for c in several.choices}) > 1, several
    for choice in several.choices:
        # Drawn so wildly, one may be cut short; none is complete and wrong.
        if choice.finish_reason == "length":
            assert any("cut short" in note for note in several.ingle["notes"]), several
        else:
            person(choice.message.content)
    assert any(c.finish_reason == "stop" for c in several.choices), several
    cut = chat(response_format=schema(PERSON), max_tokens=5)
    assert cut.choices[0].finish_reason == "length", cut
    assert "cut short" in cut.ingle["notes"][0], cut
    anything = text(chat(response_format={"type": "json_object"}, max_tokens=300, temperature=1, seed=1))
    assert anything.startswith("{"), anything


def check_constraints_of_other_servers():
    gbnf = 'root ::= "yes" | "no" (" " root)?'
    rows = [
        ({"guided_regex": "[a-c]{3}"}, "[a-c]{3}"),
        ({"guided_choice": ["left", "right"]}, "left|right"),
        ({"structured_outputs": {"choice": ["left", "right"]}}, "left|right"),
        ({"guided_json": {"enum": [7, 8]}}, "7|8"),
        ({"guided_grammar": 'start: "up" | "down"'}, "up|down"),
        ({"grammar": gbnf}, "((no )*(yes|no))"),
        ({"json_schema": {"const": "x"}}, '"x"'),
    ]
    for extra, pattern in rows:
        said = text(chat(extra_body=extra, max_tokens=60))
        assert re.fullmatch(pattern, said), (extra, said)
        prompt = {"model": MODEL, "prompt": "Say:", "max_tokens": 60, "temperature": 0}
        said = CLIENT.completions.create(extra_body=extra, **prompt).choices[0].text
        assert re.fullmatch(pattern, said), (extra, said)
    rows = [
        ({"response_format": schema({"type": "object", "if": {}, "then": {}})}, "if"),
        ({"extra_body": {"guided_regex": "(a"}}, "regular expression"),
        ({"extra_body": {"grammar": "root ::= ("}}, "line 1"),
    ]
    for options, words in rows:
        error = fails_with(openai.BadRequestError, lambda: chat(**options))
        assert words in error.message, error


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather at a place, now.",
            "parameters": WEATHER_PARAMETERS,
        },
    },
    {"type": "function", "function": {"name": "rest"}},
]
WEATHER = {"type": "function", "function": {"name": "weather"}}
PLACE = [{"role": "user", "content": "What is the weather in Bern?"}]


def weather(call):
    assert call.type == "function" and call.function.name == "weather" and call.id, call
    arguments = json.loads(call.function.arguments)
    assert set(arguments) == {"place", "unit"}, arguments
    assert arguments["unit"] in ("celsius", "fahrenheit"), arguments
    return arguments


def check_forced_tool_calls():
    wanted = {"messages": PLACE, "tools": TOOLS, "max_tokens": 200}
    named = chat(tool_choice=WEATHER, **wanted)
    assert named.choices[0].finish_reason == "tool_calls", named
    message = named.choices[0].message
    assert message.content is None and len(message.tool_calls) == 1, message
    weather(message.tool_calls[0])
    required = chat(tool_choice="required", parallel_tool_calls=False, **wanted)
    assert len(required.choices[0].message.tool_calls) == 1, required
    several = chat(tool_choice="required", n=4, temperature=1, seed=5, **wanted)
    for choice in several.choices:
        for call in choice.message.tool_calls:
            assert call.function.name in ("weather", "rest"), call
            # At the limit the last call is cut; the finish says so.
            if choice.finish_reason == "tool_calls":
                json.loads(call.function.arguments)
            elif call is not choice.message.tool_calls[-1]:
                json.loads(call.function.arguments)
    ids = [call.id for c in several.choices for call in c.message.tool_calls]
    assert len(ids) == len(set(ids)), ids


def check_streamed_tool_calls():
    wanted = {"messages": PLACE, "tools": TOOLS, "max_tokens": 200, "tool_choice": WEATHER}
    whole = chat(**wanted).choices[0].message.tool_calls[0].function
    chunks = [c.choices[0] for c in chat(stream=True, **wanted) if c.choices]
    parts = [part for chunk in chunks for part in chunk.delta.tool_calls or []]
    assert parts[0].function.name == "weather" and parts[0].id, parts
    assert all(part.function.name is None and part.id is None for part in parts[1:]), parts
    assert "".join(part.function.arguments for part in parts) == whole.arguments, parts
    assert len(parts) > 4, "in pieces"
    assert chunks[-1].finish_reason == "tool_calls", chunks[-1]
    assert all(not chunk.delta.content for chunk in chunks), "nothing of a call is text"
    cut = chat(**(wanted | {"max_tokens": 12}))
    assert cut.choices[0].finish_reason == "length" and cut.ingle["notes"], cut


def check_a_tool_loop():
    messages = list(PLACE)
    for turn in range(10):
        answer = chat(messages=messages, tools=TOOLS, tool_choice=WEATHER, max_tokens=100)
        message = answer.choices[0].message
        weather(message.tool_calls[0])
        messages.append(message.model_dump(exclude_none=True))
        result = json.dumps({"degrees": turn})
        messages.append({"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": result})
        messages = messages[-4:] if len(messages) > 7 else messages
    last = chat(messages=PLACE + messages[-2:], tools=TOOLS, tool_choice="none")
    assert text(last) and not last.choices[0].message.tool_calls, last


def check_tools_that_are_not_called():
    free = chat(tools=TOOLS, max_tokens=40)
    message = free.choices[0].message
    assert message.tool_calls or text(free).strip(), free
    none = chat(tools=TOOLS, tool_choice="none")
    assert text(none) == text(chat()), "with none the model is not told of tools"


def check_reasoning_can_be_asked_for():
    # The model has none: what it is told changes nothing.
    for options in ({"reasoning_effort": "none"}, {"reasoning_effort": "low"}):
        answer = chat(**options)
        assert text(answer) == text(chat()), answer
        assert answer.usage.completion_tokens_details.reasoning_tokens == 0, answer.usage
    error = fails_with(openai.BadRequestError, lambda: chat(reasoning_effort="much"))
    assert error.param == "reasoning_effort", error


def check_the_last_turn_is_continued():
    begun = {"role": "assistant", "content": "The sky is"}
    extra = {"continue_final_message": True, "add_generation_prompt": False}
    goes_on = text(chat(messages=[*ASK, begun], extra_body=extra))
    assert goes_on.startswith(" "), goes_on


def check_logprobs():
    answer = chat(logprobs=True, top_logprobs=3, max_tokens=8)
    content = answer.choices[0].logprobs.content
    assert len(content) == 8, content
    assert b"".join(bytes(t.bytes) for t in content).decode() == text(answer), content
    for token in content:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3, token
        assert token.top_logprobs[0].token == token.token, "greedy takes the likeliest"
        order = [top.logprob for top in token.top_logprobs]
        assert order == sorted(order, reverse=True), token
    assert chat().choices[0].logprobs is None


def check_errors():
    error = fails_with(openai.BadRequestError, lambda: chat(extra_body={"tempratur": 1}))
    assert error.param == "tempratur" and "temperature" in error.message, error
    rows = [
        ({"temperature": 3}, "temperature"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"logit_bias": {"99999999": 1}}, "logit_bias"),
    ]
    for options, param in rows:
        error = fails_with(openai.BadRequestError, lambda: chat(**options))
        assert error.param == param, (param, error)
    error = fails_with(openai.NotFoundError, lambda: chat(model="no-such-model"))
    assert error.code == "model_not_found", error
    stranger = CLIENT.with_options(api_key="not-the-key")
    fails_with(openai.AuthenticationError, lambda: chat(stranger))
    fails_with(openai.AuthenticationError, lambda: stranger.models.list())
    long = [{"role": "user", "content": "sky " * 200_000}]
    for stream in (False, True):
        call = lambda: chat(messages=long, stream=stream)
        assert "context" in fails_with(openai.BadRequestError, call).message
    assert text(chat()), "the server goes on"


def check_completions():
    options = {"model": MODEL, "temperature": 0, "max_tokens": 8}
    prompts = ["The capital of France is", "One, two, three,"]
    alone = [CLIENT.completions.create(prompt=p, **options).choices[0].text for p in prompts]
    both = CLIENT.completions.create(prompt=prompts, echo=True, **options)
    assert [c.text for c in both.choices] == [p + t for p, t in zip(prompts, alone)], both
    assert "Paris" in alone[0], alone
    scored = CLIENT.completions.create(prompt=prompts[0], logprobs=2, **options)
    logprobs = scored.choices[0].logprobs
    assert "".join(logprobs.tokens) == alone[0] and len(logprobs.top_logprobs) == 8, scored
    stream = CLIENT.completions.create(prompt=prompts[0], stream=True, **options)
    assert "".join(chunk.choices[0].text for chunk in stream) == alone[0]
    defaults = CLIENT.completions.create(model=MODEL, prompt="x", extra_body={"ignore_eos": True})
    assert defaults.usage.completion_tokens == 16, "OpenAI's default"
    suffix = lambda: CLIENT.completions.create(prompt="x", suffix="y", **options)
    assert fails_with(openai.BadRequestError, suffix).param == "suffix"


def check_what_is_told_of_tokens():
    prompt, options = "The capital of France is", {"model": MODEL, "temperature": 0, "max_tokens": 8}
    create = lambda **more: CLIENT.completions.create(prompt=prompt, **{**options, **more})
    extra = {"prompt_logprobs": 2, "return_token_ids": True}
    whole = create(extra_body=extra).choices[0]
    ids, scores = whole.prompt_token_ids, whole.prompt_logprobs
    assert scores[0] is None and len(scores) == len(ids) > 3, whole
    own = [entry[str(token)]["logprob"] for token, entry in zip(ids[1:], scores[1:])]
    assert all(logprob <= 0 for logprob in own) and len(whole.token_ids) == 8, whole
    stream = list(create(extra_body=extra, stream=True))
    assert stream[0].choices[0].prompt_logprobs == scores, stream[0]
    choices = [choice for chunk in stream for choice in chunk.choices]
    told = [token for choice in choices for token in getattr(choice, "token_ids", [])]
    assert told == whole.token_ids, (told, whole)
    echo = create(echo=True, logprobs=2, max_tokens=0).choices[0]
    assert (echo.text, echo.finish_reason) == (prompt, "length"), echo
    assert echo.logprobs.token_logprobs == [None] + own, echo
    named = create(logprobs=0, extra_body={"return_tokens_as_token_ids": True}).choices[0]
    assert named.logprobs.tokens == [f"token_id:{token}" for token in told], named
    answer = chat(extra_body=extra)
    assert len(answer.prompt_logprobs) == len(answer.prompt_token_ids), answer
    best = create(n=2, best_of=5, logprobs=0, temperature=1, seed=3)
    mean = lambda choice: sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)
    assert mean(best.choices[0]) >= mean(best.choices[1]) and len(best.choices) == 2, best
    cut = create(extra_body={"truncate_prompt_tokens": 2})
    assert cut.usage.prompt_tokens == 2 and "last 2 of" in cut.ingle["notes"][0], cut
    beams = create(n=2, extra_body={"use_beam_search": True, "length_penalty": 0.8})
    assert len({choice.text for choice in beams.choices}) == 2, beams
    order = {"samplers": ["top_k", "temperature"], "top_k": 1}
    assert create(temperature=2, extra_body=order).choices[0].text == whole.text
    order = lambda: create(extra_body={"samplers": ["top_k", "top_z"]})
    assert fails_with(openai.BadRequestError, order).param == "samplers[1]"


def check_tokens():
    body = {"prompt": "The sky is blue."}
    tokens = CLIENT.post("/tokenize", body=body, cast_to=object)["tokens"]
    assert CLIENT.post("/detokenize", body={"tokens": tokens}, cast_to=object) == body
    options = {"model": MODEL, "temperature": 0, "max_tokens": 6}
    by_text = CLIENT.completions.create(**body, **options).choices[0].text
    assert CLIENT.completions.create(prompt=tokens, **options).choices[0].text == by_text


def check_many_at_once():
    alone = text(chat())
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        texts = [f.result() for f in [pool.submit(lambda: text(chat())) for _ in range(8)]]
    assert texts == [alone] * 8, texts


def check_the_async_client():
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY) as client:
            stream = await chat(client, stream=True)
            return "".join([c.choices[0].delta.content or "" async for c in stream])

    assert asyncio.run(ask()) == text(chat())


def check_cancelling_frees_what_was_held():
    stream = chat(stream=True, **ENDLESS)
    for _ in range(4):
        next(stream)
    assert metric("ingle_server_answers_in_flight") == 1
    assert metric("ingle_engine_kv_blocks_used") > 0
    stream.close()
    idle()
    hasty = CLIENT.with_options(timeout=0.5)
    fails_with(openai.APITimeoutError, lambda: chat(hasty, **ENDLESS))
    idle()
    assert text(chat()), "the server goes on"


def batch_line(at, **body):
    body = {"model": MODEL, "messages": ASK, "temperature": 0, "max_tokens": 4 + at} | body
    return json.dumps({"custom_id": f"id-{at}", "method": "POST", "url": BATCHED, "body": body})


BATCHED = "/v1/chat/completions"


def begin_batch(lines):
    contents = "\n".join(lines).encode()
    file = CLIENT.files.create(file=("jobs.jsonl", contents), purpose="batch")
    assert CLIENT.files.content(file.id).read() == contents
    begun = {"endpoint": BATCHED, "completion_window": "24h", "metadata": {"of": "a test"}}
    return CLIENT.batches.create(input_file_id=file.id, **begun)


def ended_batch(batch):
    end = time.monotonic() + 120
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        assert time.monotonic() < end, batch
        time.sleep(0.05)
        batch = CLIENT.batches.retrieve(batch.id)
    return batch


def check_a_batch():
    lines = [batch_line(at) for at in range(6)] + [batch_line(6, max_tokens="many")]
    batch = ended_batch(begin_batch(lines))
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (7, 6, 1), batch
    assert batch.metadata == {"of": "a test"} and batch.completed_at, batch
    output = CLIENT.files.content(batch.output_file_id).text.splitlines()
    answers = [json.loads(line) for line in output]
    assert [answer["custom_id"] for answer in answers] == [f"id-{at}" for at in range(6)]
    said = [answer["response"]["body"]["choices"][0]["message"]["content"] for answer in answers]
    assert said == [text(chat(max_tokens=4 + at)) for at in range(6)], "as if asked alone"
    (failed,) = CLIENT.files.content(batch.error_file_id).text.splitlines()
    assert json.loads(failed)["response"]["status_code"] == 400, failed
    assert batch.id in [listed.id for listed in CLIENT.batches.list(limit=1)]


def check_a_batch_is_cancelled():
    batch = begin_batch([batch_line(at, max_tokens=4000, ignore_eos=True) for at in range(3)])
    batch = ended_batch(CLIENT.batches.cancel(batch.id))
    assert batch.status == "cancelled", batch
    fails_with(openai.NotFoundError, lambda: CLIENT.batches.retrieve("batch_none"))
    idle()


def check_files():
    file = CLIENT.files.create(file=("a.txt", b"abc"), purpose="user_data")
    assert CLIENT.files.retrieve(file.id).bytes == 3
    assert file.id in [listed.id for listed in CLIENT.files.list(purpose="user_data")]
    assert CLIENT.files.delete(file.id).deleted
    fails_with(openai.NotFoundError, lambda: CLIENT.files.content(file.id))
    wrong = lambda: CLIENT.files.create(file=("a.txt", b"abc"), purpose="fine-tune")
    assert fails_with(openai.BadRequestError, wrong).param == "purpose"
    fails_with(openai.BadRequestError, lambda: begin_batch(["no JSON"]) and CLIENT.batches.create(
        input_file_id="file-none", endpoint=BATCHED, completion_window="24h"))


run(globals())
