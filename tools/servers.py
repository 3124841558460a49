"""Servers with OpenAI's API, to be started on a model and asked: Ingle's, and those it is measured
beside. And texts to ask with, of common words and no sense. A library for the scripts here, of the
standard library alone.
"""

import asyncio
import contextlib
import dataclasses
import json
import pathlib
import socket
import subprocess
import tempfile
import time
import urllib.request

import peers

START_S = 120  # seconds that a server has to come up
WORDS = """time year people way day man thing woman life child world school state family student
group country problem hand part place case week company system program question work government
number night point home water room mother area money story fact month lot right study book eye job
word business issue side kind head house service friend father power hour game line end member law
car city community name president team minute idea body information back parent face others level
office door health person art war history party result change morning reason research girl guy
moment air teacher force education""".split()


def add_arguments(parser):
    """What every script that starts servers is told."""
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ingle", help="an ingle binary; else it is built")
    parser.add_argument("--ingle-option", action="append", default=[], help="one more for serve")
    parser.add_argument("--llama-server", help="a llama-server binary; else it is built")


def words(dice, count):
    return " ".join(dice.choice(WORDS) for _ in range(count))


def user(text):
    return {"role": "user", "content": text}


async def ask(host, port, messages, tokens, key="none", **fields):
    """One streamed request, greedy unless its fields say otherwise; returns its arrival times,
    text, and usage."""
    body = {"messages": messages, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    body |= {"stream": True, "stream_options": {"include_usage": True}} | fields
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    head += f"Authorization: Bearer {key}\r\n\r\n"
    start = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 22)
    writer.write(head.encode() + data)
    await writer.drain()
    status = (await reader.readline()).split()
    times, text, usage = [], [], None
    while line := await reader.readline():
        if not line.startswith(b"data: {"):
            continue  # headers, chunk sizes, comments, the end
        now = time.perf_counter() - start
        event = json.loads(line[6:])
        usage = event.get("usage") or usage
        piece = "".join(c["delta"].get("content") or "" for c in event.get("choices") or [])
        if piece:
            times.append(now)
            text.append(piece)
    writer.close()
    if status[1:2] != [b"200"] or usage is None:
        peers.fail(f"a request was answered with {status} and no usage")
    return times, "".join(text), usage


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command_of(name, args, model, slots, context, port):
    """How a server is started, for so many sequences of so many tokens."""
    if name == "ingle":
        start = [peers.ingle(args.ingle), "serve", model, "--port", port]
        return [*start, "--threads", args.threads, "--context", context, *args.ingle_option]
    start = [peers.llama_server(args.llama_server), "-m", model, "--port", port]
    size = ["-np", slots, "-c", context * slots, "-t", args.threads, "-tb", args.threads]
    return [*start, *size, "--no-webui"]


@dataclasses.dataclass
class Server:
    """One that runs."""

    host: str
    port: int
    pid: int
    began: float  # of time.perf_counter, when its process was started

    def memory(self):
        """Resident bytes: (now, at most until now)."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return tuple(int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))


@contextlib.contextmanager
def started(name, args, model, slots, context):
    """A fresh server process that answers; ended when the block is left."""
    port = free_port()
    command = list(map(str, command_of(name, args, model, slots, context, port)))
    with tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            while not healthy(port):
                late = time.perf_counter() - began > START_S
                if late or process.poll() is not None:
                    log.seek(0)
                    peers.fail(f"{name} did not come up:\n{log.read().decode()[-2000:]}")
                time.sleep(0.005)
            yield Server("127.0.0.1", port, process.pid, began)
        finally:
            process.terminate()
            process.wait(30)


def healthy(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False
