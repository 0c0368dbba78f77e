#!/usr/bin/env python3
"""How true the profile's kernel times are, as an external tracer sees the very same run.

    sudo mount -t tracefs none /sys/kernel/tracing      # where it is not mounted yet
    sudo python3 crates/runner/benches/external_tracer.py smollm2-135m --quant Q8_0

Builds the release binary with its symbols, or takes with --binary one that was built with
CARGO_PROFILE_RELEASE_STRIP=none; puts uprobes of the Linux kernel on the entry and the return of
candle's functions; runs `foretoken profile MODEL --trace` under `perf record`; and holds each call
that perf saw against the slice that the profile has of it. Linux, root, perf and nm are needed,
and nothing but the standard library. The probes are removed in all cases.

What is compared with what
    alpha = 100 · (1 − |profile − tracer| / tracer), of sums over all calls, and the median of
    single calls.
    Calls and slices are paired by their order in each probed pass, and names and counts must
    agree; the pass is found in perf's events by a constant offset between both clocks.
    Whole passes are compared whether they were probed by the profile or not.

What the tracer itself costs
    A probe traps into the kernel. At an entry the tracer reads its clock somewhere in the trap, so
    a part of it lies before the reading (E1) and a part after it (E2); at a return R1 and R2.
    A call as the tracer sees it:  E2 + call + R1
    Its slice in the profile:      E1 + E2 + call + R1 + R2 + what a span costs inside itself
    The slice is longer by C = E1 + R2 + one span, and the time between two calls is shorter by the
    same C. C is the median of profile − tracer over the norms of the decode steps, which do next
    to nothing. It is subtracted from the slice of a call, and from the tracer's time between two
    calls: always from the side that has it in it, never added. Norms of decode therefore say
    nothing about themselves; judged are the other kernels, and all of prefill.
    E2 + R1 is in both sides and stays there.
    C is no constant where kernels are large: after one that fills the caches the trap at the next
    entry takes several times as long. Prefill's corrected alpha has the rest of that in it, which
    is the tracer's cost and not the profile's error; the table has each kernel's difference to see
    it by. A second table needs no correction: from the return of one call to the return of the
    next, E1 is in both sides, and of R2, the smaller part, one is added and one is taken off. What
    it compares is all slices between two such ends.

Marks
    small          half of the calls are below 50 µs
    between calls  the tracer's time from the return of the call before to the entry of the next
    wider          the slice has more in it than the call; from return to return it has not
    a share        the profile divides a slice as microbenchmarks divide it: no timing, not judged
    gives C        the correction comes from these
"""

import argparse
import bisect
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
# Kernels above this are judged.
JUDGED_NS = 50_000
# Times of one call that differ by more were not held up by a trap.
TAKEN_NS = 100_000
# Pages of perf's buffer for each core: a lost event would end the comparison.
BUFFER_PAGES = 8192
# Starts of passes may differ from a constant offset by what happens before a pass, no more.
MOST_JITTER_NS = 2_000_000

# Demangled names, by what they stand for. Of several names the first that exists is taken.
FUNCTIONS = {
    "forward": ["candle_transformers::models::quantized_llama::ModelWeights::forward"],
    "matmul": ["<candle_core::quantized::QMatMul as candle_core::Module>::forward"],
    "rms_norm": ["candle_nn::ops::rms_norm"],
    "rope": ["candle_nn::rotary_emb::rope_i"],
    "rope_neox": ["candle_nn::rotary_emb::rope"],
    "softmax": ["candle_nn::ops::softmax_last_dim"],
    "embedding": ["<candle_nn::embedding::Embedding as candle_core::Module>::forward"],
    "sample": ["candle_transformers::generation::LogitsProcessor::sample_f"],
}
NEEDED = ("forward", "matmul", "rms_norm")
NORM, MATMUL, ROPE = "rms_norm", "matmul", "rope"
WHOLE_PASS = "forward pass"
AFTER_PASS = "softmax + sampling"
# Slices that have more in them than the call: tables narrowed and a copy beside the rotation.
WIDER = (ROPE,)


class Failed(Exception):
    """What went wrong, in one line."""


def main():
    arguments = read_arguments()
    try:
        tracefs = check_machine()
        binary = (arguments.binary or build(arguments.target_dir.resolve())).resolve()
        functions, missing = find_functions(binary)
        with tempfile.TemporaryDirectory(prefix="external-tracer-") as folder:
            folder = pathlib.Path(arguments.keep or folder)
            folder.mkdir(parents=True, exist_ok=True)
            run_traced(arguments, tracefs, binary, functions, folder)
            calls = read_calls(folder)
            passes, settings = read_trace(folder / "trace.json")
        report(match(calls, passes), settings, functions, missing)
    except Failed as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def read_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", help="as for foretoken profile")
    parser.add_argument("--quant", metavar="Q", help="as for foretoken profile")
    parser.add_argument("--prompt", default="128", metavar="N", help="default: %(default)s")
    parser.add_argument("--gen", default="64", metavar="N", help="default: %(default)s")
    parser.add_argument("--threads", metavar="N", help="as for foretoken profile")
    parser.add_argument(
        "--binary",
        type=pathlib.Path,
        metavar="FILE",
        help="an unstripped foretoken (default: one is built)",
    )
    parser.add_argument(
        "--target-dir",
        type=pathlib.Path,
        default=REPOSITORY / "target" / "tracer",
        metavar="FOLDER",
        help="where it is built (default: target/tracer)",
    )
    parser.add_argument("--keep", metavar="FOLDER", help="keep perf's events and the trace there")
    return parser.parse_args()


# ---- the machine, the binary, its functions


def check_machine():
    """The folder of tracefs."""
    if not sys.platform.startswith("linux"):
        raise Failed("uprobes are Linux's: this comparison runs on no other system")
    for tool, package in (("perf", "linux-perf or linux-tools"), ("nm", "binutils")):
        if shutil.which(tool) is None:
            raise Failed(f"{tool} is not installed; it comes with {package}")
    if os.geteuid() != 0:
        raise Failed("uprobes need root; run this with sudo")
    for folder in TRACEFS:
        events = pathlib.Path(folder, "uprobe_events")
        if events.exists():
            if not os.access(events, os.W_OK):
                raise Failed(f"{events} cannot be written to")
            return pathlib.Path(folder)
    raise Failed("tracefs is not mounted; mount -t tracefs none /sys/kernel/tracing")


def build(target_dir):
    """Builds the release binary with its symbols."""
    environment = {
        **os.environ,
        "CARGO_PROFILE_RELEASE_STRIP": "none",
        "CARGO_TARGET_DIR": str(target_dir),
    }
    try:
        built = subprocess.run(["cargo", "build", "--release"], cwd=REPOSITORY, env=environment)
    except FileNotFoundError:
        raise Failed("cargo is not installed; or name an unstripped binary with --binary") from None
    if built.returncode != 0:
        raise Failed("cargo build --release failed")
    return target_dir / "release" / "foretoken"


def find_functions(binary):
    """Offsets in the file of what can be probed, by name, and the names of what cannot."""
    if not binary.is_file():
        raise Failed(f"{binary} is no file")
    listed = subprocess.run(
        ["nm", "-C", "--defined-only", str(binary)], capture_output=True, text=True
    )
    if listed.returncode != 0:
        raise Failed(f"nm cannot read {binary}: {first_line(listed.stderr)}")
    addresses = {}
    for line in listed.stdout.splitlines():
        address, kind, name = line.split(" ", 2)
        if kind in "tTwW":
            # A legacy mangled name may keep its hash.
            name = re.sub(r"::h[0-9a-f]{16}$", "", name)
            addresses.setdefault(name, set()).add(int(address, 16))
    segments = loaded_segments(binary)
    functions, missing = {}, []
    for what, names in FUNCTIONS.items():
        found = next((addresses[name] for name in names if name in addresses), None)
        if found is None:
            missing.append(names[0])
        else:
            functions[what] = [file_offset(address, segments) for address in sorted(found)]
    absent = [what for what in NEEDED if what not in functions]
    if absent:
        raise Failed(
            f"{binary} has no symbol for {', '.join(absent)}; "
            "build it with CARGO_PROFILE_RELEASE_STRIP=none"
        )
    return functions, missing


def loaded_segments(binary):
    """(address, size, offset in the file) of what an ELF file loads."""
    data = binary.read_bytes()
    if data[:5] != b"\x7fELF\x02" or data[5] != 1:
        raise Failed(f"{binary} is no little-endian 64-bit ELF file")
    (at,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments = []
    for index in range(count):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, at + index * size)
        if kind == 1:
            segments.append((address, length, offset))
    return segments


def file_offset(address, segments):
    for start, length, offset in segments:
        if start <= address < start + length:
            return address - start + offset
    raise Failed(f"address {address:#x} lies in no segment of the binary")


def first_line(text):
    lines = (line.strip().removeprefix("error: ") for line in text.splitlines())
    return next(filter(None, lines), "no reason given")


# ---- the run


class Probes:
    """Uprobes on entries and returns, as long as the block lasts."""

    def __init__(self, tracefs, binary, functions):
        self.events = tracefs / "uprobe_events"
        self.group = f"external_tracer_{os.getpid()}"
        self.made = []
        self.lines = []
        for what, offsets in functions.items():
            for index, offset in enumerate(offsets):
                place = f"{binary}:{offset:#x}"
                self.lines.append(("p", f"{what}__{index}__enter", place))
                self.lines.append(("r", f"{what}__{index}__leave", place))

    def __enter__(self):
        try:
            for kind, name, place in self.lines:
                self.write(f"{kind}:{self.group}/{name} {place}")
                self.made.append(name)
        except OSError as error:
            self.__exit__()
            raise Failed(f"the kernel refuses a uprobe: {error}") from None
        return self

    def __exit__(self, *_):
        left = []
        for name in self.made:
            try:
                self.write(f"-:{self.group}/{name}")
            except OSError:
                left.append(name)
        self.made = []
        if left:
            print(f"probes left in {self.events}: {' '.join(left)}", file=sys.stderr)

    def write(self, line):
        # `open` would seek, which this file refuses; and without O_APPEND all probes would go.
        events = os.open(self.events, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(events, f"{line}\n".encode())
        finally:
            os.close(events)


def run_traced(arguments, tracefs, binary, functions, folder):
    """Leaves trace.json and perf.txt in the folder."""
    data = folder / "perf.data"
    profile = [str(binary), "profile", arguments.model, "--prompt", arguments.prompt]
    profile += ["--gen", arguments.gen, "--trace", str(folder / "trace.json")]
    profile += ["--format", "json", "--quiet"]
    for option in ("quant", "threads"):
        if value := getattr(arguments, option):
            profile += [f"--{option}", value]
    signal.signal(signal.SIGTERM, interrupt)
    with Probes(tracefs, binary, functions) as probes:
        record = ["perf", "record", "--quiet", "-k", "CLOCK_MONOTONIC", "-m", str(BUFFER_PAGES)]
        record += ["-e", f"{probes.group}:*", "-o", str(data), "--", *profile]
        with open(folder / "perf.log", "w+") as log:
            perf = subprocess.Popen(record, stdout=subprocess.DEVNULL, stderr=log)
            try:
                code = perf.wait()
            finally:
                stop(perf)
            log.seek(0)
            if code != 0:
                raise Failed(f"the run under perf failed: {first_line(log.read())}")
        script = ["perf", "script", "-i", str(data), "--ns", "--show-lost-events"]
        script += ["-F", "tid,time,event"]
        with open(folder / "perf.txt", "w") as out, open(folder / "perf.log", "w+") as log:
            code = subprocess.run(script, stdout=out, stderr=log).returncode
            log.seek(0)
            if code != 0:
                raise Failed(f"perf script failed: {first_line(log.read())}")


def interrupt(*_):
    """Ends as Ctrl-C does, so that the probes go."""
    raise KeyboardInterrupt


def stop(process):
    """Ends perf, and with it the run: probes in use cannot be removed."""
    for end in (process.terminate, process.kill):
        if process.poll() is not None:
            return
        end()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            continue


# ---- what both saw


class Span:
    """Something with a name, a start and an end in ns; a slice also with its layer."""

    __slots__ = ("name", "start", "end", "layer")

    def __init__(self, name, start, end, layer=None):
        self.name, self.start, self.end, self.layer = name, start, end, layer

    @property
    def ns(self):
        return self.end - self.start


def read_calls(folder):
    """Calls on the thread that ran the model, by start."""
    pattern = re.compile(r"^\s*(\d+)\s+(\d+)\.(\d{9}):\s+\S+:(\w+?)__(\d+)__(enter|leave)")
    events = {}
    with open(folder / "perf.txt") as lines:
        for line in lines:
            if "LOST" in line:
                raise Failed("perf lost events; run again on a quieter machine")
            found = pattern.match(line)
            if found:
                tid, seconds, nanos, what, index, edge = found.groups()
                at = int(seconds) * 1_000_000_000 + int(nanos)
                events.setdefault(tid, []).append((at, what, index, edge))
    calls_of = {}
    for tid, edges in events.items():
        calls, opened = [], []
        for at, what, index, edge in edges:
            if edge == "enter":
                opened.append((at, what, index))
            elif not opened or opened[-1][1:] != (what, index):
                raise Failed(f"perf saw {what} return out of order; run again")
            else:
                calls.append(Span(what, opened.pop()[0], at))
        calls.sort(key=lambda call: call.start)
        calls_of[tid] = calls
    with_passes = [c for c in calls_of.values() if any(call.name == "forward" for call in c)]
    if len(with_passes) != 1:
        raise Failed(f"{len(with_passes)} threads ran forward passes, not 1; is it a llama model?")
    return with_passes[0]


class Pass:
    """A pass of the trace."""

    def __init__(self, phase, span, args):
        self.phase, self.span, self.probed = phase, span, args["probed"]
        self.slices = []
        self.parts = {}
        self.after = {}
        self.forward = None
        self.calls = []
        self.sample = None


def read_trace(path):
    """Passes with their slices, and what was run."""
    with open(path) as file:
        trace = json.load(file)
    passes, opened = [], []
    for event in trace["traceEvents"]:
        if event.get("tid") != 1 or event["ph"] not in "BE":
            continue
        at = round(event["ts"] * 1000)
        if event["ph"] == "B":
            opened.append((event, at, [e["name"] for e, _, _ in opened]))
            args = event["args"]
            if event["name"] in ("prefill", "decode") and "probed" in args:
                passes.append(Pass(event["name"], Span(event["name"], at, at), args))
            continue
        event, start, around = opened.pop()
        name, args = event["name"], event["args"]
        span = Span(name, start, at, args.get("layer"))
        if event["cat"] == "phase":
            if passes and name == passes[-1].phase and "probed" in args:
                passes[-1].span = span
            elif passes and "index" in args:
                passes[-1].after[name] = span
        elif event["cat"] == "kernel" and around and around[-1] == "attention":
            # A share of the slice around it; that slice comes when it ends.
            passes[-1].parts.setdefault(name, []).append(span)
        elif event["cat"] == "kernel":
            if name == NORM:
                span.name = f"{NORM}.{args['role']}"
            passes[-1].slices.append(span)
    if not passes:
        raise Failed("the trace has no passes")
    about = trace["otherData"]
    settings = (
        f"{about['model']} {about['quant']}, {about['device_name']}, {about['threads']} threads, "
        f"{about['engine']}"
    )
    return passes, settings


# ---- matching


class Pair:
    """A time of the profile and one of the tracer, in ns, before correction."""

    __slots__ = ("profile", "tracer")

    def __init__(self, profile, tracer):
        self.profile, self.tracer = profile, tracer


class Matched:
    """Pairs by phase and name."""

    def __init__(self):
        # Calls: the profile's side has C in it.
        self.calls = {}
        # Times between two calls: the tracer's side has C in it.
        self.between = {}
        # Shares of a slice that microbenchmarks divide: how many traps are in one is not known.
        self.shares = {}
        # From return to return: nothing to correct.
        self.returns = {}
        self.n_passes = {}
        self.jitter_ns = 0.0
        self.runner_up_ns = None
        self.contained = [0, 0]
        self.skipped = {}

    @staticmethod
    def add(table, phase, name, profile, tracer):
        table.setdefault(phase, {}).setdefault(name, []).append(Pair(profile, tracer))


def match(calls, passes):
    """Finds the trace's passes among perf's and pairs what is in them."""
    matched = Matched()
    forwards = [call for call in calls if call.name == "forward"]
    offset = align(forwards, passes, matched)
    starts = [call.start for call in calls]
    for index, one in enumerate(passes):
        forward = forwards[offset + index]
        first = bisect.bisect_right(starts, forward.start)
        last = bisect.bisect_left(starts, forward.end)
        inner = [c for c in calls[first:last] if c.end <= forward.end and c.name != "forward"]
        copy = sum(s.ns for s in one.slices if s.name == "logits_copy")
        matched.add(matched.calls, one.phase, WHOLE_PASS, one.span.ns - copy, forward.ns)
        until = forwards[offset + index + 1].start if offset + index + 1 < len(forwards) else None
        match_sample(matched, one, calls[last:], until)
        counts = matched.n_passes.setdefault(one.phase, [0, 0])
        counts[0] += 1
        if one.probed:
            counts[1] += 1
            match_pass(matched, one, forward, inner)
    return matched


def align(forwards, passes, matched):
    """Index of perf's forward pass that is the trace's first.

    The trace's passes follow each other without another pass between them. Both clocks run at
    the same speed, so for the right index all starts differ by one offset.
    """
    tries = []
    for first in range(len(forwards) - len(passes) + 1):
        offsets = [
            forward.start - one.span.start for forward, one in zip(forwards[first:], passes)
        ]
        middle = statistics.median(offsets)
        tries.append((statistics.median(abs(o - middle) for o in offsets), first))
    if not tries:
        raise Failed(
            f"perf saw {len(forwards)} passes, the trace has {len(passes)}; "
            "run again with less else running"
        )
    tries.sort()
    matched.jitter_ns, first = tries[0]
    matched.runner_up_ns = tries[1][0] if len(tries) > 1 else None
    if len(passes) < 3 or matched.jitter_ns > MOST_JITTER_NS:
        raise Failed("perf's passes do not line up with the trace's; generate more tokens")
    return first


def match_sample(matched, one, calls, until):
    """Softmax and draw of the token, which follow the pass."""
    parts = [one.after.get(name) for name in ("softmax", "sampling")]
    found = next((call for call in calls if call.name == "sample"), None)
    if None in parts or found is None or (until is not None and found.start > until):
        return
    both = sum(part.ns for part in parts)
    matched.add(matched.calls, one.phase, AFTER_PASS, both, found.ns)


def kind_of(name):
    """The function that a slice is a call of."""
    if name.startswith((f"{MATMUL}.", "lm_head")):
        return MATMUL
    if name.startswith(NORM):
        return NORM
    return name if name in (ROPE, "embedding") else None


def match_pass(matched, one, forward, inner):
    for call in inner:
        if call.name == "rope_neox":
            call.name = ROPE
    slices = [s for s in one.slices if kind_of(s.name)]
    traced = [c for c in inner if c.name in (MATMUL, NORM, ROPE, "embedding")]
    have = {c.name for c in traced}
    slices = [s for s in slices if kind_of(s.name) in have]
    if [kind_of(s.name) for s in slices] != [c.name for c in traced]:
        matched.skipped[one.phase] = matched.skipped.get(one.phase, 0) + 1
        return
    pairs = list(zip(slices, traced))
    # Each slice should enclose its call once the pass's own offset is known.
    offset = statistics.median(
        (c.start + c.end) / 2 - (s.start + s.end) / 2 for s, c in pairs
    )
    for s, c in pairs:
        matched.contained[1] += 1
        # Half of a trap either way.
        slack = 5_000
        if s.start + offset - slack <= c.start and c.end <= s.end + offset + slack:
            matched.contained[0] += 1
        matched.add(matched.calls, one.phase, s.name, s.ns, c.ns)
    for (a, called_a), (b, called_b) in zip(pairs, pairs[1:]):
        lie_between = [s for s in one.slices if a.end <= s.start and s.end <= b.start]
        names = [s.name for s in lie_between if s.name != "uncovered"]
        name = " + ".join([*dict.fromkeys(names), b.name])
        matched.add(matched.returns, one.phase, name, b.end - a.end, called_b.end - called_a.end)
        # Rope's own span begins before its call.
        if names and b.name != ROPE:
            name = " + ".join(dict.fromkeys(names))
            tracer = called_b.start - called_a.end
            matched.add(matched.between, one.phase, name, b.start - a.end, tracer)
    shares = one.parts.get("attention_softmax", [])
    seen = [c for c in inner if c.name == "softmax"]
    if shares and len(shares) == len(seen):
        for share, call in zip(shares, seen):
            matched.add(matched.shares, one.phase, share.name, share.ns, call.ns)


# ---- tables


def cost_of_probes(matched):
    """C: what a slice has of the traps and the tracer's time of the call has not."""
    norms = matched.calls.get("decode", {})
    differences = [
        pair.profile - pair.tracer
        for name, pairs in norms.items()
        if name.startswith(NORM)
        for pair in pairs
    ]
    if len(differences) < 30:
        raise Failed("too few norms in probed decode steps; generate more tokens")
    return statistics.median(differences), differences


def quartiles(values):
    low, _, high = statistics.quantiles(values, n=4)
    return low, high


def alpha(profile, tracer):
    return 100 * (1 - abs(profile - tracer) / tracer)


def alphas(profile, tracer):
    """Of the sums, and the median over calls."""
    single = statistics.median(alpha(p, t) for p, t in zip(profile, tracer) if t > 0)
    return alpha(sum(profile), sum(tracer)), single


def report(matched, settings, functions, missing):
    cost, differences = cost_of_probes(matched)
    low, high = quartiles(differences)
    print(f"## {settings}: the profile against uprobes\n")
    print(f"Probed: {', '.join(functions)}.", end=" ")
    print(f"Without a symbol: {', '.join(missing) or 'none'}.\n")
    passes = ", ".join(
        f"{n} {phase} ({probed} with inner slices)"
        for phase, (n, probed) in matched.n_passes.items()
    )
    jitter = f"{matched.jitter_ns / 1000:.1f} µs"
    print(f"Passes: {passes}. Starts differ from one offset by {jitter}", end="")
    if matched.runner_up_ns is not None:
        print(f" (next best alignment: {matched.runner_up_ns / 1e6:.1f} ms)", end="")
    inside, all_calls = matched.contained
    print(f". Calls inside their slices: {inside} of {all_calls}.")
    for phase, count in matched.skipped.items():
        print(f"Left out, as calls and slices differ in kind or number: {count} {phase} passes.")
    print(
        f"\nC = {cost / 1000:.3f} µs, the median of profile − tracer over {len(differences)} norms "
        f"of decode (quartiles {low / 1000:.3f} to {high / 1000:.3f}).\n"
    )
    for phase in matched.n_passes:
        table_of_calls(phase, matched, cost)
        table_of_returns(phase, matched)


def table_of_calls(phase, matched, cost):
    print(f"### {phase}\n")
    print(
        "| kernel | calls | profile µs/call | tracer µs/call | profile − tracer, median µs "
        "| alpha % raw | alpha % corrected | median per call | |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---|")
    rows = [(name, pairs, cost, 0, "") for name, pairs in matched.calls.get(phase, {}).items()]
    rows += [
        (name, pairs, 0, cost, "between calls")
        for name, pairs in matched.between.get(phase, {}).items()
    ]
    shares = matched.shares.get(phase, {})
    rows += [(name, pairs, 0, 0, "a share") for name, pairs in shares.items()]
    rows.sort(key=lambda row: (row[0] != WHOLE_PASS, -sum(p.tracer for p in row[1])))
    judged = []
    for name, pairs, from_profile, from_tracer, mark in rows:
        raw_profile, raw_tracer = [p.profile for p in pairs], [p.tracer for p in pairs]
        profile = [p - from_profile for p in raw_profile]
        tracer = [max(t - from_tracer, 1) for t in raw_tracer]
        raw, _ = alphas(raw_profile, raw_tracer)
        total, single = alphas(profile, tracer)
        difference = statistics.median(p.profile - p.tracer for p in pairs)
        marks = [mark] if mark else []
        if name in WIDER:
            marks.append("wider")
        if phase == "decode" and name.startswith(NORM):
            marks.append("gives C")
        if statistics.median(tracer) < JUDGED_NS:
            marks.append("small")
        if not marks or marks == ["between calls"]:
            judged.append((total, single, name))
        print(
            f"| {name} | {len(pairs)} | {mean_us(profile)} | {mean_us(tracer)} "
            f"| {difference / 1000:.3f} | {raw:.3f} | {total:.3f} | {single:.3f} "
            f"| {', '.join(marks)} |"
        )
    timed = [pair for *_, pairs, _, _, mark in rows if mark != "a share" for pair in pairs]
    taken = sum(abs(pair.profile - pair.tracer) > TAKEN_NS for pair in timed)
    print(
        f"\nIn {taken} of {len(timed)} calls both differ by over {TAKEN_NS // 1000} µs, as where "
        "another program takes the processor between both readings; the sums contain them."
    )
    print("Times are means and corrected; the difference is neither.", end=" ")
    lowest([row for row in judged if row[2] != WHOLE_PASS])


def lowest(rows):
    """Says of (alpha, median alpha, name) which is lowest."""
    if rows:
        total, single = min(rows), min(rows, key=lambda row: row[1])
        print(
            f"Lowest of the {len(rows)} above {JUDGED_NS // 1000} µs: "
            f"{total[0]:.3f} % ({total[2]}), by median {single[1]:.3f} % ({single[2]}).",
            end="",
        )
    print("\n")


def table_of_returns(phase, matched):
    rows = sorted(
        matched.returns.get(phase, {}).items(), key=lambda row: -sum(p.tracer for p in row[1])
    )
    if not rows:
        return
    judged = []
    print(f"{phase}, from return to return, nothing corrected:\n")
    print("| slices | intervals | profile µs | tracer µs | alpha % | median per interval | |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for name, pairs in rows:
        profile, tracer = [p.profile for p in pairs], [p.tracer for p in pairs]
        total, single = alphas(profile, tracer)
        small = "small" if statistics.median(tracer) < JUDGED_NS else ""
        if not small:
            judged.append((total, single, name))
        print(
            f"| {name} | {len(pairs)} | {mean_us(profile)} | {mean_us(tracer)} "
            f"| {total:.3f} | {single:.3f} | {small} |"
        )
    print()
    lowest(judged)


def mean_us(values):
    return f"{sum(values) / len(values) / 1000:.2f}"


if __name__ == "__main__":
    main()
