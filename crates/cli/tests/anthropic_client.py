"""Anthropic's own Python client against a server at URL, with KEY: `anthropic_client.py URL KEY`.

Started by the test in clients.rs; what a check is stands in checks.py.
"""

import asyncio
import concurrent.futures
import json

import anthropic

from checks import KEY, URL, WEATHER_PARAMETERS, fails_with, idle, metric, run

CLIENT = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0, timeout=120)
MODEL = CLIENT.models.list().data[0].id
ASK = [{"role": "user", "content": "Why is the sky blue?"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "size": {"enum": ["big", "small"]}},
    "required": ["city", "size"],
    "additionalProperties": False,
}


# The API has them; this client has no arguments for them any more.
UNNAMED = ["temperature", "top_k", "top_p"]


def options(more):
    ask = {"model": MODEL, "messages": ASK, "temperature": 0, "max_tokens": 24} | more
    unnamed = {name: ask.pop(name) for name in UNNAMED if name in ask}
    return ask | {"extra_body": unnamed | ask.get("extra_body", {})}


def ask(client=CLIENT, **more):
    return client.messages.create(**options(more))


def text(answer):
    return "".join(block.text for block in answer.content if block.type == "text")


def prompt_tokens(usage):
    return usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens


def check_models():
    model = CLIENT.models.retrieve(MODEL)
    assert model.id == MODEL and model.type == "model" and model.created_at.year >= 2024, model
    fails_with(anthropic.NotFoundError, lambda: CLIENT.models.retrieve("no-such-model"))


def check_whole_and_streamed_are_the_same():
    whole = ask()
    assert text(whole).strip() and whole.role == "assistant" and whole.type == "message", whole
    assert whole.stop_reason == "max_tokens" and whole.usage.output_tokens == 24, whole
    assert whole.model == MODEL and whole.id.startswith("msg_"), whole
    assert whole.ingle["left_machine"] is False, whole
    with CLIENT.messages.stream(**options({})) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_message()
    assert text(final) == text(whole), (final, whole)
    assert final.stop_reason == "max_tokens" and final.usage.output_tokens == 24, final
    assert prompt_tokens(final.usage) == prompt_tokens(whole.usage), final
    assert events.count("content_block_delta") > 10, events
    raw = [event.type for event in ask(stream=True)]
    deltas = [kind for kind in raw if kind == "content_block_delta"]
    begin, end = ["message_start", "content_block_start"], ["message_delta", "message_stop"]
    assert raw == begin + deltas + ["content_block_stop"] + end, raw


def check_an_answer_ends_by_itself():
    messages = [{"role": "user", "content": "Reply with the single word: yes"}]
    answer = ask(messages=messages, max_tokens=400)
    assert answer.stop_reason == "end_turn" and answer.stop_sequence is None, answer


def check_message_shapes():
    plain = text(ask())
    parts = [{"type": "text", "text": ASK[0]["content"], "cache_control": {"type": "ephemeral"}}]
    assert text(ask(messages=[{"role": "user", "content": parts}])) == plain
    rule = "Answer in French."
    blocks = [{"type": "text", "text": rule, "cache_control": {"type": "ephemeral"}}]
    assert text(ask(system=rule)) == text(ask(system=blocks)) != plain
    before = ask()
    turns = [*ASK, {"role": "assistant", "content": before.content}]
    again = ask(messages=[*turns, {"role": "user", "content": "Go on."}])
    assert text(again), "an answer can be sent back as it came"


def check_stop_sequences():
    whole = text(ask())
    stop = whole[8:14]
    answer = ask(stop_sequences=["never said", stop])
    assert text(answer) == whole[: whole.index(stop)], (whole, answer)
    assert answer.stop_reason == "stop_sequence" and answer.stop_sequence == stop, answer


def check_sampling():
    greedy = text(ask())
    assert text(ask(temperature=1.0, top_k=1)) == greedy
    assert text(ask(temperature=1.0, top_p=1e-6)) == greedy


def check_tokens_are_counted():
    for system in ("Be brief.", ""):
        more = {"system": system} if system else {}
        count = CLIENT.messages.count_tokens(model=MODEL, messages=ASK, **more).input_tokens
        assert count == prompt_tokens(ask(**more).usage), (count, system)


def check_cached_prompts_are_told():
    long = [{"role": "user", "content": "The sky is blue over the sea. " * 40}]
    first, second = ask(messages=long, max_tokens=2), ask(messages=long, max_tokens=2)
    assert second.usage.cache_read_input_tokens > 100, second.usage
    assert prompt_tokens(first.usage) == prompt_tokens(second.usage)


def check_structured_output():
    shape = {"format": {"type": "json_schema", "schema": SCHEMA}}
    ask_city = [{"role": "user", "content": "Name a city as JSON with its size."}]
    answer = ask(messages=ask_city, max_tokens=200, extra_body={"output_config": shape})
    value = json.loads(text(answer))
    assert set(value) == {"city", "size"} and value["size"] in ("big", "small"), value


PLACE = [{"role": "user", "content": "What is the weather in Bern?"}]
WEATHER = {
    "name": "weather",
    "description": "The weather at a place, now.",
    "input_schema": WEATHER_PARAMETERS,
}
FORCED = {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "weather"}, "max_tokens": 100}


def check_streamed_tool_calls():
    whole = ask(messages=PLACE, **FORCED)
    assert whole.stop_reason == "tool_use", whole
    (call,) = whole.content
    assert call.name == "weather" and call.input["unit"] in ("celsius", "fahrenheit"), whole
    with CLIENT.messages.stream(**options({"messages": PLACE, **FORCED})) as stream:
        parts = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert len(parts) > 4 and json.loads("".join(parts)) == call.input, parts
    assert final.content[0].input == call.input and final.stop_reason == "tool_use", final


def check_a_tool_loop():
    messages = list(PLACE)
    for turn in range(10):
        answer = ask(messages=messages, **FORCED)
        call = answer.content[-1]
        assert call.type == "tool_use" and set(call.input) == {"place", "unit"}, answer
        said = [{"type": "text", "text": f"{turn} degrees"}]
        result = {"type": "tool_result", "tool_use_id": call.id, "content": said}
        messages.append({"role": "assistant", "content": answer.content})
        messages.append({"role": "user", "content": [result]})
    last = ask(messages=messages, tools=[WEATHER], tool_choice={"type": "none"})
    assert text(last) and all(block.type == "text" for block in last.content), last


def check_errors():
    error = fails_with(anthropic.BadRequestError, lambda: ask(extra_body={"tempratur": 1}))
    assert "temperature" in str(error) and error.request_id, error
    assert error.body["error"]["type"] == "invalid_request_error", error.body
    assert error.body["request_id"] == error.request_id, error.body
    source = {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}
    picture = {"type": "image", "source": source}
    for more, words in [
        ({"temperature": 1.5}, "between 0 and 1"),
        ({"messages": [{"role": "user", "content": [picture]}]}, "text alone"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "custom"),
    ]:
        assert words in str(fails_with(anthropic.BadRequestError, lambda: ask(**more))), more
    error = fails_with(anthropic.NotFoundError, lambda: ask(model="no-such-model"))
    assert error.body["error"]["type"] == "not_found_error" and MODEL in str(error), error
    stranger = CLIENT.with_options(api_key="not-the-key")
    error = fails_with(anthropic.AuthenticationError, lambda: ask(stranger))
    assert error.body["error"]["type"] == "authentication_error", error
    long = [{"role": "user", "content": "sky " * 200_000}]
    for stream in (False, True):
        call = lambda: ask(messages=long, stream=stream)
        assert "context" in str(fails_with(anthropic.BadRequestError, call))
    assert text(ask()), "the server goes on"


def check_many_at_once():
    alone = text(ask())
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        texts = [f.result() for f in [pool.submit(lambda: text(ask())) for _ in range(8)]]
    assert texts == [alone] * 8, texts


def check_the_async_client():
    async def streamed():
        async with anthropic.AsyncAnthropic(base_url=URL, api_key=KEY) as client:
            async with client.messages.stream(**options({})) as stream:
                return "".join([piece async for piece in stream.text_stream])

    assert asyncio.run(streamed()) == text(ask())


def check_cancelling_frees_what_was_held():
    messages = [{"role": "user", "content": "Count from 1 to 1000, one number a line."}]
    stream = ask(messages=messages, max_tokens=4000, stream=True)
    for _ in range(6):
        next(stream)
    assert metric("ingle_server_answers_in_flight") == 1
    stream.close()
    idle()
    assert text(ask()), "the server goes on"


run(globals())
