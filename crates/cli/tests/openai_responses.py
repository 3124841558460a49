"""OpenAI's own Python client against a server's responses: `openai_responses.py URL KEY`.

Started by the test in clients.rs; what a check is stands in checks.py.
"""

import asyncio
import json
import time
from typing import Literal

import openai
import pydantic

from checks import KEY, URL, WEATHER_PARAMETERS, fails_with, idle, metric, run

CLIENT = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0, timeout=120)
MODEL = CLIENT.models.list().data[0].id
WORD = {"input": "Reply with the single word: yes", "max_output_tokens": 400}
ENDLESS = {"max_output_tokens": 4000, "extra_body": {"ignore_eos": True}}
ENDED = ("completed", "incomplete", "failed", "cancelled")


def respond(client=CLIENT, **options):
    usual = {"model": MODEL, "input": "Why is the sky blue?", "max_output_tokens": 24}
    return client.responses.create(**(usual | {"temperature": 0} | options))


def ended(response_id):
    end = time.monotonic() + 60
    while (response := CLIENT.responses.retrieve(response_id)).status not in ENDED:
        assert time.monotonic() < end, response
        time.sleep(0.02)
    return response


def check_whole_and_kept_are_the_same():
    whole = respond()
    assert whole.output_text.strip() and whole.object == "response", whole
    assert whole.status == "incomplete", whole
    assert whole.incomplete_details.reason == "max_output_tokens", whole
    assert whole.output[0].role == "assistant" and whole.output[0].status == "incomplete", whole
    assert whole.usage.output_tokens == 24, whole.usage
    total = whole.usage.input_tokens + whole.usage.output_tokens
    assert whole.usage.total_tokens == total, whole.usage
    assert whole.ingle["left_machine"] is False, whole
    assert CLIENT.responses.retrieve(whole.id) == whole
    chat = CLIENT.chat.completions.create(
        model=MODEL, temperature=0, max_tokens=24, messages=[{"role": "user", "content": "Why is the sky blue?"}]
    )
    assert chat.choices[0].message.content == whole.output_text, "the same as a chat"


def check_typed_events_accumulate_to_what_is_kept():
    with CLIENT.responses.stream(model=MODEL, temperature=0, **WORD) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events))), events
    names = [event.type.removeprefix("response.") for event in events]
    head = ["created", "in_progress", "output_item.added", "content_part.added"]
    tail = ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert names[:4] == head and names[-4:] == tail, names
    assert set(names[4:-4]) == {"output_text.delta"}, names
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == final.output_text, (said, final)
    kept = CLIENT.responses.retrieve(final.id)
    assert kept.output_text == said and kept.usage == final.usage, kept
    assert respond(**WORD).output_text == said, "streamed or not"


def check_a_conversation_by_ids():
    options = {"instructions": "Answer in French.", "max_output_tokens": 16}
    first = respond(**options)
    assert first.instructions == "Answer in French.", first
    second = respond(input="Go on.", previous_response_id=first.id)
    assert second.previous_response_id == first.id, second
    by_hand = [
        {"role": "user", "content": "Why is the sky blue?"},
        *[item.model_dump(exclude_none=True) for item in first.output],
        {"role": "user", "content": "Go on."},
    ]
    assert respond(input=by_hand).output_text == second.output_text, "what was said is told again"
    items = CLIENT.responses.input_items.list(second.id).data
    assert [item.content[0].text for item in items] == ["Go on."], items
    reference = {"type": "item_reference", "id": first.output[0].id}
    by_reference = [by_hand[0], reference, by_hand[-1]]
    assert respond(input=by_reference).output_text == second.output_text


TOOL = {
    "type": "function",
    "name": "weather",
    "description": "The weather at a place, now.",
    "parameters": WEATHER_PARAMETERS,
    "strict": False,
}
WEATHER = {"type": "function", "name": "weather"}


def check_a_tool_loop_by_ids():
    items, previous = "What is the weather in Bern?", None
    for turn in range(10):
        answer = respond(
            input=items,
            previous_response_id=previous,
            tools=[TOOL],
            tool_choice=WEATHER,
            parallel_tool_calls=False,
            max_output_tokens=100,
        )
        assert answer.status == "completed", answer
        [call] = answer.output
        assert call.type == "function_call" and call.name == "weather" and call.call_id, call
        assert set(json.loads(call.arguments)) == {"place", "unit"}, call
        output = json.dumps({"degrees": turn})
        items = [{"type": "function_call_output", "call_id": call.call_id, "output": output}]
        previous = answer.id
    last = respond(input=items, previous_response_id=previous, tools=[TOOL], tool_choice="none")
    assert last.output_text.strip() and last.output[0].type == "message", last


def check_streamed_calls():
    wanted = {"input": "What is the weather in Bern?", "tools": [TOOL], "tool_choice": WEATHER}
    wanted |= {"max_output_tokens": 100, "parallel_tool_calls": False}
    whole = respond(**wanted).output[0]
    events = list(respond(stream=True, **wanted))
    deltas = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == whole.arguments and len(deltas) > 4, events
    [done] = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert done.arguments == whole.arguments, done
    assert not any(e.type == "response.output_text.delta" for e in events), "no call is text"


class Size(pydantic.BaseModel):
    size: Literal["big", "small"]
    count: int = pydantic.Field(ge=0, le=9)


def check_structured_output():
    wanted = {"model": MODEL, "input": "How big is the sky?", "temperature": 0}
    parsed = CLIENT.responses.parse(text_format=Size, max_output_tokens=60, **wanted)
    assert isinstance(parsed.output_parsed, Size), parsed
    assert parsed.text.format.type == "json_schema", parsed.text
    with CLIENT.responses.stream(text_format=Size, max_output_tokens=60, **wanted) as stream:
        assert stream.get_final_response().output_parsed == parsed.output_parsed
    anything = respond(text={"format": {"type": "json_object"}}, max_output_tokens=300)
    assert anything.output_text.startswith("{"), anything


def check_logprobs():
    answer = respond(include=["message.output_text.logprobs"], top_logprobs=2, max_output_tokens=6)
    scores = answer.output[0].content[0].logprobs
    assert len(scores) == 6 and all(len(score.top_logprobs) == 2 for score in scores), scores
    assert "".join(score.token for score in scores) == answer.output_text, scores
    assert respond().output[0].content[0].logprobs == []


def check_in_the_background():
    queued = respond(background=True)
    assert queued.status in ("queued", "in_progress") and queued.background, queued
    assert ended(queued.id).output_text == respond().output_text
    endless = respond(background=True, **ENDLESS)
    cancelled = CLIENT.responses.cancel(endless.id)
    assert cancelled.status == "cancelled", cancelled
    assert CLIENT.responses.cancel(endless.id) == cancelled == ended(endless.id)
    idle()


def check_a_background_stream_is_taken_up_again():
    stream = respond(background=True, stream=True)
    seen = [next(stream) for _ in range(8)]
    stream.close()
    response_id, last = seen[0].response.id, seen[-1].sequence_number
    rest = CLIENT.responses.retrieve(response_id, stream=True, starting_after=last)
    events = seen + list(rest)
    assert [event.sequence_number for event in events] == list(range(len(events))), events
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == respond().output_text == events[-1].response.output_text, said
    assert events[-1].response == ended(response_id), "what is kept is what was told last"


def check_deleting():
    response = respond(max_output_tokens=2)
    CLIENT.responses.delete(response.id)
    for call in (CLIENT.responses.retrieve, CLIENT.responses.delete):
        fails_with(openai.NotFoundError, lambda: call(response.id))
    gone = lambda: respond(previous_response_id=response.id)
    error = fails_with(openai.BadRequestError, gone)
    assert error.code == "previous_response_not_found", error
    running = respond(background=True, **ENDLESS)
    CLIENT.responses.delete(running.id)
    idle()
    unkept = respond(store=False, max_output_tokens=2)
    fails_with(openai.NotFoundError, lambda: CLIENT.responses.retrieve(unkept.id))


def check_counting():
    count = CLIENT.responses.input_tokens.count(model=MODEL, input="Why is the sky blue?")
    assert count.input_tokens == respond().usage.input_tokens, count


def check_errors():
    rows = [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"truncation": "auto"}, "truncation"),
        ({"temperature": 3}, "temperature"),
        ({"background": True, "store": False}, "background"),
        ({"extra_body": {"max_tokens": 3}}, "max_tokens"),
        ({"text": {"format": {"type": "json_schema", "name": "s", "schema": {"if": {}, "then": {}}}}}, None),
    ]
    for options, param in rows:
        error = fails_with(openai.BadRequestError, lambda: respond(**options))
        assert param is None or error.param == param, (param, error)
    fails_with(openai.NotFoundError, lambda: respond(model="no-such-model"))
    stranger = CLIENT.with_options(api_key="not-the-key")
    fails_with(openai.AuthenticationError, lambda: respond(stranger))
    long = "sky " * 200_000
    for stream in (False, True):
        error = fails_with(openai.BadRequestError, lambda: respond(input=long, stream=stream))
        assert "context" in error.message, error
    assert respond().output_text, "the server goes on"


def check_the_async_client():
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY) as client:
            stream = await respond(client, stream=True)
            return "".join([e.delta async for e in stream if e.type.endswith("text.delta")])

    assert asyncio.run(ask()) == respond().output_text


def check_who_leaves_frees_what_was_held():
    stream = respond(stream=True, **ENDLESS)
    for _ in range(8):
        next(stream)
    assert metric("ingle_server_answers_in_flight") == 1
    stream.close()
    idle()
    hasty = CLIENT.with_options(timeout=0.5)
    fails_with(openai.APITimeoutError, lambda: respond(hasty, **ENDLESS))
    idle()


run(globals())
