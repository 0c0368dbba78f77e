#!/usr/bin/env python3
"""Compares a synthetic GGUF file with what `foretoken inspect` says of the same model.

The file is read with the `gguf` package of llama.cpp, a reader that shares nothing with ours.

    foretoken synth tinyllama-1.1b --quant Q4_K_M --out tiny.gguf
    foretoken inspect tinyllama-1.1b --quant Q4_K_M --format json > tiny.json
    pip install -r tests/requirements.txt
    python tests/check_synth.py tiny.gguf tiny.json

Exit code 0 where all agrees, 1 with a line for each of the first differences.
"""

import json
import math
import os
import sys

ALIGNMENT = 32
# Differences that are printed; a wrong pair of files differs in hundreds.
MOST_LINES = 20
# `general.file_type` by scheme: llama.cpp, `enum llama_ftype`.
FILE_TYPES = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K_S": 14, "Q4_K_M": 15,
    "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18, "BF16": 32,
}


def expected_metadata(model):
    """Keys that the file must have, from the shape of the model."""
    arch = model["architecture"]
    keys = {
        "general.architecture": arch,
        "general.name": model["name"],
        "general.quantization_version": 2,
        "general.alignment": ALIGNMENT,
        "tokenizer.ggml.model": "none",
        f"{arch}.block_count": model["n_layers"],
        f"{arch}.context_length": model["context_length"],
        f"{arch}.embedding_length": model["hidden_size"],
        f"{arch}.feed_forward_length": model["intermediate_size"],
        f"{arch}.attention.head_count": model["n_heads"],
        f"{arch}.attention.head_count_kv": model["n_kv_heads"],
        f"{arch}.attention.layer_norm_rms_epsilon": model["rms_norm_eps"],
        f"{arch}.rope.dimension_count": model["head_dim"],
        f"{arch}.rope.freq_base": model["rope_freq_base"],
        f"{arch}.vocab_size": model["vocab_size"],
    }
    if model["quant"] in FILE_TYPES:
        keys["general.file_type"] = FILE_TYPES[model["quant"]]
    if model["head_dim"] * model["n_heads"] != model["hidden_size"]:
        keys[f"{arch}.attention.key_length"] = model["head_dim"]
        keys[f"{arch}.attention.value_length"] = model["head_dim"]
    return keys


def same(found, expected):
    if isinstance(expected, float):
        return isinstance(found, float) and math.isclose(found, expected, rel_tol=1e-6)
    return found == expected


def metadata_differences(reader, model):
    for key, expected in expected_metadata(model).items():
        field = reader.get_field(key)
        if field is None:
            yield f"metadata key {key} is missing"
        elif not same(field.contents(), expected):
            yield f"metadata key {key} is {field.contents()!r}, expected {expected!r}"


def tensor_differences(reader, tensors):
    found = {t.name: t for t in reader.tensors}
    expected = {t["name"]: t for t in tensors}
    for name in sorted(expected.keys() - found.keys()):
        yield f"tensor {name} is missing in the file"
    for name in sorted(found.keys() - expected.keys()):
        yield f"tensor {name} is in the file only"
    common = [name for name in expected if name in found]
    if [name for name in found if name in expected] != common:
        yield "the tensors are in another order"
    for name in common:
        theirs, ours = found[name], expected[name]
        facts = {
            "shape": ([int(n) for n in theirs.shape], ours["shape"]),
            "type": (theirs.tensor_type.name, ours["quant"]),
            "bytes": (int(theirs.n_bytes), ours["bytes"]),
        }
        for fact, (in_file, said) in facts.items():
            if in_file != said:
                yield f"tensor {name} has {fact} {in_file}, expected {said}"


def weight_differences(reader, deviation=0.02):
    """One matrix of each type must dequantize to finite weights of a sane size."""
    import numpy
    from gguf import dequantize

    seen = {}
    for tensor in reader.tensors:
        if len(tensor.shape) > 1:
            seen.setdefault(tensor.tensor_type, tensor)
    for tensor_type, tensor in seen.items():
        weights = dequantize(tensor.data[:64], tensor_type)
        spread = float(numpy.std(weights))
        if not numpy.isfinite(weights).all() or abs(spread / deviation - 1) > 0.1:
            yield f"tensor {tensor.name} ({tensor_type.name}) has weights of deviation {spread}"


def differences(path, report):
    from gguf import GGUFReader

    reader = GGUFReader(path)
    version = int(reader.get_field("GGUF.version").contents())
    if version != 3:
        yield f"the file has version {version}, expected 3"
    size = os.path.getsize(path)
    # A published file has a tokenizer on top, a few MB that ours has not.
    if not 0 <= report["file_bytes"] - size <= 10_000_000:
        yield f"the file has {size} bytes, expected {report['file_bytes']} less a tokenizer"
    yield from metadata_differences(reader, report["model"])
    yield from tensor_differences(reader, report["tensors"])
    yield from weight_differences(reader)


def main(arguments):
    if len(arguments) != 2:
        sys.exit("usage: check_synth.py FILE.gguf INSPECT.json")
    path, report_path = arguments
    with open(report_path, encoding="utf-8") as file:
        report = json.load(file)
    found = list(differences(path, report))
    for line in found[:MOST_LINES]:
        print(f"{path}: {line}", file=sys.stderr)
    if len(found) > MOST_LINES:
        print(f"{path}: and {len(found) - MOST_LINES} more differences", file=sys.stderr)
    if found:
        sys.exit(1)
    print(f"{path}: {len(report['tensors'])} tensors and all metadata agree")


if __name__ == "__main__":
    main(sys.argv[1:])
