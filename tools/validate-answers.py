#!/usr/bin/env python3
"""Holds answers against their schemas with Python's jsonschema, a second opinion beside the tests'
own validator. Takes lines of JSON, each with a `schema` and an `answer`, as the ignored test
`whatever_is_complete_validates_at_length` of the engine leaves them:

    cargo test --release -p ingle-engine --test schemas -- --ignored --nocapture
    tools/validate-answers.py target/tmp/schemas.jsonl

Needs the package `jsonschema`; formats are checked as far as its extras are there."""
import json
import sys

from jsonschema import validators

wrong = total = 0
for line in open(sys.argv[1], encoding="utf-8"):
    row = json.loads(line)
    schema = row["schema"]
    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        errors = list(kind(schema, format_checker=kind.FORMAT_CHECKER).iter_errors(json.loads(row["answer"])))
    except ValueError as error:
        errors = [error]
    total += 1
    wrong += bool(errors)
    for error in errors[:1]:
        print(f"{json.dumps(schema)}: {row['answer']}: {error}")
print(f"{total} answers, {wrong} wrong")
sys.exit(wrong > 0)
