#!/usr/bin/env python3
"""Makes the vocabularies of tests/fixtures/tokenizers and what the reference libraries say of them.

    pip install -r tests/requirements-fixtures.txt
    python tests/make_tokenizers.py

Every vocabulary is trained on corpus.txt and written as a GGUF file without tensors. The JSON file
beside it holds texts with the tokens that SentencePiece or Hugging Face's tokenizers give them, and
the text that these give back. words.json holds the words before byte-pair merges.

To compare real vocabularies with llama.cpp, by hand:

    pip install llama-cpp-python==0.3.36
    python tests/make_tokenizers.py --llama-cpp CASES_FOLDER VOCABULARY.gguf ...
    FORETOKEN_TOKENIZER_CASES=CASES_FOLDER \\
        cargo test --release -p foretoken-tokenize -- --ignored
"""

import argparse
import ctypes
import io
import json
import pathlib
import random

FOLDER = pathlib.Path(__file__).resolve().parent / "fixtures" / "tokenizers"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

TEXTS = [
    "", " ", "  ", "   ", "\n", "\n\n", "\n\n\n", "\t", "\r\n", " \n", "\n ", "\t\n \n",
    "a", " a", "a ", "  a  ", "The river", " The river", "the river's bridge", "THE RIVER'S BRIDGE",
    "It doesn't matter; they're here, we'll go, I've been, she'd stay, I'm late.",
    "IT DOESN'T MATTER; THEY'RE HERE, WE'LL GO, I'VE BEEN, SHE'D STAY, I'M LATE.",
    "1", "12", "123", "1234", "12345", "1234567890", "3.14159", "1,234,567.89", "½ ¾ ² Ⅷ ٣٤ 四",
    "x1y22z333", "Äpfel, Öl und Übermut: süß und heiß, größer als außen.", "MÜHLE Mühle mÜHLE",
    "老磨坊在河边，村里没有人知道它有多老。", "磨坊 mill 磨坊", "水車小屋 カタカタ", "물레방아",
    "Старая мельница", "Ο μύλος ήταν παλιός", "l'église où ça", "¿Quién? ¡Nadie!",
    "🙂", "🙂🎡🌊", "a🙂b", " 🙂 ", "👩‍🌾 → 🌾", "🏳️‍🌈", "𝔐𝔞𝔱𝔥", "e\u0301 u\u0308 n\u0303", "é ü ñ",
    "fn main() {\n    let x = vec![1, 2];\n}\n", "def f(x):\n\treturn x  # none\n\n\n", "if (a<=b&&c>=d) {}",
    "a/b/c", "path/to/file.rs", "//\n///\n", "--flag=value", "snake_case camelCase PascalCase SCREAMING_CASE",
    "HTTPServer parseJSON iPhone McDonald", "tabs\t\tand  double   spaces    here", "trailing   ",
    "trailing newline\n", "line\r\nline\r\n", "nbsp\u00a0here\u3000wide\u2003em\u2028line\u0085next",
    "zero\u200bwidth\u200djoin\ufeffbom", "\u0000null\u0001one\u001fus\u007fdel", "▁under▁score", "Ġbyte Ċchar",
    "<s>", "</s>", "<unk>", "<0x0A>", "<0xFF>", "<|end_of_text|>", "a<|end_of_text|>b", "<|im_end|>",
    "...", "!!!", "?!", "((()))", "\"quoted\" 'text' “curly” ‘single’", "$5 + €7 = 12£", "100%", "a_b*c^d~e`f|g",
    "https://example.org/mill?year=1850#river", "name@example.org", "don't 'tis o'clock rock'n'roll",
    "''''", "'s 't 're", "Der Müller sagt: „Jeden Morgen“ – 1850.", "هذا نص عربي ١٢٣", "זה טקסט", "นี่คือข้อความ",
    "हिन्दी पाठ १२३", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ababababababab", "mississippi", "= = =", "=====", " =",
    "end of\n\n  paragraph\n\n\n   next", "   \n   \n", "x" * 70, " " * 40 + "x", "\n" * 9 + "x",
]
USER_DEFINED_TEXTS = [
    "<|tool|>", "a<|tool|>b", "a <|tool|> b", "<|tool|><|tool|>", "<|tool|>\n", "<|tool", "<|tool|>er|>",
    "x<|tool|>1234<|tool_end|>", "<|tool_end|>tool<|tool|>",
]


def texts():
    """The texts above, lines of the corpus, and random mixtures of both."""
    corpus = (FOLDER / "corpus.txt").read_text(encoding="utf-8").splitlines()
    all_texts = TEXTS + corpus[::4]
    parts = [text for text in TEXTS if text] + corpus
    rng = random.Random(20240229)
    for _ in range(60):
        cut = lambda text: text[rng.randrange(len(text)):][: rng.randrange(1, 30)]
        chosen = [cut(rng.choice([p for p in parts if p])) for _ in range(rng.randrange(2, 6))]
        all_texts.append(rng.choice(["", " ", "\n"]).join(chosen))
    return list(dict.fromkeys(all_texts))


def write_cases(name, cases):
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (FOLDER / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def write_gguf(name, model, tokens, types, bos=None, eos=None, unknown=None, **more):
    import gguf

    path = FOLDER / f"{name}.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    for value, add in [
        (bos, writer.add_bos_token_id),
        (eos, writer.add_eos_token_id),
        (unknown, writer.add_unk_token_id),
        (more.get("pre"), writer.add_tokenizer_pre),
        (more.get("scores"), writer.add_token_scores),
        (more.get("merges"), writer.add_token_merges),
        (more.get("add_bos"), writer.add_add_bos_token),
        (more.get("add_eos"), writer.add_add_eos_token),
        (more.get("space_prefix"), writer.add_add_space_prefix),
    ]:
        if value is not None:
            add(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert path.stat().st_size < 100_000, path


def sentencepiece(name, prefix, user_defined=(), metadata=None, around=((), ())):
    """A BPE vocabulary of SentencePiece, as Llama 2 (with prefix) and Gemma (without) have one."""
    import sentencepiece as spm

    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter((FOLDER / "corpus.txt").read_text(encoding="utf-8").splitlines()),
        model_writer=model, model_type="bpe", vocab_size=1200, character_coverage=0.98,
        byte_fallback=True, split_digits=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, add_dummy_prefix=prefix, num_threads=1,
        allow_whitespace_only_pieces=True, control_symbols=["<|im_end|>"],
        user_defined_symbols=list(user_defined), minloglevel=2,
    )
    sp = spm.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(sp.vocab_size())
    types = [
        UNKNOWN if sp.is_unknown(i) else CONTROL if sp.is_control(i) else UNUSED if sp.is_unused(i)
        else BYTE if sp.is_byte(i)
        # The library does not tell user-defined pieces from others.
        else USER_DEFINED if sp.id_to_piece(i) in user_defined else NORMAL
        for i in ids
    ]
    # As llama.cpp's converter: a user-defined token is written as it stands in a text.
    tokens = [
        sp.id_to_piece(i).replace("▁", " ") if types[i] == USER_DEFINED else sp.id_to_piece(i)
        for i in ids
    ]
    write_gguf(
        name, "llama", tokens, types,
        scores=[sp.get_score(i) for i in ids], **(metadata or {}),
    )
    cases = []
    for text in texts() + (USER_DEFINED_TEXTS if user_defined else []):
        tokens = sp.encode(text)
        cases.append({
            "text": text, "ids": [*around[0], *tokens, *around[1]], "decoded": sp.decode(tokens),
        })
    write_cases(name, cases)


def byte_level(name, pre, words, specials, user_defined=(), unmerged=(), whole_words=False,
               metadata=None, around=((), ())):
    """A byte-level BPE vocabulary of Hugging Face's tokenizers."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = words
    trainer = trainers.BpeTrainer(
        vocab_size=900, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    trained.train_from_iterator((FOLDER / "corpus.txt").read_text(encoding="utf-8").splitlines(True), trainer)
    model = json.loads(trained.to_str())["model"]
    vocab = dict(model["vocab"])
    merges = [tuple(merge) for merge in model["merges"]]
    assert not set(unmerged) & set(vocab), vocab
    first_special = len(vocab) + len(unmerged)
    for token in [*unmerged, *specials, *user_defined]:
        vocab[token] = len(vocab)

    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=whole_words))
    tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.ByteLevel()
    # Control tokens are not added: nothing may find them in a text.
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in user_defined])

    types = [NORMAL] * first_special + [CONTROL] * len(specials) + [USER_DEFINED] * len(user_defined)
    write_gguf(
        name, "gpt2", list(vocab), types, pre=pre, merges=[" ".join(merge) for merge in merges],
        bos=vocab[specials[0]], eos=vocab[specials[-1]], **(metadata or {}),
    )
    before, after = ([vocab[token] for token in tokens] for tokens in around)
    cases = []
    for text in texts() + (USER_DEFINED_TEXTS if user_defined else []):
        tokens = tokenizer.encode(text, add_special_tokens=False).ids
        cases.append({
            "text": text, "ids": [*before, *tokens, *after],
            "decoded": tokenizer.decode(tokens, skip_special_tokens=True),
        })
    write_cases(name, cases)


# The pre-tokenizers as the models' own tokenizer.json has them.
CASED_WORDS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s|"
    r"\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SUFFIX = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
EXPRESSIONS = {
    "llama-bpe": [LLAMA % "{1,3}"],
    "chatglm-bpe": [LLAMA % "{1,3}"],
    "qwen2": [LLAMA % ""],
    "qwen35": [LLAMA.replace(r"\p{L}+", r"[\p{L}\p{M}]+").replace(r"\s\p{L}", r"\s\p{L}\p{M}") % ""],
    "tekken": [CASED_WORDS % ("", "", "")],
    "gpt-4o": [CASED_WORDS % (SUFFIX, SUFFIX, "{1,3}")],
    "seed-coder": [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|"
        r"\s*[\r\n]+|\s+(?!\S)|\s+"
    ],
    "bailingmoe": [
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|"
        r"\s*[\r\n]|\s+(?!\S)|\s+"
    ],
    "deepseek-v3": [
        r"\p{N}{1,3}",
        "[一-龥\u3040-ゟ゠-ヿ]+",
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
        " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
    ],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", r"\p{N}"],
    "bloom": [" ?[^(\\s|.,!?…。，、।۔،)]+"],
    "viking": [" ?[^(\\s|.,!?…。，、।۔،)]+", r"\p{N}"],
}


def pre_tokenizers_by_name():
    from tokenizers import Regex, pre_tokenizers as pre

    named = {
        name: [pre.Split(Regex(expression), "isolated") for expression in expressions]
        for name, expressions in EXPRESSIONS.items()
    }
    # These two use the expression that the library holds for GPT-2.
    named["gpt-2"] = []
    named["smollm"] = [pre.Digits(individual_digits=True)]
    return {
        name: pre.Sequence([*steps, pre.ByteLevel(add_prefix_space=False, use_regex=not name in EXPRESSIONS)])
        for name, steps in named.items()
    }


def write_words(named):
    """The words of every text, as text again: the library shows them in the characters of bytes."""
    words = {
        name: {
            text: [text[start:end] for _, (start, end) in steps.pre_tokenize_str(text)]
            for text in TEXTS if text and name_fits(name, text)
        }
        for name, steps in sorted(named.items())
    }
    (FOLDER / "words.json").write_text(
        json.dumps(words, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def name_fits(name, text):
    # The library's digits are what Rust calls numeric, llama.cpp's are \p{N}; both agree on these.
    return name != "smollm" or "四" not in text


def llama_cpp_cases(folder, paths):
    """What llama.cpp says of real vocabularies."""
    import llama_cpp

    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    for path in map(pathlib.Path, paths):
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        assert model, path
        vocab = llama_cpp.llama_model_get_vocab(model)
        pieces = [llama_cpp.llama_vocab_get_text(vocab, i) for i in range(llama_cpp.llama_vocab_n_tokens(vocab))]
        rng = random.Random(7)
        random_texts = [
            "".join(
                rng.choice(pieces).decode("utf-8", "replace").replace("▁", " ").replace("Ġ", " ").replace("Ċ", "\n")
                for _ in range(rng.randrange(1, 12)))
            for _ in range(400)
        ]
        cases = []
        for text in texts() + USER_DEFINED_TEXTS + random_texts:
            data = text.encode()
            buffer = (llama_cpp.llama_token * (2 * len(data) + 8))()
            n = llama_cpp.llama_tokenize(vocab, data, len(data), buffer, len(buffer), True, False)
            assert n >= 0, text
            ids = list(buffer[:n])
            raw = b""
            for token in ids:
                piece = ctypes.create_string_buffer(4096)
                size = llama_cpp.llama_token_to_piece(vocab, token, piece, len(piece), 0, False)
                raw += piece.raw[:size]
            cases.append({"text": text, "ids": ids, "pieces": raw.decode("utf-8", "replace")})
        ends = [i for i in range(len(pieces)) if llama_cpp.llama_vocab_is_eog(vocab, i)]
        out = {"vocabulary": str(path.resolve()), "ends": ends, "cases": cases}
        pathlib.Path(folder, f"{path.stem}.json").write_text(json.dumps(out), encoding="utf-8")
        llama_cpp.llama_model_free(model)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-cpp", nargs="+", metavar="PATH", help="a folder, then GGUF files")
    arguments = parser.parse_args()
    if arguments.llama_cpp:
        llama_cpp_cases(arguments.llama_cpp[0], arguments.llama_cpp[1:])
        return

    # Llama 2: the file says nothing, so llama.cpp's defaults add the first token and the space.
    sentencepiece("spm-llama", True, metadata={"bos": 1, "eos": 2, "unknown": 0}, around=([1], []))
    sentencepiece(
        "spm-gemma", False, user_defined=["<|tool|>", "<|tool_end|>", "\n", "\n\n", "▁▁", "▁▁▁▁"],
        metadata={"bos": 1, "eos": 2, "unknown": 0, "add_bos": True, "add_eos": True,
                  "space_prefix": False},
        around=([1], [2]),
    )
    named = pre_tokenizers_by_name()
    write_words(named)
    specials = ["<|begin_of_text|>", "<|im_end|>", "<|end_of_text|>"]
    byte_level("bpe-gpt2", "gpt-2", named["gpt-2"], specials)
    byte_level(
        "bpe-llama3", "llama-bpe", named["llama-bpe"], specials, whole_words=True,
        # No merges lead to these: only a vocabulary that is asked for whole words has them.
        unmerged=["ĠcamelCase", "456", "ĠRIVER", "?!"], around=(["<|begin_of_text|>"], []),
    )
    byte_level(
        "bpe-qwen2", "qwen2", named["qwen2"], specials, unmerged=["ĠRIVER"],
        user_defined=["<|tool|>", "<|tool_end|>"], metadata={"add_bos": False, "add_eos": True},
        around=([], ["<|end_of_text|>"]),
    )


if __name__ == "__main__":
    main()
