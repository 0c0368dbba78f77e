#!/usr/bin/env python3
"""Makes the tiny models of tests/fixtures/models and the logits that they must give.

    pip install -r tests/requirements-fixtures.txt
    python tests/make_tiny_models.py            # writes the files again
    python tests/make_tiny_models.py --check    # fails where the files differ from a new run

Every model is a complete GGUF file with random weights from a fixed seed. The logits come from a
forward pass in NumPy, in double precision, over the weights as the file stores them: quantized
tensors are dequantized with the `gguf` package. It has no cache: the whole sequence is computed at
once, and causality makes the rows of earlier positions those of earlier steps.

The pass follows the definitions of the architectures (llama.cpp and the modelling code of their
authors), not the reader under test. Where a reader of candle-transformers is known to deviate,
`expected.json` says how under `known_deviation`, with the effect of each deviation by itself, and
`candle` beside the logits of a step holds what the reader gives with all of them: the same pass
with those rules changed. A test can thus tell a known deviation from a new error, and notice when
a reader is mended.

Candle on a CPU, like llama.cpp, rounds activations to 8 bits before it multiplies a quantized
weight. For files with such weights `rounded` holds the logits of the pass with the same rounding,
to be met within `rounded_tolerance`; an engine that rounds otherwise has `logits` and `tolerance`.

llama.cpp (release v0.5.0, CPU), which shares nothing with this pass, gives the logits of `steps`
and `chunk` within 0.03 for files of F16, whose activations it rounds to half precision, and within
0.16 for the quantized ones. It does not load llama-moe.

The run prints, for every model, how far the logits move where a convention is broken on purpose (a
pairing of the rotary embedding, a norm, a bias, ...), and fails where that is less than ten times
the tightest tolerance.
"""

import argparse
import filecmp
import json
import math
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "fixtures" / "models"

VOCAB = 64
CONTEXT = 2048
PROMPT = [3, 17, 42, 8, 61, 25, 9]
DECODE = [50, 12]
# After the two steps: several tokens at once on a filled cache, as in the next turn of a chat.
CHUNK = [33, 5, 20]
TOKENS = PROMPT + DECODE + CHUNK
# Which call a position belongs to.
CALLS = np.array([0] * len(PROMPT) + [1, 2] + [3] * len(CHUNK))
# Last position of each call.
LAST = [6, 7, 8, 11]

# Smallest tolerance: single against double precision is a tenth of it or less.
FLOOR = 2e-4
# The tolerance of quantized weights, over the change that rounded activations make in the pass.
MARGIN = 2.0
# With rounded activations in the pass too, what remains are numbers at the margin of two steps.
ROUNDED = 0.05
# A broken convention must move the logits by this many times the tightest tolerance, and be seen
# with the other one too.
SEEN = 10.0
SEEN_BY_ALL = 1.5

FILE_TYPES = {Q.F32: 0, Q.F16: 1, Q.Q8_0: 7, Q.Q4_K: 15}
READERS = "candle-transformers 0.11.1"


@dataclass(frozen=True)
class Rules:
    """How a forward pass is computed; one set is the definition of an architecture."""

    eps: float
    rope: str = "norm"  # pairs (2i, 2i+1); "neox": pairs (i, i + half); "none"
    rope_dim: int = 0  # leading components of a head that turn
    freq_base: float = 10_000.0
    freq_scale: float = 1.0  # positions times this (linear scaling), global layers only
    freq_factors: bool = False  # divide by the tensor rope_freqs
    half_tables: bool = False  # sines and cosines in half precision
    local_base: float = 10_000.0  # base of the layers with a window
    window: int = 0  # keys that a query sees, itself included; 0: all
    pattern: int = 1  # every n-th layer has no window
    window_calls: bool = True  # the window holds in decode steps too
    norm: str = "rms"
    qk_norm: bool = False
    post_norm: bool = False
    parallel: bool = False  # attention and feed-forward side by side
    activation: str = "silu"
    gate: str = "first"  # half of a fused gate/up that is the gate; "none": no gate
    embed_scale: float = 1.0
    score_scale: float = 0.0
    groups: str = "block"  # query heads of a group lie together
    experts_used: int = 0
    renormalise: bool = True  # weights of the chosen experts sum to one
    conv_order: int = 1
    conv_forgets: bool = False  # the convolution sees zeros before a call of several tokens
    decode_unseen: bool = False  # such a call does not see the decoded tokens, nor is it causal
    flat: tuple = ()  # parts of names: norms become ones, biases zeros
    rounded: bool = False  # activations rounded as candle does before a quantized weight


@dataclass
class Model:
    """A file in the making."""

    name: str
    arch: str
    covers: str
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    layers: int
    rules: Rules
    weight_type: Q = Q.F16
    deviations: list = field(default_factory=list)  # (id, text, changes to the rules)
    errors: dict = field(default_factory=dict)  # call -> words of the reader's error
    breaks: list = field(default_factory=list)  # (text, changes to the rules)
    conv_layers: tuple = ()
    experts: int = 0
    metadata: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    weights: dict = field(default_factory=dict)  # as the file means them, double precision
    stored: dict = field(default_factory=dict)  # name -> (type, array for the writer)

    def seed(self, number):
        self.rng = np.random.default_rng(number)

    def put(self, name, values, kind):
        raw = gguf.quants.quantize(values.astype(np.float32), kind)
        self.store(name, raw, kind)

    def store(self, name, raw, kind):
        self.stored[name] = (kind, raw)
        self.weights[name] = gguf.quants.dequantize(raw, kind).astype(np.float64)

    def matrix(self, name, rows, columns, gain=1.0, kind=None, outer=()):
        """A weight whose outputs vary `gain` times as much as its inputs."""
        kind = self.weight_type if kind is None else kind
        spread = gain / math.sqrt(columns)
        if kind in (Q.Q4_K, Q.Q6_K):
            self.store(name, BLOCKS[kind](self.rng, rows, columns, spread), kind)
        else:
            self.put(name, self.rng.normal(0, spread, (*outer, rows, columns)), kind)

    def vector(self, name, length, mean, spread):
        self.put(name, self.rng.normal(mean, spread, length), Q.F32)

    def norm(self, name, length, bias=False):
        """Positive scales. Gemma's files hold 1 + w, which is what they look like."""
        self.vector(f"{name}.weight", length, 1.0, 0.2)
        if bias:
            self.vector(f"{name}.bias", length, 0.0, 0.3)


def q4_k(rng, rows, columns, spread):
    """Random blocks: 4-bit numbers, 6-bit scales and minima of 8 groups, two half floats.

    The package reads this type but does not write it.
    """
    blocks = rows * columns // 256
    scales = rng.integers(32, 64, (blocks, 8), dtype=np.uint8)
    minima = np.clip(scales.astype(np.int16) + rng.integers(-2, 3, (blocks, 8)), 0, 63)
    minima = minima.astype(np.uint8)
    packed = np.zeros((blocks, 12), np.uint8)
    packed[:, 0:4] = scales[:, :4] | (scales[:, 4:] >> 4 << 6)
    packed[:, 4:8] = minima[:, :4] | (minima[:, 4:] >> 4 << 6)
    packed[:, 8:12] = (scales[:, 4:] & 15) | ((minima[:, 4:] & 15) << 4)
    # Uniform over 16 steps around 7.5: the deviation is 4.6 steps; the mean scale is 47.5.
    step = np.full((blocks, 1), spread / (4.6 * 47.5))
    head = np.concatenate([step, 7.5 * step], axis=1).astype(np.float16).view(np.uint8)
    numbers = rng.integers(0, 256, (blocks, 128), dtype=np.uint8)
    return np.concatenate([head, packed, numbers], axis=1).reshape(rows, -1)


def q6_k(rng, rows, columns, spread):
    """Random blocks: 6-bit numbers around 32, 8-bit scales of 16 groups, a half float."""
    blocks = rows * columns // 256
    numbers = rng.integers(0, 256, (blocks, 192), dtype=np.uint8)
    sign = rng.choice(np.array([-1, 1], np.int8), (blocks, 16))
    scales = (rng.integers(48, 112, (blocks, 16), dtype=np.int8) * sign).view(np.uint8)
    step = np.full((blocks, 1), spread / (18.5 * 80)).astype(np.float16).view(np.uint8)
    return np.concatenate([numbers, scales, step], axis=1).reshape(rows, -1)


BLOCKS = {Q.Q4_K: q4_k, Q.Q6_K: q6_k}


# --- The forward pass ---------------------------------------------------------------------------


def round_activations(x, kind):
    """What candle multiplies a quantized weight with: blocks of 8-bit numbers."""
    block = 256 if kind in (Q.Q4_K, Q.Q6_K) else 32
    parts = x.reshape(-1, block)
    most = np.abs(parts).max(axis=1, keepdims=True)
    step = np.where(most == 0, 1.0, most / 127)
    whole = np.rint(parts / step)
    # Blocks of 32 store the step as a half float, blocks of 256 as a float.
    kept = step.astype(np.float16).astype(np.float64) if block == 32 else step
    return (whole * kept).reshape(x.shape)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    """The approximation with tanh, which is what these architectures are trained with."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {"silu": silu, "gelu": gelu}


class Pass:
    """One forward pass of a model by a set of rules."""

    def __init__(self, model, rules, calls=CALLS):
        self.model, self.rules, self.calls = model, rules, calls

    def weight(self, name):
        value = self.model.weights[name]
        if any(part in name for part in self.rules.flat):
            return np.zeros_like(value) if name.endswith("bias") else np.ones_like(value)
        return value

    def multiply(self, x, w, kind):
        quantized = kind not in (Q.F32, Q.F16)
        if quantized and self.rules.rounded:
            x = round_activations(x, kind)
        return x @ w.T

    def linear(self, x, name):
        kind, _ = self.model.stored[f"{name}.weight"]
        y = self.multiply(x, self.weight(f"{name}.weight"), kind)
        if f"{name}.bias" in self.model.weights:
            y = y + self.weight(f"{name}.bias")
        return y

    def norm(self, x, name):
        w = self.weight(f"{name}.weight")
        if self.rules.norm == "layer":
            x = x - x.mean(axis=-1, keepdims=True)
            scale = np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.rules.eps)
            return x / scale * w + self.weight(f"{name}.bias")
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.rules.eps) * w

    def windowed(self, layer):
        return self.rules.window > 0 and (layer + 1) % self.rules.pattern != 0

    def rotate(self, x, layer):
        """Turns the heads of `x` (positions, heads, components) by their positions."""
        rules, dim = self.rules, self.rules.rope_dim
        if rules.rope == "none":
            return x
        local = self.windowed(layer)
        base = rules.local_base if local else rules.freq_base
        freqs = base ** (-np.arange(0, dim, 2) / dim)
        if not local:
            freqs = freqs * rules.freq_scale
        if rules.freq_factors:
            freqs = freqs / self.model.weights["rope_freqs.weight"]
        positions = np.arange(len(x))
        if rules.half_tables:
            half = np.float16
            turns = (positions.astype(half)[:, None] * freqs.astype(half)[None, :]).astype(half)
            cos = np.cos(turns.astype(np.float64)).astype(half).astype(np.float64)
            sin = np.sin(turns.astype(np.float64)).astype(half).astype(np.float64)
        else:
            turns = positions[:, None] * freqs[None, :]
            cos, sin = np.cos(turns), np.sin(turns)
        cos, sin = cos[:, None, :], sin[:, None, :]
        if rules.rope == "neox":
            first, second = slice(0, dim // 2), slice(dim // 2, dim)
        else:
            first, second = slice(0, dim, 2), slice(1, dim, 2)
        a, b = x[..., first], x[..., second]
        y = x.copy()
        y[..., first] = a * cos - b * sin
        y[..., second] = a * sin + b * cos
        return y

    def visible(self, n, layer):
        rules, calls = self.rules, self.calls
        query, key = np.arange(n)[:, None], np.arange(n)[None, :]
        seen = key <= query
        if self.windowed(layer):
            # A query sees itself and the `window - 1` positions before it.
            near = query - key < rules.window
            if not rules.window_calls:
                # Of candle: the comparison lets in one more, and there is none in decode steps.
                near = (query - key <= rules.window) | (calls[:n] > 0)[:, None]
            seen = seen & near
        if rules.decode_unseen:
            last = calls[:n].max()
            rows = (calls[:n] == last)[:, None] & (last == 3)
            seen = np.where(rows, (calls[:n] == 0)[None, :] | (calls[:n] == 3)[None, :], seen)
        return seen

    def attention(self, x, layer):
        model, rules, n = self.model, self.rules, len(x)
        heads, kv_heads, dim = model.heads, model.kv_heads, model.head_dim
        block = f"blk.{layer}"
        if f"{block}.attn_qkv.weight" in model.weights:
            fused = self.linear(x, f"{block}.attn_qkv")
            q, k, v = np.split(fused, [heads * dim, (heads + kv_heads) * dim], axis=1)
        else:
            q, k, v = (self.linear(x, f"{block}.attn_{part}") for part in "qkv")
        q = q.reshape(n, heads, dim)
        k = k.reshape(n, kv_heads, dim)
        v = v.reshape(n, kv_heads, dim)
        if rules.qk_norm:
            q = self.norm(q, f"{block}.attn_q_norm")
            k = self.norm(k, f"{block}.attn_k_norm")
        q, k = self.rotate(q, layer), self.rotate(k, layer)
        share = heads // kv_heads
        if rules.groups == "block":
            k, v = np.repeat(k, share, axis=1), np.repeat(v, share, axis=1)
        else:
            k, v = np.tile(k, (1, share, 1)), np.tile(v, (1, share, 1))
        scores = np.einsum("qhd,khd->hqk", q, k) * (rules.score_scale or 1 / math.sqrt(dim))
        scores = np.where(self.visible(n, layer)[None], scores, -np.inf)
        mixed = np.einsum("hqk,khd->qhd", softmax(scores), v).reshape(n, heads * dim)
        return self.linear(mixed, f"{block}.attn_output")

    def short_conv(self, x, layer):
        """Gates before and after a causal convolution of each channel."""
        block = f"blk.{layer}.shortconv"
        b, c, values = np.split(self.linear(x, f"{block}.in_proj"), 3, axis=1)
        values = b * values
        taps = self.weight(f"{block}.conv.weight")[:, :: self.rules.conv_order]
        width = taps.shape[1]
        y = np.zeros_like(values)
        for i in range(len(x)):
            for tap in range(width):
                j = i - (width - 1) + tap
                if j < 0 or (self.rules.conv_forgets and self.calls[i] == 3 != self.calls[j]):
                    continue
                y[i] += taps[:, tap] * values[j]
        return self.linear(c * y, f"{block}.out_proj")

    def feed_forward(self, x, layer):
        rules, block = self.rules, f"blk.{layer}"
        act = ACTIVATIONS[rules.activation]
        if rules.experts_used:
            return self.mixture(x, block, act)
        up = self.linear(x, f"{block}.ffn_up")
        if f"{block}.ffn_gate.weight" in self.model.weights:
            gate = self.linear(x, f"{block}.ffn_gate")
        elif rules.gate != "none":
            gate, up = np.split(up, 2, axis=1)
        else:
            return self.linear(act(up), f"{block}.ffn_down")
        if rules.gate == "second":
            gate, up = up, gate
        return self.linear(act(gate) * up, f"{block}.ffn_down")

    def expert(self, block, part, number):
        merged = f"{block}.ffn_{part}_exps.weight"
        if merged in self.model.weights:
            return self.weight(merged)[number], self.model.stored[merged][0]
        name = f"{block}.ffn_{part}.{number}.weight"
        return self.weight(name), self.model.stored[name][0]

    def mixture(self, x, block, act):
        rules = self.rules
        shares = softmax(self.linear(x, f"{block}.ffn_gate_inp"))
        y = np.zeros_like(x)
        for i, row in enumerate(shares):
            best = np.argsort(-row, kind="stable")[: rules.experts_used]
            total = row[best].sum() if rules.renormalise else 1.0
            for number in best:
                part = {
                    p: self.expert(block, p, number) for p in ("gate", "up", "down")
                }
                one = x[i : i + 1]
                inner = act(self.multiply(one, *part["gate"])) * self.multiply(one, *part["up"])
                y[i] += row[number] / total * self.multiply(inner, *part["down"])[0]
        return y

    def logits(self, tokens=None):
        """Logits of every position."""
        rules, model = self.rules, self.model
        tokens = TOKENS if tokens is None else tokens
        x = model.weights["token_embd.weight"][tokens] * rules.embed_scale
        for layer in range(model.layers):
            block = f"blk.{layer}"
            h = self.norm(x, f"{block}.attn_norm")
            mixer = self.short_conv if layer in model.conv_layers else self.attention
            a = mixer(h, layer)
            if rules.parallel:
                x = x + a + self.feed_forward(h, layer)
                continue
            if rules.post_norm:
                a = self.norm(a, f"{block}.post_attention_norm")
            x = x + a
            second = "ffn_norm" if f"{block}.ffn_norm.weight" in model.weights else "attn_norm"
            f = self.feed_forward(self.norm(x, f"{block}.{second}"), layer)
            if rules.post_norm:
                f = self.norm(f, f"{block}.post_ffw_norm")
            x = x + f
        last = "token_embd_norm" if "token_embd_norm.weight" in model.weights else "output_norm"
        x = self.norm(x, last)
        tied = "output.weight" not in model.weights
        return self.linear(x, "token_embd" if tied else "output")


# --- The models ---------------------------------------------------------------------------------


def rope_breaks(rules, tell_partial=False):
    other = {"norm": "neox", "neox": "norm"}[rules.rope]
    found = [
        (f"rotary pairing {rules.rope} -> {other}", {"rope": other}),
        ("no rotary embedding", {"rope": "none"}),
    ]
    if tell_partial:
        found.append(("whole head turned", {"rope_dim": 2 * rules.rope_dim}))
    return found


COMMON_BREAKS = [
    ("scales of attn_norm dropped", {"flat": (".attn_norm.weight",)}),
    ("scales of the last norm dropped", {"flat": ("output_norm.weight", "token_embd_norm")}),
]
FFN_NORM = [("scales of ffn_norm dropped", {"flat": ("ffn_norm",)})]
QK_NORM = [
    ("QK norm dropped", {"qk_norm": False}),
    ("scales of the QK norm dropped", {"flat": ("attn_q_norm", "attn_k_norm")}),
]
GROUPS = [("query heads interleaved over key heads", {"groups": "tile"})]
SWAPPED = [("gate and up exchanged", {"gate": "second"})]
EPS = [("eps 1e-5 instead of the file's", {"eps": 1e-5})]


def embeddings(m, spread=0.5, tied=False, bias=False, kind=None, last="output_norm", gain=2.0):
    m.matrix("token_embd.weight", VOCAB, m.hidden, spread * math.sqrt(m.hidden), kind)
    m.norm(last, m.hidden, bias)
    if not tied:
        m.matrix("output.weight", VOCAB, m.hidden, gain, kind)
        if bias:
            m.vector("output.bias", VOCAB, 0.0, 0.3)


def split_attention(m, layer, bias=False, qk_norm=False, v_kind=None):
    block, rows = f"blk.{layer}", m.heads * m.head_dim
    kv_rows = m.kv_heads * m.head_dim
    gain = 1.0 if qk_norm else 1.5
    m.matrix(f"{block}.attn_q.weight", rows, m.hidden, gain)
    m.matrix(f"{block}.attn_k.weight", kv_rows, m.hidden, gain)
    m.matrix(f"{block}.attn_v.weight", kv_rows, m.hidden, 1.0, v_kind)
    m.matrix(f"{block}.attn_output.weight", m.hidden, rows)
    if bias:
        m.vector(f"{block}.attn_q.bias", rows, 0.0, 0.5)
        m.vector(f"{block}.attn_k.bias", kv_rows, 0.0, 0.5)
        m.vector(f"{block}.attn_v.bias", kv_rows, 0.0, 0.5)
    if qk_norm:
        m.vector(f"{block}.attn_q_norm.weight", m.head_dim, 1.3, 0.3)
        m.vector(f"{block}.attn_k_norm.weight", m.head_dim, 1.3, 0.3)


def split_mlp(m, layer, down_kind=None):
    block = f"blk.{layer}"
    m.matrix(f"{block}.ffn_gate.weight", m.ffn, m.hidden, 1.5)
    m.matrix(f"{block}.ffn_up.weight", m.ffn, m.hidden)
    m.matrix(f"{block}.ffn_down.weight", m.hidden, m.ffn, 1.5, down_kind)


def decoder(m, number, tied=False, bias=False, qk_norm=False, kinds=(None, None), body=split_mlp):
    """The common form: two norms, separate projections, a gated feed-forward network."""
    m.seed(number)
    v_kind, output_kind = kinds
    embeddings(m, spread=0.3 if tied else 0.5, tied=tied, kind=output_kind)
    for layer in range(m.layers):
        m.norm(f"blk.{layer}.attn_norm", m.hidden)
        m.norm(f"blk.{layer}.ffn_norm", m.hidden)
        split_attention(m, layer, bias, qk_norm, v_kind)
        body(m, layer)
    return m


def llama(name="llama", number=1, covers=None, **changes):
    rules = Rules(eps=1e-3, rope="norm", rope_dim=16)
    shape = dict(hidden=64, heads=4, kv_heads=2, head_dim=16, ffn=96, layers=2)
    shape.update(changes)
    m = Model(name=name, arch="llama", covers=covers or "", rules=rules, **shape)
    m.rules = replace(m.rules, rope_dim=m.head_dim)
    m.breaks = rope_breaks(m.rules) + COMMON_BREAKS + FFN_NORM + GROUPS + SWAPPED
    m.notes = [
        "The reader has a table of 4096 positions, whatever llama.context_length says, and takes "
        "the size of a head from embedding_length / head_count: attention.key_length is not read.",
    ]
    return m, number


def make_llama():
    m, number = llama(
        covers="grouped-query attention, pairs (2i, 2i+1), Q8_0", weight_type=Q.Q8_0,
    )
    return decoder(m, number)


def make_llama_f16():
    m, number = llama(
        "llama-f16", 11, "the same form in F16: a tight tolerance; tied embeddings",
    )
    m.breaks += EPS
    return decoder(m, number, tied=True)


def make_llama_q4k():
    m, number = llama(
        "llama-q4k", 2, "Q4_K with Q6_K for values, down projection, embedding and output",
        hidden=256, heads=8, kv_heads=2, head_dim=32, ffn=256, layers=1, weight_type=Q.Q4_K,
    )
    body = lambda m, layer: split_mlp(m, layer, Q.Q6_K)
    return decoder(m, number, kinds=(Q.Q6_K, Q.Q6_K), body=body)


def make_llama_moe():
    m, number = llama(
        "llama-moe", 3, "mixture of 4 experts, 2 used, one tensor for each expert", ffn=48,
    )
    m.experts = 4
    m.rules = replace(m.rules, experts_used=2)
    m.metadata = {"expert_count": 4, "expert_used_count": 2}
    m.breaks = rope_breaks(m.rules) + COMMON_BREAKS + FFN_NORM + EPS + [
        ("one expert instead of two", {"experts_used": 1}),
        ("weights of the experts not renormalised", {"renormalise": False}),
    ]
    m.notes.append(
        "The reader wants ffn_gate.N, ffn_up.N and ffn_down.N for each expert, as files of early "
        "2024 have them; a file with ffn_gate_exps, ffn_up_exps, ffn_down_exps (every writer "
        "since) does not load. llama.cpp no longer loads the form that the reader wants."
    )

    def body(m, layer):
        block = f"blk.{layer}"
        m.matrix(f"{block}.ffn_gate_inp.weight", m.experts, m.hidden, 1.5)
        for e in range(m.experts):
            m.matrix(f"{block}.ffn_gate.{e}.weight", m.ffn, m.hidden, 1.5)
            m.matrix(f"{block}.ffn_up.{e}.weight", m.ffn, m.hidden)
            m.matrix(f"{block}.ffn_down.{e}.weight", m.hidden, m.ffn, 1.5)

    return decoder(m, number, body=body)


def make_llama_rope_freqs():
    m, number = llama(
        "llama-rope-freqs", 4, "factors of the rotary frequencies, as files of Llama 3.1 and 3.2",
    )
    m.rules = replace(m.rules, freq_factors=True, freq_base=500_000.0)
    m.breaks += EPS
    m.deviations = [(
        "rope-freqs",
        "quantized_llama does not read rope_freqs.weight: the frequencies are not divided by its "
        "factors. The effect grows with the position.",
        {"freq_factors": False},
    )]
    m = decoder(m, number)
    # What the published scaling gives: ones, a ramp, eights.
    factors = np.array([1.0, 1.0, 1.2, 1.8, 2.9, 4.6, 8.0, 8.0])
    m.put("rope_freqs.weight", factors, Q.F32)
    return m


def make_qwen2():
    rules = Rules(eps=1e-3, rope="neox", rope_dim=16, freq_base=1_000_000.0)
    m = Model(
        name="qwen2", arch="qwen2", covers="biases of q, k and v, pairs (i, i + half), Q8_0",
        hidden=64, heads=4, kv_heads=2, head_dim=16, ffn=96, layers=2, rules=rules,
        weight_type=Q.Q8_0,
    )
    m.breaks = rope_breaks(rules) + COMMON_BREAKS + FFN_NORM + GROUPS + SWAPPED + [
        ("biases dropped", {"flat": (".bias",)}),
    ]
    return decoder(m, 5, bias=True)


QWEN3_HALF = (
    "half-rope",
    "quantized_qwen3 keeps frequencies, positions, sines and cosines in half precision unless the "
    "metadata key general.dtype is 0, which no converter writes. Positions beyond 2048 are rounded "
    "and from 65520 on infinite. Remedy: insert general.dtype = 0 (u32) into the metadata of the "
    "content before from_gguf.",
    {"half_tables": True},
)


def make_qwen3():
    rules = Rules(eps=1e-3, rope="neox", rope_dim=24, freq_base=1_000_000.0, qk_norm=True)
    m = Model(
        name="qwen3", arch="qwen3",
        covers="norms of q and k, heads wider than hidden / heads, tied embeddings",
        hidden=64, heads=4, kv_heads=2, head_dim=24, ffn=96, layers=2, rules=rules,
    )
    m.metadata = {"attention.key_length": 24, "attention.value_length": 24}
    m.breaks = rope_breaks(rules) + COMMON_BREAKS + FFN_NORM + QK_NORM + GROUPS + SWAPPED + EPS
    m.deviations = [
        QWEN3_HALF,
        (
            "chunk-after-decode",
            "on a CPU quantized_qwen3 keeps two caches; decoded tokens enter one only, and a call "
            "of several tokens reads the other. Such a call after a decode step misses the decoded "
            "tokens, and its mask, shifted by the offset, hides nothing. Remedy: one token at a "
            "time, or clear the cache and compute the whole prompt again.",
            {"decode_unseen": True},
        ),
    ]
    m.notes = [
        "A call at offset 0 does not empty the caches: call clear_kv_cache between sequences.",
    ]
    return decoder(m, 6, tied=True, qk_norm=True)


def make_qwen3moe():
    rules = Rules(
        eps=1e-3, rope="neox", rope_dim=32, freq_base=1_000_000.0, qk_norm=True, experts_used=2,
    )
    m = Model(
        name="qwen3moe", arch="qwen3moe",
        covers="mixture of 4 experts, 2 used, merged tensors in Q8_0; norms of q and k",
        hidden=64, heads=4, kv_heads=2, head_dim=32, ffn=32, layers=2, rules=rules, experts=4,
    )
    m.metadata = {
        "attention.key_length": 32, "attention.value_length": 32, "expert_count": 4,
        "expert_used_count": 2, "expert_feed_forward_length": 32,
    }
    m.breaks = rope_breaks(rules) + COMMON_BREAKS + FFN_NORM + QK_NORM + GROUPS + [
        ("one expert instead of two", {"experts_used": 1}),
        ("weights of the experts not renormalised", {"renormalise": False}),
    ]
    m.deviations = [(
        "cuda-only",
        "quantized_qwen3_moe loads on a CPU, but its first call fails: moe_gemm_gguf exists for "
        "CUDA only.",
        None,
    )]
    m.errors = {call: "only implemented for the cuda backend" for call in range(4)}
    m.notes = ["Nothing clears the caches of the reader: load anew for another sequence."]

    def body(m, layer):
        block = f"blk.{layer}"
        m.matrix(f"{block}.ffn_gate_inp.weight", m.experts, m.hidden, 1.5, Q.F32)
        outer = (m.experts,)
        m.matrix(f"{block}.ffn_gate_exps.weight", m.ffn, m.hidden, 1.5, Q.Q8_0, outer)
        m.matrix(f"{block}.ffn_up_exps.weight", m.ffn, m.hidden, 1.0, Q.Q8_0, outer)
        m.matrix(f"{block}.ffn_down_exps.weight", m.hidden, m.ffn, 1.5, Q.Q8_0, outer)

    return decoder(m, 7, qk_norm=True, body=body)


def make_gemma3():
    hidden = 48
    rules = Rules(
        eps=1e-3, rope="neox", rope_dim=24, freq_base=1_000_000.0, freq_scale=1 / 8, window=4,
        pattern=6, qk_norm=True, post_norm=True, activation="gelu",
        embed_scale=math.sqrt(hidden),
    )
    m = Model(
        name="gemma3", arch="gemma3",
        covers="norms of q and k and after each half, scaled embeddings, a window of 4 in five "
        "layers of six with a base of its own, GELU gate, linear scaling of the global layer",
        hidden=hidden, heads=3, kv_heads=1, head_dim=24, ffn=64, layers=6, rules=rules,
    )
    m.metadata = {
        "attention.key_length": 24, "attention.value_length": 24, "attention.sliding_window": 4,
        "rope.scaling.type": "linear", "rope.scaling.factor": 8.0,
    }
    m.breaks = rope_breaks(rules) + COMMON_BREAKS + FFN_NORM + QK_NORM + SWAPPED + EPS + [
        ("scales of the norms after each half dropped", {"flat": ("post_",)}),
        ("embeddings not scaled", {"embed_scale": 1.0}),
        ("no window", {"window": 10**6}),
        ("the base of the global layers everywhere", {"local_base": 1_000_000.0}),
        ("every layer with a window", {"pattern": 10**6}),
        ("SiLU gate", {"activation": "silu"}),
        ("linear scaling ignored", {"freq_scale": 1.0}),
    ]
    m.deviations = [
        (
            "silu",
            "quantized_gemma3 gates with SiLU; the architecture gates with GELU (tanh). "
            "Upstream: https://github.com/huggingface/candle/issues/3745.",
            {"activation": "silu"},
        ),
        (
            "window",
            "quantized_gemma3 lets a query of the prompt see one key more than the window has, "
            "and a decode step every key: windows count beyond their length only.",
            {"window_calls": False},
        ),
        (
            "rope-scaling",
            "quantized_gemma3 ignores rope.scaling.factor, which files of 4B and larger have (8): "
            "the positions of the global layers are not scaled.",
            {"freq_scale": 1.0},
        ),
        (
            "chunk",
            "quantized_gemma3 refuses a call of several tokens at an offset above 0: it joins "
            "masks of two types. Remedy: one token at a time.",
            None,
        ),
    ]
    m.errors = {3: "dtype mismatch in cat"}
    m.notes = [
        "The reader scales scores by the size of a head; 27B scales by hidden / heads instead, "
        "and is thus misread.",
    ]
    m.seed(8)
    m.matrix("token_embd.weight", VOCAB, hidden, 2.0)
    m.norm("output_norm", hidden)
    for layer in range(m.layers):
        block = f"blk.{layer}"
        for name in ("attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm"):
            m.norm(f"{block}.{name}", hidden)
        split_attention(m, layer, qk_norm=True)
        split_mlp(m, layer)
    return m


def make_phi2():
    rules = Rules(
        eps=1e-3, rope="neox", rope_dim=8, norm="layer", parallel=True, activation="gelu",
        gate="none",
    )
    m = Model(
        name="phi2", arch="phi2",
        covers="layer norms, biases everywhere, both halves side by side, half of a head turned",
        hidden=64, heads=4, kv_heads=4, head_dim=16, ffn=128, layers=2, rules=rules,
    )
    m.breaks = rope_breaks(rules, tell_partial=True) + COMMON_BREAKS + EPS + [
        ("biases of the projections dropped", {"flat": ("attn_qkv.bias", "attn_output.bias")}),
        ("biases of the feed-forward dropped", {"flat": ("ffn_up.bias", "ffn_down.bias")}),
        ("bias of the output dropped", {"flat": ("output.bias",)}),
        ("biases of the norms dropped", {"flat": ("norm.bias",)}),
        ("RMS norm", {"norm": "rms"}),
        ("SiLU", {"activation": "silu"}),
        ("one half after the other", {"parallel": False}),
    ]
    m.notes = [
        "The reader has a table of 4096 positions, a fixed base of 10000, and splits the fused "
        "projection in three equal parts: head_count_kv must equal head_count.",
    ]
    m.seed(9)
    embeddings(m, bias=True)
    for layer in range(m.layers):
        block = f"blk.{layer}"
        m.norm(f"{block}.attn_norm", m.hidden, bias=True)
        for name, rows, columns, gain in [
            ("attn_qkv", 3 * m.hidden, m.hidden, 1.5), ("attn_output", m.hidden, m.hidden, 1.0),
            ("ffn_up", m.ffn, m.hidden, 1.5), ("ffn_down", m.hidden, m.ffn, 1.0),
        ]:
            m.matrix(f"{block}.{name}.weight", rows, columns, gain)
            m.vector(f"{block}.{name}.bias", rows, 0.0, 0.3)
    return m


def phi3(name, number, covers, freq_base):
    rules = Rules(eps=1e-3, rope="neox", rope_dim=16, freq_base=freq_base)
    m = Model(
        name=name, arch="phi3", covers=covers,
        hidden=64, heads=4, kv_heads=2, head_dim=16, ffn=96, layers=2, rules=rules,
    )
    m.breaks = rope_breaks(rules) + COMMON_BREAKS + FFN_NORM + GROUPS + SWAPPED + EPS
    m.notes = [
        "The reader does not load a file without output.weight, nor one whose "
        "rope.dimension_count is less than a head (Phi-4-mini has both), and ignores "
        "rope_factors_long and rope_factors_short (the 128k variants).",
    ]
    m.seed(number)
    embeddings(m)
    for layer in range(m.layers):
        block, rows = f"blk.{layer}", m.heads * m.head_dim
        m.norm(f"{block}.attn_norm", m.hidden)
        m.norm(f"{block}.ffn_norm", m.hidden)
        fused = (m.heads + 2 * m.kv_heads) * m.head_dim
        m.matrix(f"{block}.attn_qkv.weight", fused, m.hidden, 1.5)
        m.matrix(f"{block}.attn_output.weight", m.hidden, rows)
        m.matrix(f"{block}.ffn_up.weight", 2 * m.ffn, m.hidden, 1.2)
        m.matrix(f"{block}.ffn_down.weight", m.hidden, m.ffn, 1.5)
    return m


def make_phi3():
    return phi3("phi3", 10, "fused q, k and v, fused gate and up, grouped queries", 10_000.0)


def make_phi3_theta():
    m = phi3("phi3-theta", 12, "another base of the rotary embedding, as Phi-4 has", 250_000.0)
    m.deviations = [(
        "fixed-base",
        "quantized_phi3 does not read rope.freq_base: the base is always 10000. Files of Phi-4 "
        "(architecture phi3) have 250000.",
        {"freq_base": 10_000.0},
    )]
    return m


def make_glm4():
    rules = Rules(eps=1e-3, rope="norm", rope_dim=16, post_norm=True)
    m = Model(
        name="glm4", arch="glm4",
        covers="half of a head turned in pairs (2i, 2i+1), norms after each half, fused gate and "
        "up, biases of q, k and v, heads wider than hidden / heads",
        hidden=64, heads=4, kv_heads=2, head_dim=32, ffn=96, layers=2, rules=rules,
    )
    m.metadata = {"attention.key_length": 32, "attention.value_length": 32}
    m.breaks = rope_breaks(rules, tell_partial=True) + COMMON_BREAKS + FFN_NORM + GROUPS
    m.breaks += SWAPPED + EPS + [
        ("scales of the norms after each half dropped", {"flat": ("post_",)}),
        ("no norms after each half", {"post_norm": False}),
        ("biases dropped", {"flat": (".bias",)}),
    ]
    m.notes = [
        "The reader turns half of a head whatever rope.dimension_count says, which fits every "
        "published file.",
    ]
    m.seed(13)
    embeddings(m)
    for layer in range(m.layers):
        block = f"blk.{layer}"
        for name in ("attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm"):
            m.norm(f"{block}.{name}", m.hidden)
        split_attention(m, layer, bias=True)
        m.matrix(f"{block}.ffn_up.weight", 2 * m.ffn, m.hidden, 1.2)
        m.matrix(f"{block}.ffn_down.weight", m.hidden, m.ffn, 1.5)
    return m


def make_lfm2():
    rules = Rules(eps=1e-3, rope="neox", rope_dim=16, freq_base=1_000_000.0, qk_norm=True)
    m = Model(
        name="lfm2", arch="lfm2",
        covers="short convolutions (layers 0, 1 and 3) and attention (layer 2) with norms of q "
        "and k, the last norm named token_embd_norm, tied embeddings",
        hidden=64, heads=4, kv_heads=2, head_dim=16, ffn=96, layers=4, rules=rules,
        conv_layers=(0, 1, 3),
    )
    m.metadata = {"shortconv.l_cache": 3, "attention.head_count_kv": [0, 0, 2, 0]}
    m.breaks = rope_breaks(rules) + COMMON_BREAKS + FFN_NORM + QK_NORM + GROUPS + SWAPPED + EPS + [
        ("convolution reversed", {"conv_order": -1}),
    ]
    m.deviations = [(
        "chunk",
        "quantized_lfm2 starts the convolution of a call of several tokens from zeros, whatever "
        "came before. Remedy: one token at a time.",
        {"conv_forgets": True},
    )]
    m.notes = [
        "Nothing clears the reader's state; a sequence that starts with one token continues the "
        "convolutions of the sequence before. Start with two tokens, or load anew.",
    ]
    m.seed(14)
    embeddings(m, spread=0.3, tied=True, last="token_embd_norm")
    for layer in range(m.layers):
        block = f"blk.{layer}"
        m.norm(f"{block}.attn_norm", m.hidden)
        m.norm(f"{block}.ffn_norm", m.hidden)
        if layer in m.conv_layers:
            m.matrix(f"{block}.shortconv.in_proj.weight", 3 * m.hidden, m.hidden, 1.2)
            m.put(f"{block}.shortconv.conv.weight", m.rng.normal(0, 0.7, (m.hidden, 3)), Q.F32)
            m.matrix(f"{block}.shortconv.out_proj.weight", m.hidden, m.hidden)
        else:
            split_attention(m, layer, qk_norm=True)
        split_mlp(m, layer)
    return m


MAKERS = [
    make_llama, make_llama_f16, make_llama_q4k, make_llama_moe, make_llama_rope_freqs, make_qwen2,
    make_qwen3, make_qwen3moe, make_gemma3, make_phi2, make_phi3, make_phi3_theta, make_glm4,
    make_lfm2,
]


# --- Files --------------------------------------------------------------------------------------


def write_model(m, path):
    writer = gguf.GGUFWriter(path, m.arch)
    writer.add_name(f"tiny {m.name}")
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(FILE_TYPES[m.weight_type])
    writer.add_vocab_size(VOCAB)
    writer.add_block_count(m.layers)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(m.hidden)
    writer.add_feed_forward_length(m.ffn)
    writer.add_head_count(m.heads)
    if "attention.head_count_kv" not in m.metadata:
        writer.add_head_count_kv(m.kv_heads)
    if m.rules.norm == "layer":
        writer.add_layer_norm_eps(m.rules.eps)
    else:
        writer.add_layer_norm_rms_eps(m.rules.eps)
    writer.add_rope_freq_base(m.rules.freq_base)
    writer.add_rope_dimension_count(m.rules.rope_dim)
    for suffix, value in m.metadata.items():
        key = f"{m.arch}.{suffix}"
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    writer.add_tokenizer_model("none")
    for name, (kind, raw) in m.stored.items():
        writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def last_rows(logits):
    return logits[LAST]


def numbers(row):
    return [round(float(x), 6) for x in np.asarray(row, np.float32)]


def upwards(value):
    """A number of two digits that is not below."""
    scale = 10.0 ** (math.floor(math.log10(value)) - 1)
    return round(math.ceil(value / scale) * scale, 10)


def tolerance_of(m, exact):
    """A tolerance, the reason for it, and the logits with rounded activations, if they differ."""
    kinds = {kind for kind, _ in m.stored.values()}
    if kinds <= {Q.F32, Q.F16}:
        reason = (
            "Weights of F32 and F16 are multiplied in single precision; the expected logits are "
            "of double precision. Measured differences are below a tenth of this."
        )
        return FLOOR, reason, None
    rounded = last_rows(Pass(m, replace(m.rules, rounded=True)).logits())
    change = float(np.abs(rounded - exact).max())
    reason = (
        f"Activations rounded to 8 bits before each quantized weight move the logits by "
        f"{change:.4f} at most; {MARGIN:g} times that. rounded_tolerance: numbers between two "
        f"steps fall to either side, by the order of sums."
    )
    return upwards(MARGIN * change), reason, rounded


def describe(m, path):
    """The entry of `expected.json`, after the checks of the model itself."""
    exact = last_rows(Pass(m, m.rules).logits())
    tolerance, reason, rounded = tolerance_of(m, exact)
    tightest = tolerance if rounded is None else ROUNDED
    spread = float(min(row.max() - row.min() for row in exact))
    failures = []
    print(f"{m.name}: {path.stat().st_size} bytes, logits {exact.min():.2f} .. {exact.max():.2f}, "
          f"spread {spread:.2f}, tolerance {tolerance:g}, tightest {tightest:g}")
    if not spread > 1 or not np.isfinite(exact).all():
        failures.append(f"{m.name}: degenerate logits")
    for text, changes in m.breaks:
        rules = replace(m.rules, **changes)
        moved = float(np.abs(last_rows(Pass(m, rules).logits()) - exact).max())
        print(f"    {text}: {moved:.4f}, {moved / tightest:.0f} times the tightest tolerance")
        if not (moved > SEEN * tightest and moved > SEEN_BY_ALL * tolerance):
            failures.append(f"{m.name}: {text}: {moved:.4f} is not seen with {tolerance}")

    deviations, reader_rules = [], m.rules
    for key, text, changes in m.deviations:
        entry = {"id": key, "reader": READERS, "what": text}
        if changes is not None:
            rules = replace(m.rules, **changes)
            moved = np.abs(last_rows(Pass(m, rules).logits()) - exact).max(axis=1)
            entry["effect"] = {
                "prefill": round(float(moved[0]), 6),
                "decode": round(float(moved[1:3].max()), 6),
                "chunk": round(float(moved[3]), 6),
            }
            reader_rules = replace(reader_rules, **changes)
            print(f"    known deviation {key}: {entry['effect']}")
        if key == "half-rope":
            entry["effect_at_position"] = long_effect(m, changes)
            print(f"    known deviation {key} by position: {entry['effect_at_position']}")
        deviations.append(entry)
    reader = last_rows(Pass(m, reader_rules).logits())

    def step(call):
        tokens = [t for t, c in zip(TOKENS, CALLS) if c == call]
        position = int(np.argmax(CALLS == call))
        entry = {"position": position, "tokens": tokens, "logits": numbers(exact[call])}
        if call in m.errors:
            entry["candle"] = {"error": m.errors[call]}
        elif np.abs(reader[call] - exact[call]).max() > 1e-9:
            entry["candle"] = {"logits": numbers(reader[call])}
        if rounded is not None:
            entry["rounded"] = numbers(rounded[call])
        return entry

    entry = {
        "name": m.name,
        "file": path.name,
        "architecture": m.arch,
        "covers": m.covers,
        "tolerance": tolerance,
        "tolerance_reason": reason,
        **({} if rounded is None else {"rounded_tolerance": ROUNDED}),
        "steps": [step(call) for call in range(3)],
        "chunk": step(3),
        "known_deviation": deviations,
        "notes": m.notes,
    }
    return entry, failures


def long_effect(m, changes):
    """How far logits move where the sequence is long, by position."""
    n = 2000
    tokens = [(7 * i + i * i) % VOCAB for i in range(n)]
    calls = np.zeros(n, int)
    exact = Pass(m, m.rules, calls).logits(tokens)
    other = Pass(m, replace(m.rules, **changes), calls).logits(tokens)
    moved = np.abs(other - exact).max(axis=1)
    return {str(p): round(float(moved[p]), 4) for p in (10, 100, 500, 1000, 1999)}


def text_of(expected):
    """JSON of which every list of numbers lies on one line."""
    lists = []

    def mark(value):
        if isinstance(value, dict):
            return {k: mark(v) for k, v in value.items()}
        if isinstance(value, list) and value and all(isinstance(x, (int, float)) for x in value):
            lists.append(json.dumps(value))
            return f"@{len(lists) - 1}@"
        if isinstance(value, list):
            return [mark(v) for v in value]
        return value

    text = json.dumps(mark(expected), indent=2)
    for number, line in enumerate(lists):
        text = text.replace(f'"@{number}@"', line, 1)
    return text + "\n"


def make_all(folder):
    models, failures = [], []
    for make in MAKERS:
        m = make()
        path = folder / f"{m.name}.gguf"
        write_model(m, path)
        entry, found = describe(m, path)
        models.append(entry)
        failures += found
    expected = {
        "made_by": "tests/make_tiny_models.py",
        "vocab_size": VOCAB,
        "what": "Logits of the last position after each call: `steps` are a prompt and two decode "
        "steps, `chunk` is a call of several tokens on the cache that they leave. `logits` are by "
        "the definition of the architecture; `candle` is there where the reader is known to give "
        "something else, see known_deviation.",
        "models": models,
    }
    (folder / "expected.json").write_text(text_of(expected))
    return failures


def alike(made, kept):
    """Equal, but for the last digit of a number: sums depend on the machine's linear algebra."""
    if isinstance(made, dict) and isinstance(kept, dict):
        return made.keys() == kept.keys() and all(alike(made[k], kept[k]) for k in made)
    if isinstance(made, list) and isinstance(kept, list):
        return len(made) == len(kept) and all(map(alike, made, kept))
    if isinstance(made, float) and isinstance(kept, float):
        return abs(made - kept) < 1e-5
    return made == kept


def same_file(made, kept):
    if not kept.exists():
        return False
    if made.suffix == ".json":
        return alike(json.loads(made.read_text()), json.loads(kept.read_text()))
    return filecmp.cmp(made, kept, shallow=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    options = parser.parse_args()
    if not options.check:
        FOLDER.mkdir(parents=True, exist_ok=True)
        failures = make_all(FOLDER)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            failures = make_all(Path(scratch))
            for made in sorted(Path(scratch).iterdir()):
                kept = FOLDER / made.name
                if not same_file(made, kept):
                    failures.append(f"{kept.name} differs from what this script makes")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
