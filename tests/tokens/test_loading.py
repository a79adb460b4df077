from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from lightwell.errors import TextError
from lightwell.text.config import TextConfig
from lightwell.tokens.building import build_byte
from lightwell.tokens.stream import TextStream
from lightwell.tokens.tokenizer import Tokenizer, make_tokenizer
from paths import needs

any_text = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="module")
def gpt2() -> Tokenizer:
    return make_tokenizer(TextConfig(tokenizer=str(needs("gpt2-vocabulary"))), 0, ())


def llama_style() -> tokenizers.Tokenizer:
    """A small vocabulary of the SentencePiece family: marks for spaces, bytes for the unknown, a start added."""
    vocabulary = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abc", "▁a", "bc"]
    merges = [("▁", "a"), ("b", "c")]
    model = models.BPE(
        vocab={token: index for index, token in enumerate(vocabulary)},
        merges=merges,
        unk_token="<unk>",
        byte_fallback=True,
    )
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    backend.enable_truncation(4)
    backend.enable_padding(length=32)
    return backend


def test_gpt2_gives_the_published_ids(gpt2: Tokenizer) -> None:
    assert gpt2.encode("Hello, I am").tolist() == [15496, 11, 314, 716]
    assert (gpt2.vocab_size, gpt2.end_of_text, gpt2.kind) == (50257, 50256, "file")


def test_the_book_s_story_is_5145_tokens_of_gpt2(gpt2: Tokenizer) -> None:
    story = needs("the-verdict.txt").read_text(encoding="utf-8")
    ids = gpt2.encode(story)
    assert (len(story), len(ids)) == (20479, 5145)
    assert gpt2.byte_lengths[ids].sum() == len(story.encode())


def test_shakespeare_is_301966_and_36059_tokens_of_gpt2(gpt2: Tokenizer) -> None:
    text = needs("tinyshakespeare.txt").read_text(encoding="utf-8")
    head = int(len(text) * 0.9)
    assert [len(ids) for ids in gpt2.encode_batch([text[:head], text[head:]])] == [301_966, 36_059]


@given(text=any_text)
def test_law_13_decoding_what_gpt2_encoded_gives_the_text(text: str) -> None:
    gpt2 = make_gpt2()
    assert gpt2.decode(gpt2.encode(text)) == text
    assert gpt2.byte_lengths[gpt2.encode(text)].sum() == len(text.encode())


def make_gpt2(_kept: dict[str, Tokenizer] = {}) -> Tokenizer:  # noqa: B006, loaded once for all examples
    if not _kept:
        _kept["gpt2"] = Tokenizer.load(needs("gpt2-vocabulary"))
    return _kept["gpt2"]


def test_both_names_of_the_two_files_load(tmp_path: Path, gpt2: Tokenizer) -> None:
    folder = needs("gpt2-vocabulary")
    (tmp_path / "vocab.json").write_bytes((folder / "encoder.json").read_bytes())
    (tmp_path / "merges.txt").write_bytes((folder / "vocab.bpe").read_bytes().replace(b"\n", b"\r\n"))
    assert Tokenizer.load(tmp_path).fingerprint == gpt2.fingerprint


def test_a_folder_with_a_tokenizer_json_loads(tmp_path: Path) -> None:
    llama_style().save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.load(tmp_path).fingerprint == Tokenizer.load(tmp_path / "tokenizer.json").fingerprint


def test_a_file_s_padding_cutting_and_added_tokens_are_off(tmp_path: Path) -> None:
    llama_style().save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    ids = tokenizer.encode("a bc </s> <s>")
    assert ids[0] != 1
    assert len(ids) > 4
    assert not {1, 2} & set(ids.tolist())
    assert tokenizer.decode(ids) == "a bc </s> <s>"
    assert tokenizer.end_of_text == 2


@given(text=st.text(st.sampled_from("abc ß光👩"), max_size=20), step=st.integers(1, 3))
def test_a_stream_of_a_tokenizer_that_looks_at_neighbours(text: str, step: int) -> None:
    tokenizer = Tokenizer(llama_style_without_limits(), "</s>")
    assert not tokenizer.joins_bytes
    ids = tokenizer.encode(text).tolist()
    stream = TextStream(tokenizer)
    pieces = [stream.push(ids[start : start + step]) for start in range(0, len(ids), step)]
    assert "\ufffd" not in "".join(pieces)
    assert "".join([*pieces, stream.flush()]) == tokenizer.decode(ids)


def llama_style_without_limits() -> tokenizers.Tokenizer:
    backend = llama_style()
    backend.no_truncation()
    backend.no_padding()
    return backend


def test_byte_lengths_of_marks_for_spaces() -> None:
    tokenizer = Tokenizer(llama_style_without_limits(), "</s>")
    lengths = {tokenizer.token_text(index): tokenizer.byte_lengths[index] for index in range(tokenizer.vocab_size)}
    assert (lengths[" a"], lengths["bc"], lengths["\\n"], lengths["</s>"]) == (2, 2, 1, 0)


def test_byte_lengths_of_word_pieces() -> None:
    words = ["[UNK]", "[SEP]", "play", "##ing", "the"]
    backend = tokenizers.Tokenizer(
        models.WordPiece(vocab={word: index for index, word in enumerate(words)}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(["[UNK]", "[SEP]"])
    tokenizer = Tokenizer(backend, "[SEP]")
    assert tokenizer.byte_lengths.tolist() == [0, 0, 5, 3, 4]
    assert [tokenizer.bytes_of(token) for token in range(5)] == [b"[UNK]", b"[SEP]", b" play", b"ing", b" the"]
    assert tokenizer.decode(tokenizer.encode("the playing")) == "the playing"


def test_added_tokens_of_word_pieces_stand_for_themselves() -> None:
    """No space is meant before one, and no mark is taken from its beginning, special or not."""
    words = ["[UNK]", "[SEP]", "play"]
    backend = tokenizers.Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(["[UNK]", "[SEP]"])
    backend.add_tokens(["<tag>", "##odd"])
    tokenizer = Tokenizer(backend, "[SEP]")
    assert [tokenizer.bytes_of(token) for token in range(5)] == [b"[UNK]", b"[SEP]", b" play", b"<tag>", b"##odd"]
    assert tokenizer.byte_lengths.tolist() == [0, 0, 5, 5, 5]


def test_ids_with_holes_count_up_to_the_highest() -> None:
    backend = tokenizers.Tokenizer(models.WordLevel({"a": 0, "</s>": 9}, unk_token="a"))
    assert Tokenizer(backend, "</s>").vocab_size == 10


def test_an_end_of_text_with_an_unusual_name_is_kept(tmp_path: Path) -> None:
    backend = build_byte()
    backend.add_special_tokens(["<fin>"])
    path = tmp_path / "tokenizer.json"
    Tokenizer(backend, "<fin>").save(path)
    assert Tokenizer.load(path).end_of_text == 257
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["eos_token"] == "<fin>"
    assert Tokenizer.load(path, "<|endoftext|>").end_of_text == 256


def test_an_end_of_text_that_cannot_be_found_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizers.Tokenizer(models.BPE({"a": 0, "fin": 1}, merges=[])).save(str(path))
    with pytest.raises(TextError, match="--end-of-text"):
        Tokenizer.load(path)
    with pytest.raises(TextError, match="Did you mean fin"):
        Tokenizer.load(path, "fi")
    assert make_tokenizer(TextConfig(tokenizer=str(path), end_of_text="fin"), 0, ()).end_of_text == 1


@pytest.mark.parametrize("content", ["", "{}", "no json", '{"model": {"type": "BPE"}}', "\xff"])
def test_a_file_that_is_no_tokenizer_gets_one_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(TextError, match=r"is not a tokenizer\.json") as caught:
        Tokenizer.load(path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_tokenizer_says_what_it_looks_for(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"has no tokenizer\.json, nor encoder\.json with vocab\.bpe"):
        Tokenizer.load(tmp_path)
    (tmp_path / "encoder.json").write_text('{"a": 0}')
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\na b c\n")
    with pytest.raises(TextError, match="are not a vocabulary and its merges"):
        Tokenizer.load(tmp_path)


PIECES = [
    ("<unk>", 0.0),
    ("</s>", 0.0),
    ("[EOS]", -1.0),
    ("\u2581", -2.0),
    *((letter, -3.0) for letter in "ab</s>[EOS]"),
]


def special(model: models.Model, names: Sequence[str], added: bool, pre: Any = None) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(model)
    if pre is not None:
        backend.pre_tokenizer = pre
    if added:
        backend.add_special_tokens(list(names))
    return backend


@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize("name", ["</s>", "[EOS]"])
def test_a_unigram_model_reads_no_end_of_text_out_of_a_text(tmp_path: Path, added: bool, name: str) -> None:
    pieces = list(dict(PIECES).items())
    backend = special(models.Unigram(pieces, unk_id=0), [name], added)
    backend.save(str(tmp_path / "tokenizer.json"))
    assert backend.token_to_id(name) in backend.encode(f"a{name}b", add_special_tokens=False).ids
    made = Tokenizer.load(tmp_path / "tokenizer.json", name)
    for text in (name, f"a{name}b", f"{name}{name}"):
        ids = made.encode(text).tolist()
        assert made.end_of_text not in ids
        assert [made.token_text(token) for token in ids] == list(text)
    made.save(tmp_path / "kept.json")
    again = Tokenizer.load(tmp_path / "kept.json", name)
    assert again.fingerprint == made.fingerprint


@pytest.mark.parametrize(
    ("model", "pre", "read"),
    [
        (models.WordLevel({"a": 0, "[UNK]": 1, "[EOS]": 2}, unk_token="[UNK]"), pre_tokenizers.WhitespaceSplit(), True),
        (models.WordLevel({"a": 0, "[UNK]": 1, "[EOS]": 2}, unk_token="[UNK]"), pre_tokenizers.Whitespace(), False),
        (models.WordPiece({"a": 0, "[UNK]": 1, "[EOS]": 2}, unk_token="[UNK]"), pre_tokenizers.WhitespaceSplit(), True),
        (
            models.WordPiece({"a": 0, "[UNK]": 1, "[EOS]": 2}, unk_token="[UNK]"),
            pre_tokenizers.BertPreTokenizer(),
            False,
        ),
        (models.BPE({"a": 0, "b": 1, "[EOS]": 2}, merges=[]), None, False),
        (models.BPE({"a": 0, "b": 1, "[EOS]": 2}, merges=[], ignore_merges=True), None, True),
    ],
)
def test_a_model_that_reads_its_end_of_text_out_of_a_text_is_refused(
    tmp_path: Path, model: models.Model, pre: object, read: bool
) -> None:
    special(model, ["[EOS]"], True, pre).save(str(tmp_path / "tokenizer.json"))
    if not read:
        made = Tokenizer.load(tmp_path / "tokenizer.json")
        assert made.end_of_text not in made.encode("a [EOS] a").tolist()
        return
    with pytest.raises(
        TextError, match=r"reads \[EOS\] out of any text that says so, .* name another token with --end-of"
    ):
        Tokenizer.load(tmp_path / "tokenizer.json")
