#!/usr/bin/env python3
"""Checks a Chrome trace that `foretoken profile --trace FILE` wrote.

    foretoken profile smollm2-135m --trace trace.json
    python tests/check_trace.py trace.json

Shares nothing with the program and needs only the standard library. Checked: the JSON itself, the
fields of each kind of event, that every beginning has its end by name on its thread, that times
never go back on a track, that durations nest, that counters are numbers, and the size.
Exit code 0 and a line of totals where all is well, 1 and the number of the event otherwise.
"""

import json
import os
import sys
from decimal import Decimal

MOST_BYTES = 50_000_000
# Beside `name`, `ph`, `pid`.
FIELDS = {
    "B": ("ts", "tid"),
    "E": ("ts", "tid"),
    "X": ("ts", "tid", "dur"),
    "i": ("ts", "tid"),
    "C": ("ts", "args"),
    "M": ("args",),
}
METADATA = {
    "process_name": "name",
    "thread_name": "name",
    "process_sort_index": "sort_index",
    "thread_sort_index": "sort_index",
}


class Wrong(Exception):
    """What is wrong, and where."""


def no_constant(name):
    raise ValueError(f"{name} is not JSON")


def is_number(value):
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def check_fields(event):
    if not isinstance(event, dict):
        raise Wrong("is not an object")
    kind = event.get("ph")
    if not isinstance(kind, str) or kind not in FIELDS:
        raise Wrong(f"has `ph` {kind!r}; known: {', '.join(FIELDS)}")
    for field in ("name", "pid", *FIELDS[kind]):
        if field not in event:
            raise Wrong(f"of kind {kind} has no `{field}`")
    if not isinstance(event["name"], str) or not event["name"]:
        raise Wrong("has no text as `name`")
    for field in ("pid", "tid"):
        if field in event and (isinstance(event[field], bool) or not isinstance(event[field], int)):
            raise Wrong(f"has `{field}` {event[field]!r}, not an integer")
    for field in ("ts", "dur"):
        if field in event and not (is_number(event[field]) and event[field] >= 0):
            raise Wrong(f"has `{field}` {event[field]!r}, not a number of 0 or more")
    if "args" in event and not isinstance(event["args"], dict):
        raise Wrong("has `args` that are no object")
    if kind == "M":
        if event["name"] not in METADATA:
            raise Wrong(f"is metadata with the unknown name {event['name']!r}")
        if METADATA[event["name"]] not in event["args"]:
            raise Wrong(f"is metadata without `args.{METADATA[event['name']]}`")
    if kind == "C" and not (event["args"] and all(map(is_number, event["args"].values()))):
        raise Wrong(f"is a counter whose values are not numbers: {event['args']}")


def check_in_order(latest, track, event):
    before = latest.get(track, 0)
    if event["ts"] < before:
        raise Wrong(f"goes back in time on track {track}: from {before} to {event['ts']}")
    latest[track] = event["ts"]


class Thread:
    """What is open on one thread: (name, number of the event, end; None until it comes)."""

    def __init__(self):
        self.open = []
        self.depth = 0
        self.n_slices = 0

    def push(self, name, number, end):
        self.open.append((name, number, end))
        self.depth = max(self.depth, len(self.open))
        self.n_slices += 1

    def add(self, number, event):
        kind, now = event["ph"], event["ts"]
        while self.open and self.open[-1][2] is not None and self.open[-1][2] <= now:
            self.open.pop()
        if kind == "B":
            self.push(event["name"], number, None)
        elif kind == "X":
            end = now + event["dur"]
            if self.open and self.open[-1][2] is not None and self.open[-1][2] < end:
                raise Wrong(f"`{event['name']}` reaches out of event {self.open[-1][1]}")
            self.push(event["name"], number, end)
        elif kind == "E":
            if not self.open:
                raise Wrong(f"ends `{event['name']}`, and nothing is open")
            name, begun, end = self.open.pop()
            if end is not None:
                raise Wrong(f"ends `{event['name']}` within `{name}` of event {begun}")
            if name != event["name"]:
                raise Wrong(f"ends `{event['name']}`, but `{name}` of event {begun} is open")


def check_events(events):
    """Threads by (pid, tid), and the names of the counters."""
    threads, latest, counters = {}, {}, set()
    for number, event in enumerate(events):
        try:
            check_fields(event)
            if event["ph"] == "M":
                continue
            if event["ph"] == "C":
                counter = (event["pid"], event["name"])
                counters.add(counter)
                check_in_order(latest, counter, event)
                continue
            key = (event["pid"], event["tid"])
            check_in_order(latest, key, event)
            threads.setdefault(key, Thread()).add(number, event)
        except Wrong as wrong:
            raise Wrong(f"event {number} {wrong}") from None
    for key, thread in threads.items():
        for name, number, end in thread.open:
            if end is None:
                raise Wrong(f"event {number} begins `{name}` on track {key} and nothing ends it")
    return threads, counters


def check(path):
    size = os.path.getsize(path)
    if size >= MOST_BYTES:
        raise Wrong(f"{size} bytes, and viewers take {MOST_BYTES}")
    try:
        with open(path, encoding="utf-8") as file:
            trace = json.load(file, parse_float=Decimal, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise Wrong(f"not valid JSON: {error}") from None
    if not isinstance(trace, dict) or not isinstance(trace.get("traceEvents"), list):
        raise Wrong("no list `traceEvents`")
    events = trace["traceEvents"]
    threads, counters = check_events(events)
    if not any(thread.n_slices for thread in threads.values()):
        raise Wrong("no durations")
    depth = max(thread.depth for thread in threads.values())
    return (
        f"{len(events)} events, depth {depth}, {len(threads)} threads and "
        f"{len(counters)} counters, {size} bytes"
    )


def main(arguments):
    if len(arguments) != 1:
        sys.exit("usage: check_trace.py FILE")
    try:
        print(f"{arguments[0]}: {check(arguments[0])}")
    except (Wrong, OSError) as error:
        sys.exit(f"{arguments[0]}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
