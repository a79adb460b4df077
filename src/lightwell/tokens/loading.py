"""Tokenizers that others made: a tokenizer.json, or the vocabulary and merges of GPT-2's family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from lightwell.errors import TextError
from lightwell.settings import nearest

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
"""Beside a tokenizer.json, in the convention of Hugging Face: its eos_token ends a text."""
PAIRS = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
"""Vocabulary and merges: as OpenAI published them, and as Hugging Face names them."""
LOSING_SCORE = -1e6
"""A log probability below that of any text which is cut otherwise."""
USUAL_NAMES = (
    "<|endoftext|>",  # GPT-2, GPT-NeoX, Qwen (base)
    "<|end_of_text|>",  # Llama 3
    "</s>",  # Llama 1 and 2, Mistral, T5
    "<eos>",  # Gemma
    "<|im_end|>",  # ChatML
    "<|eot_id|>",  # Llama 3 instruct
    "<end_of_turn>",  # Gemma instruct
    "[SEP]",  # BERT
    "[EOS]",
    "<EOS>",
)
"""Names by which tokenizers call the end of a text, in the order in which they are looked for."""


def load_backend(path: Path) -> tokenizers.Tokenizer:
    """Load a tokenizer.json, or a folder with one, or with encoder.json and vocab.bpe, or vocab.json and merges.txt.

    Raises:
        TextError: nothing is there, or what is there is not a tokenizer.
    """
    if path.is_dir():
        for vocabulary, merges in PAIRS:
            if (path / vocabulary).is_file() and (path / merges).is_file():
                return _load_gpt2(path / vocabulary, path / merges)
        if not (path / TOKENIZER_FILE).is_file():
            pairs = ", nor ".join(f"{vocabulary} with {merges}" for vocabulary, merges in PAIRS)
            raise TextError(f"The folder {path} has no {TOKENIZER_FILE}, nor {pairs}; name a folder that has.")
        path = path / TOKENIZER_FILE
    try:
        backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TextError(f"There is no tokenizer {path}; name a {TOKENIZER_FILE} or a folder that has one.") from None
    except Exception as error:  # the library raises bare Exception
        raise TextError(f"{path} is not a {TOKENIZER_FILE} that can be read: {_first_line(error)}.") from None
    backend.no_padding()  # both would change the number of tokens
    backend.no_truncation()
    return backend


def find_end_of_text(backend: tokenizers.Tokenizer, path: Path, wanted: str) -> str:
    """Return the token that keeps documents apart: `wanted`, or what tokenizer_config.json beside says, or a usual
    name.

    Raises:
        TextError: the wanted token is not in the vocabulary, or nothing was wanted and no usual name is there.
    """
    if wanted:
        if backend.token_to_id(wanted) is None:
            near = nearest(wanted, backend.get_vocab(with_added_tokens=True))
            raise TextError(f"The tokenizer {path} has no token {wanted} to end a text.{near}")
        return wanted
    known = known_end_of_text(backend, path)
    if not known:
        raise TextError(
            f"The tokenizer {path} has no token that ends a text under a usual name such as {USUAL_NAMES[0]}; "
            "name one of its tokens with --end-of-text."
        )
    return known


def keep_specials_out(backend: tokenizers.Tokenizer, path: Path, end_of_text: str) -> tokenizers.Tokenizer:
    """Return a tokenizer that reads no special token out of a text that only looks like one.

    The library leaves added tokens alone where it is told to, but the model itself may hold them: a Unigram model takes
    `</s>` as a piece like any other, a WordLevel model `[EOS]` as a word. In a Unigram model such a piece gets a score
    that loses against any other way to cut the text.

    Raises:
        TextError: a text that says `end_of_text` would become that token all the same.
    """
    backend.encode_special_tokens = True
    spec: dict[str, Any] = json.loads(backend.to_str())
    names = {end_of_text, *(entry["content"] for entry in spec["added_tokens"] if entry["special"])}
    read = {name for name in names if _reads(backend, name)}
    if read and spec["model"]["type"] == "Unigram":
        spec["model"]["vocab"] = [
            [piece, LOSING_SCORE if piece in read else score] for piece, score in spec["model"]["vocab"]
        ]
        backend = tokenizers.Tokenizer.from_str(json.dumps(spec))
        backend.encode_special_tokens = True
    if _reads(backend, end_of_text):
        raise TextError(
            f"The tokenizer {path} reads {end_of_text} out of any text that says so, as its {spec['model']['type']} "
            "model holds it like a word: such a text would end there; name another token with --end-of-text."
        )
    return backend


def _reads(backend: tokenizers.Tokenizer, name: str) -> bool:
    """Return whether a text that holds the name of a token becomes that token."""
    token = backend.token_to_id(name)
    texts = (name, f"a {name} b", f"{name}{name}", f"a{name}b")
    try:
        return any(token in backend.encode(text, add_special_tokens=False).ids for text in texts)
    except Exception:  # the library's bare one: a model without a token for what it does not know cannot read the name
        return False


def known_end_of_text(backend: tokenizers.Tokenizer, path: Path) -> str:
    """Return what ends a text by the tokenizer_config.json beside `path` or by a usual name; "" where neither tells."""
    candidates = (_configured_name(path), *USUAL_NAMES)
    return next((name for name in candidates if name and backend.token_to_id(name) is not None), "")


def refuse_foreign(path: Path) -> None:
    """Raise where a tokenizer would take the place of a file that is none.

    Raises:
        TextError: it would.
    """
    if not path.exists():
        return
    try:
        is_tokenizer = "model" in json.loads(path.read_bytes())
    except (OSError, ValueError, TypeError):
        is_tokenizer = False
    if not is_tokenizer:
        raise TextError(f"{path} is there already and is no tokenizer.json; name another file.")


def write_end_of_text(path: Path, name: str) -> None:
    """Say beside a tokenizer.json what ends a text, so that `find_end_of_text` and Hugging Face's loader find it."""
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": name}
    path.with_name(CONFIG_FILE).write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _load_gpt2(vocabulary: Path, merges: Path) -> tokenizers.Tokenizer:
    try:
        ids: dict[str, int] = json.loads(vocabulary.read_text(encoding="utf-8"))
        lines = merges.read_text(encoding="utf-8").split("\n")
        pairs = [_pair(line) for line in lines if line.strip() and not line.startswith("#version")]
        backend = tokenizers.Tokenizer(models.BPE(vocab=ids, merges=pairs))
    except Exception as error:  # bad JSON, bad merges, or the library's bare Exception
        raise TextError(
            f"{vocabulary} and {merges.name} are not a vocabulary and its merges: {_first_line(error)}."
        ) from None
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = [AddedToken(name, special=True, normalized=False) for name in USUAL_NAMES if name in ids]
    backend.add_special_tokens(special)
    return backend


def _pair(line: str) -> tuple[str, str]:
    first, second = line.rstrip("\r").split(" ")
    return first, second


def _configured_name(path: Path) -> str:
    """Return eos_token of the tokenizer_config.json in the same folder, "" where there is none."""
    beside = (path if path.is_dir() else path.parent) / CONFIG_FILE
    try:
        config: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8"))
        name = config.get("eos_token") or ""
    except (OSError, ValueError, AttributeError):
        return ""
    # Older files write the token as a dictionary with its flags.
    return str(name.get("content", "")) if isinstance(name, dict) else str(name)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
