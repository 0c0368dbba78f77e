#!/usr/bin/env python3
"""Checks real outputs and files against the committed JSON Schemas.

    foretoken predict tinyllama-1.1b --format json > predict-one.json
    pip install -r tests/requirements.txt
    python tests/check_schemas.py docs/schema predict-one.json measurement=datasets/mine.jsonl

The schema of a file is the one before `=`, else the first word of its name. Each line of a
`.jsonl` is an instance. Exit code 0 where all agree, 1 with a line for each of the first
differences.
"""

import json
import sys
from pathlib import Path

from jsonschema import Draft202012Validator

# Differences that are printed of one instance.
MOST_LINES = 5


def schema_and_path(argument):
    name, _, path = argument.rpartition("=")
    path = Path(path)
    return (name or path.stem.split("-")[0]), path


def instances(path):
    """Pairs of a place and a value."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".jsonl":
        yield str(path), json.loads(text)
        return
    for number, line in enumerate(text.splitlines(), 1):
        yield f"{path}, line {number}", json.loads(line)


def validators(folder):
    found = {}
    for path in sorted(folder.glob("*.json")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        Draft202012Validator.check_schema(schema)
        found[path.stem] = Draft202012Validator(schema)
    return found


def main(arguments):
    if len(arguments) < 2:
        sys.exit("usage: check_schemas.py SCHEMA-FOLDER [SCHEMA=]FILE…")
    known = validators(Path(arguments[0]))
    n_checked = n_wrong = 0
    for argument in arguments[1:]:
        name, path = schema_and_path(argument)
        if name not in known:
            sys.exit(f"{path}: no schema `{name}`; known: {', '.join(known)}")
        for place, value in instances(path):
            n_checked += 1
            errors = sorted(known[name].iter_errors(value), key=lambda e: e.json_path)
            n_wrong += bool(errors)
            for error in errors[:MOST_LINES]:
                print(f"{place}: {error.json_path}: {error.message[:200]}", file=sys.stderr)
    if n_wrong or not n_checked:
        sys.exit(1)
    print(f"{n_checked} outputs and lines agree with their schemas")


if __name__ == "__main__":
    main(sys.argv[1:])
