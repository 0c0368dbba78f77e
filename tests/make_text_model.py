#!/usr/bin/env python3
"""Makes tests/fixtures/models/text.gguf: a complete tiny llama with a vocabulary of its own.

    pip install -r tests/requirements-fixtures.txt
    python tests/make_text_model.py

Two layers of random weights from a fixed seed, and a vocabulary as SentencePiece makes them: three
special tokens, all 256 bytes, and pieces that merge by score. What it writes is no language, but
tokenizer, model and text behave as those of a real file, in milliseconds.
"""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q

PATH = Path(__file__).resolve().parent / "fixtures" / "models" / "text.gguf"
MOST_BYTES = 300_000

HIDDEN, HEADS, KV_HEADS, FFN, LAYERS, CONTEXT = 64, 4, 2, 128, 2, 128
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
END = 2
WORDS = (
    "the of and to in is it that was for on are as with his they at be this from have or by one "
    "had not but what all were when we there can an your which their said if do will each about "
    "how up out them then she many some so these would other into has more her two like him see "
    "time could no make than first been its who now people my made over did down only way find "
    "use may water long little very after words called just where most know sky blue why"
).split()


def pieces():
    """What merges give: a piece comes after the two that it is made of."""
    found = {"▁": None}
    for word in WORDS:
        for character in word:
            found.setdefault(character)
    for word in WORDS:
        for end in range(2, len(word) + 1):
            found.setdefault(word[:end])
        found.setdefault("▁" + word)
    return list(found)


def add_vocabulary(writer):
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256
    learned = pieces()
    tokens += learned
    types += [NORMAL] * len(learned)
    scores = [0.0] * 259 + [-float(rank) for rank in range(len(learned))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_scores(scores)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)
    return len(tokens)


def add_tensors(writer, vocabulary):
    rng = np.random.default_rng(20240229)

    def matrix(name, rows, columns):
        values = rng.standard_normal((rows, columns)) / np.sqrt(columns)
        if name == "output":
            # Never the most likely token: greedy runs generate as much as was asked for.
            values[END] = 0
        raw = gguf.quants.quantize(values.astype(np.float32), Q.Q8_0)
        writer.add_tensor(f"{name}.weight", raw, raw_dtype=Q.Q8_0)

    def norm(name):
        values = 1 + 0.1 * rng.standard_normal(HIDDEN)
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))

    kv = HIDDEN // HEADS * KV_HEADS
    matrix("token_embd", vocabulary, HIDDEN)
    matrix("output", vocabulary, HIDDEN)
    norm("output_norm")
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm")
        norm(f"{block}.ffn_norm")
        for part, rows, columns in [
            ("attn_q", HIDDEN, HIDDEN),
            ("attn_k", kv, HIDDEN),
            ("attn_v", kv, HIDDEN),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_gate", FFN, HIDDEN),
            ("ffn_up", FFN, HIDDEN),
            ("ffn_down", HIDDEN, FFN),
        ]:
            matrix(f"{block}.{part}", rows, columns)


def main():
    writer = gguf.GGUFWriter(PATH, "llama")
    writer.add_name("text")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    vocabulary = add_vocabulary(writer)
    writer.add_vocab_size(vocabulary)
    add_tensors(writer, vocabulary)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    size = PATH.stat().st_size
    assert size < MOST_BYTES, size
    print(f"{PATH.name}: {vocabulary} tokens, {size} bytes")


if __name__ == "__main__":
    main()
