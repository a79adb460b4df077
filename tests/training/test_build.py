"""What a run is built of before its first step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel

from lightwell.corpus.corpus import prepare
from lightwell.training.build import make_job
from lightwell.training.planning.resolve import make_loader
from lightwell.training.runs.evaluation import true_byte_lengths
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.run import Run
from lightwell.training.settings.config import RunConfig


def test_bits_per_byte_count_the_bytes_of_the_held_out_text(tmp_path: Path) -> None:
    """A tokenizer that drops accents drops them from the held-out end only, where each is a byte more."""
    backend = Backend(WordLevel({"a": 0, "e": 1, "</s>": 2}))
    backend.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens(["</s>"])
    backend.save(str(tmp_path / "plain.json"))
    (tmp_path / "x.txt").write_text("ae" * 900 + "aé" * 67)
    config = RunConfig().with_values(
        {"paths": [str(tmp_path / "x.txt")], "tokenizer": str(tmp_path / "plain.json"), "context_length": 16}
        | {"n_layers": 1, "n_heads": 1, "d_model": 8, "validation_fraction": 0.1, "steps": 1}
    )
    corpus = prepare(config.text, 0, cache=tmp_path / "cache")
    config = config.with_values({"vocab_size": corpus.tokenizer.vocab_size, "precision": "fp32"})
    run = Run.create(tmp_path / "run", config, corpus.tokenizer)
    job = make_job(config, corpus, make_loader(config, corpus), run, Listener())
    lengths = job.byte_lengths[corpus.held_out.take(np.arange(len(corpus.held_out)))]
    assert lengths.sum() == pytest.approx(corpus.held_out.text_bytes)
    assert job.byte_lengths[0] > 1.2, "an a and an é are three bytes, of which the tokenizer spells two"
    assert true_byte_lengths(corpus.train, corpus.tokenizer.byte_lengths)[0] < 1.1
