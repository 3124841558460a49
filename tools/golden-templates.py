#!/usr/bin/env python3
"""Renders conversations with chat templates the way the transformers library does, with Jinja2.

    golden-templates.py CONVERSATIONS TEMPLATES_FOLDER > golden.json
    golden-templates.py --show CONVERSATIONS TEMPLATE CONVERSATION

Needs the package jinja2. The output holds, for every template and conversation, the SHA-256 and
the length of the rendered text in UTF-8; "refused" where the template raises an exception of its
own; "failed" where Python meets an error in it, so that no output is the right one. The templates
themselves are their models' and are not committed.
"""

import datetime
import hashlib
import json
import pathlib
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2025, 7, 4, 9, 5, 6, tzinfo=datetime.timezone.utc)


class Refusal(jinja2.exceptions.TemplateError):
    """What a template raises itself."""


class Generation(jinja2.ext.Extension):
    """`{% generation %}`: a scope that renders its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_body")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            x,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    def raise_exception(message):
        raise Refusal(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def render(env, source, conversation):
    return env.from_string(source).render(
        messages=conversation["messages"],
        tools=conversation.get("tools"),
        documents=None,
        add_generation_prompt=conversation.get("add_generation_prompt", True),
        bos_token="<s>",
        eos_token="</s>",
        **conversation.get("template_kwargs", {}),
    )


def golden(env, source, conversation):
    try:
        text = render(env, source, conversation).encode()
    except Refusal:
        return "refused"
    except Exception as error:
        print(f"  {type(error).__name__}: {error}", file=sys.stderr)
        return "failed"
    return [hashlib.sha256(text).hexdigest(), len(text)]


def main(arguments):
    env = environment()
    if arguments[0] == "--show":
        conversations = json.loads(pathlib.Path(arguments[1]).read_text("utf8"))
        source = pathlib.Path(arguments[2]).read_text("utf8")
        sys.stdout.write(render(env, source, conversations[arguments[3]]))
        return
    conversations = json.loads(pathlib.Path(arguments[0]).read_text("utf8"))
    table = {}
    for path in sorted(pathlib.Path(arguments[1]).glob("*.jinja")):
        print(path.name, file=sys.stderr)
        source = path.read_text("utf8")
        table[path.name] = {
            name: golden(env, source, conversation) for name, conversation in conversations.items()
        }
    rows = (f" {json.dumps(name)}: {json.dumps(row)}" for name, row in table.items())
    print("{\n" + ",\n".join(rows) + "\n}")


main(sys.argv[1:])
