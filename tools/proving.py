"""What tools that prove something ask of a server, and what an upstream of theirs answers.

Bodies of all surfaces with a text in any of the places that can carry one; answers of three
protocols; a server in a folder of its own; a chat template for models of random weights, which
have none. Absent: what is proved.
"""

import base64
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
START_S = 300  # seconds that a server has to come up

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()


def said(path, asked):
    """An answer of the protocol that the path is of: kind of content and bytes."""
    stream, usage = asked.get("stream"), {"prompt_tokens": 9, "completion_tokens": 1}
    if path == "/v1/messages":
        usage = {"input_tokens": 9, "output_tokens": 1}
        text = {"type": "text", "text": "far"}
        whole = {"id": "m", "type": "message", "role": "assistant", "model": "m", "usage": usage,
                 "content": [text], "stop_reason": "end_turn", "stop_sequence": None}
        if not stream:
            return "application/json", json.dumps(whole)
        events = [
            {"type": "message_start", "message": whole | {"content": [], "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": text | {"text": ""}},
            {"type": "content_block_delta", "index": 0,
             "delta": {"type": "text_delta", "text": "far"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
            {"type": "message_stop"},
        ]
        lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
        return "text/event-stream", "".join(lines)
    if path == "/api/chat":
        piece = {"model": "m", "created_at": "2026-01-01T00:00:00Z", "done": False,
                 "message": {"role": "assistant", "content": "far"}}
        last = piece | {"done": True, "done_reason": "stop", "prompt_eval_count": 9,
                        "eval_count": 1}
        if stream is False:
            return "application/json", json.dumps(last)
        last["message"] = {"role": "assistant", "content": ""}
        return "application/x-ndjson", f"{json.dumps(piece)}\n{json.dumps(last)}\n"
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    if not stream:
        message = {"role": "assistant", "content": "far"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return "application/json", json.dumps(head | {"choices": [choice], "usage": usage})
    head["object"] = "chat.completion.chunk"
    pieces = [{"index": 0, "delta": {"role": "assistant", "content": "far"}},
              {"index": 0, "delta": {}, "finish_reason": "stop"}]
    events = [head | {"choices": [piece]} for piece in pieces]
    events.append(head | {"choices": [], "usage": usage})
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    return "text/event-stream", "".join(lines) + "data: [DONE]\n\n"


def nested(text):
    """A tool call's arguments with the text deep within: in objects, a list, and JSON in JSON."""
    inner = text
    if not any(ord(letter) < 32 for letter in text):
        inner = json.dumps({"note": text}, ensure_ascii=False)
    return {"a": {"b": [1, {"c": inner}]}, "d": True}


TOOL = {"type": "object", "properties": {"q": {"type": "string"}}}


def turns(text, place, arguments=json.dumps):
    """A conversation with a text in one of its places, as OpenAI and Ollama write it."""
    user = {"role": "user", "content": "Name a colour."}
    match place:
        case "user":
            return [user | {"content": text}]
        case "parts":
            return [user | {"content": [{"type": "text", "text": "Hello."},
                                        {"type": "text", "text": text}]}]
        case "caption":
            picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
            return [user | {"content": [picture, {"type": "text", "text": text}]}]
        case "system":
            return [{"role": "system", "content": text}, user]
        case "assistant":
            return [user, {"role": "assistant", "content": text}, user]
        case "call" | "result":
            given, back = (text, "fine") if place == "call" else ("x", text)
            call = {"id": "call_a", "type": "function",
                    "function": {"name": "look", "arguments": arguments(nested(given))}}
            return [user, {"role": "assistant", "content": "", "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": "call_a", "content": back}]
    return [user]


def tools(text, place):
    """Tools with a text in a description or in a schema; none for other places."""
    if place == "tool":
        return [{"name": "look", "description": text, "schema": TOOL}]
    if place == "schema":
        deep = {"type": "object", "properties": {"q": {"type": "string", "description": text}}}
        return [{"name": "look", "description": "Looks.", "schema": deep}]
    return []


def chat(text, place):
    body = {"max_tokens": 4, "messages": turns(text, place)}
    if rows := tools(text, place):
        body["tools"] = [{"type": "function", "function": {
            "name": row["name"], "description": row["description"], "parameters": row["schema"]}}
            for row in rows]
    if place == "stop":
        body["stop"] = [text]
    if place == "unknown":
        body["metadata"] = {"note": text}
    if place == "format":
        schema = {"type": "object", "properties": {"q": {"const": text}}, "required": ["q"]}
        body["response_format"] = {"type": "json_schema",
                                   "json_schema": {"name": "s", "schema": schema}}
    return body


def completions(text, place):
    return {"prompt": [text] if place == "list" else text, "max_tokens": 4}


def responses(text, place):
    body = {"max_output_tokens": 16, "input": "Name a colour.", "store": False}
    user = {"role": "user", "content": [{"type": "input_text", "text": text}]}
    call = {"type": "function_call", "call_id": "call_a", "name": "look", "arguments": "{}"}
    back = {"type": "function_call_output", "call_id": "call_a", "output": "fine"}
    match place:
        case "user":
            body["input"] = text
        case "parts":
            body["input"] = [user]
        case "system":
            body["instructions"] = text
        case "call":
            body["input"] = [user | {"content": "Hello."},
                             call | {"arguments": json.dumps(nested(text))}, back]
        case "result":
            body["input"] = [user | {"content": "Hello."}, call, back | {"output": text}]
        case "unknown":
            body["metadata"] = {"note": text[:500]}
    if rows := tools(text, place):
        body["tools"] = [{"type": "function", "name": row["name"], "parameters": row["schema"],
                          "description": row["description"]} for row in rows]
    return body


def messages(text, place):
    user = {"role": "user", "content": "Name a colour."}
    body = {"max_tokens": 4, "messages": [user]}
    use = {"type": "tool_use", "id": "toolu_a", "name": "look", "input": {"q": "x"}}
    back = {"type": "tool_result", "tool_use_id": "toolu_a", "content": "fine"}
    part = {"type": "text", "text": text}
    match place:
        case "user":
            body["messages"] = [user | {"content": text}]
        case "parts":
            body["messages"] = [user | {"content": [part]}]
        case "caption":
            source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
            picture = {"type": "image", "source": source}
            body["messages"] = [user | {"content": [picture, part]}]
        case "system":
            body["system"] = text
        case "blocks":
            body["system"] = [part | {"cache_control": {"type": "ephemeral"}}]
        case "assistant":
            body["messages"] = [user, {"role": "assistant", "content": text}, user]
        case "call" | "result":
            use |= {"input": nested(text)} if place == "call" else {}
            back |= {"content": [part]} if place == "result" else {}
            body["messages"] = [user, {"role": "assistant", "content": [use]},
                                user | {"content": [back]}]
            body["tools"] = [{"name": "look", "description": "Looks.", "input_schema": TOOL}]
        case "stop":
            body["stop_sequences"] = [text]
        case "unknown":
            body["metadata"] = {"user_id": text[:200]}
    if rows := tools(text, place):
        body["tools"] = [{"name": row["name"], "description": row["description"],
                          "input_schema": row["schema"]} for row in rows]
    return body


def ollama(text, place):
    body = {"messages": turns(text, place, arguments=dict), "options": {"num_predict": 4}}
    for turn in body["messages"]:
        for call in turn.get("tool_calls", []):
            call.pop("id")
            call.pop("type")
        if turn.pop("tool_call_id", None):
            turn["tool_name"] = "look"
    if place == "caption":
        body["messages"] = [{"role": "user", "content": text, "images": [PIXEL]}]
    if place == "stop":
        body["options"]["stop"] = [text]
    if rows := tools(text, place):
        body["tools"] = [{"type": "function", "function": {
            "name": row["name"], "description": row["description"], "parameters": row["schema"]}}
            for row in rows]
    return body


def generate(text, place):
    body = {"prompt": "Name a colour.", "options": {"num_predict": 4}}
    return body | {"prompt" if place == "user" else place: text}


def llama(text, place):
    return {"prompt": text, "n_predict": 4}


def infill(text, place):
    return {"input_prefix": "a", "input_suffix": "b", "n_predict": 4} | {place: text}


# Surfaces: path, what makes a body, the places that go out where nothing forbids it, those that
# stay whatever is in them, and whether a stream is what a request without `stream` gets.
SURFACES = [
    ("/v1/chat/completions", chat, "user parts system assistant call result tool schema stop "
     "unknown", "caption format", False),
    ("/v1/responses", responses, "user parts system call result tool schema", "unknown", False),
    ("/v1/messages", messages, "user parts system blocks assistant call result tool schema stop "
     "unknown", "caption", False),
    ("/api/chat", ollama, "user system assistant call result tool schema stop", "caption", True),
    ("/v1/completions", completions, "", "user list", False),
    ("/api/generate", generate, "", "user system", True),
    ("/completion", llama, "", "user", False),
    ("/infill", infill, "", "input_prefix input_suffix", False),
]


def spelt(value):
    """JSON in which every letter of every text is written as its number."""
    if isinstance(value, str):
        units = value.encode("utf-16-be")
        pairs = (units[at:at + 2].hex() for at in range(0, len(units), 2))
        return '"' + "".join(f"\\u{pair}" for pair in pairs) + '"'
    if isinstance(value, dict):
        rows = (f"{json.dumps(key)}:{spelt(one)}" for key, one in value.items())
        return "{" + ",".join(rows) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spelt, value)) + "]"
    return json.dumps(value)


PLAIN = (b"{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
         b"{% if tools %}{{ tools | tojson }}\n{% endif %}assistant:")
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def templated(gguf):
    """A model's file, with a plain chat template where it has none."""
    if b"tokenizer.chat_template" in gguf:
        return gguf
    tensors, rows = struct.unpack_from("<QQ", gguf, 8)

    def behind_text(at):
        return at + 8 + struct.unpack_from("<Q", gguf, at)[0]

    def behind_value(kind, at):
        if kind == 8:
            return behind_text(at)
        if kind != 9:
            return at + SIZES[kind]
        of, count = struct.unpack_from("<IQ", gguf, at)
        if of != 8:
            return at + 12 + SIZES[of] * count
        at += 12
        for _ in range(count):
            at = behind_text(at)
        return at

    at = 24
    for _ in range(rows):
        at = behind_text(at)
        at = behind_value(struct.unpack_from("<I", gguf, at)[0], at + 4)
    for _ in range(tensors):
        at = behind_text(at)
        at += 16 + 8 * struct.unpack_from("<I", gguf, at)[0]
    data = -(-at // 32) * 32
    key = b"tokenizer.chat_template"
    row = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(PLAIN)) + PLAIN
    head = gguf[:16] + struct.pack("<Q", rows + 1) + row + gguf[24:at]
    return head + bytes(-len(head) % 32) + gguf[data:]


def binary(given):
    """The program: the one that was named, or the one that is built now."""
    if given:
        return pathlib.Path(given)
    subprocess.run(["cargo", "build", "--release", "-p", "ingle-cli"], cwd=ROOT, check=True,
                   stdout=sys.stderr)
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "ingle"


class Ingle:
    """A server with all that is its own in a folder: keys, ledger, records, what it tells."""

    def __init__(self, ingle, folder):
        self.ingle, self.folder = str(ingle), folder
        self.keys_file, self.ledger = folder / "keys.toml", folder / "ledger.sqlite"
        self.out, self.process, self.port = folder / "out", None, None

    def key(self, name, *more):
        """A new key of this name."""
        command = [self.ingle, "key", "create", name, "--file", self.keys_file, "--json",
                   "--scopes", "infer,read,models,metrics", *more]
        made = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if made.returncode:
            sys.exit(f"no key could be made: {made.stderr}")
        return json.loads(made.stdout)["key"]

    def start(self, *more):
        command = [self.ingle, "serve", "--port", "0", "--json", "--ledger", self.ledger,
                   "--records", self.folder / "records", "--keys-file", self.keys_file,
                   "--access-log", self.folder / "access", *more]
        free = {key: value for key, value in os.environ.items()
                if not key.lower().endswith("_proxy") and not key.startswith("INGLE_API")}
        free["PROOF_KEY"] = "sk-of-nobody"
        with open(self.out, "ab") as out, open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=log,
                                            env=free)
        until = time.monotonic() + START_S
        while not (ready := self.events("ready")):
            if self.process.poll() is not None or time.monotonic() > until:
                told = (self.folder / "log").read_text()[-2000:]
                sys.exit(f"the server did not start: {told}")
            time.sleep(0.05)
        self.port = int(ready[0]["url"].rsplit(":", 1)[1])

    def events(self, name):
        """What it told on standard output, of one kind."""
        lines = self.out.read_text().splitlines()
        return [event for event in map(json.loads, lines) if event.get("event") == name]

    def entries(self):
        """What the ledger has, whether it is whole, and why not."""
        place = ["--ledger", str(self.ledger)]
        whole = subprocess.run([self.ingle, "audit", "verify", *place], capture_output=True,
                               text=True)
        listed = subprocess.run([self.ingle, "audit", "list", "--since", "2020-01-01", *place],
                                capture_output=True, text=True)
        rows = [json.loads(line) for line in listed.stdout.splitlines()]
        why = whole.stderr + listed.stderr
        return rows, whole.returncode == 0 and listed.returncode == 0, why

    def stop(self):
        """Ends it in order; whether it did."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60) == 0
        except subprocess.TimeoutExpired:
            self.process.kill()
            return False
