"""The door of the Python functions: whatever they are given, what comes out is a result or a sentence."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lightwell as lw
from lightwell.arguments import SystemRefusedError, check, checked, shown
from lightwell.errors import LightwellError, SettingError
from lightwell.generation.language_model import LanguageModel
from lightwell.model.config import ModelConfig
from lightwell.settings import Meta
from lightwell.tokens.tokenizer import make_tokenizer
from lightwell.training.runs.run import find_run

Whole = Annotated[int, Meta(ge=0)]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    tokenizer = make_tokenizer(lw.TextConfig(tokenizer="byte"), 0, ())
    config = ModelConfig(vocab_size=tokenizer.vocab_size, context_length=8, n_layers=1, n_heads=1, d_model=8)
    return LanguageModel(lw.Decoder(config).eval(), tokenizer)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: lw.load(None), "run is None, but must be a text or a path."),  # type: ignore[arg-type]
        (lambda: lw.load("x", device="tpu"), "device is 'tpu', but must be one of auto, cpu, cuda, mps."),  # type: ignore[arg-type]
        (lambda: lw.load("x", device="cpuu"), "Did you mean cpu?"),  # type: ignore[arg-type]
        (lambda: lw.load("x", checkpoint=1.5), "checkpoint is 1.5, but must be a text or a whole number."),  # type: ignore[arg-type]
        (lambda: lw.load("x", context_length=True), "context_length is True, but must be a whole number, 0 or more."),
        (lambda: lw.load("x", listener=print), "must be a Listener or None."),  # type: ignore[arg-type]
        (lambda: lw.load("x", chekpoint=1), "load takes no chekpoint, only run, checkpoint, context_length"),  # type: ignore[call-arg]
        (lambda: lw.load("x", chekpoint=1), "Did you mean checkpoint?"),  # type: ignore[call-arg]
        (lambda: lw.load(), "load cannot be called so: missing a required argument: 'run'; it takes run, "),  # type: ignore[call-arg]
        (lambda: lw.load("x", "y"), "load cannot be called so: too many positional arguments"),  # type: ignore[call-arg]
        (lambda: lw.evaluate("x", stride=-1), "stride is -1, but must be a whole number, 0 or more."),
        (lambda: lw.evaluate("x", stride="8"), "stride is '8', but must be a whole number, 0 or more."),  # type: ignore[arg-type]
        (lambda: lw.evaluate("x", scored=3), "scored is 3, but must be a function."),  # type: ignore[arg-type]
        (lambda: lw.evaluate("no-such-run", b"x"), "There is no run no-such-run"),  # type: ignore[arg-type]
        (lambda: lw.train(out=5), "out is 5, but must be a text, a path or None."),  # type: ignore[arg-type]
        (lambda: lw.train(force="yes"), "force is 'yes', but must be True or False."),  # type: ignore[arg-type]
        (lambda: lw.train(config=5), "config is 5, but must be a RunConfig, a text, a path or None."),  # type: ignore[arg-type]
        (lambda: lw.plan(config="\0"), "cannot be read (embedded null byte)."),
        (lambda: lw.train(5), "A text is named by its path"),  # type: ignore[arg-type]
        (lambda: lw.train(seed=-5), "seed is -5, but must be a whole number, 0 or more."),
        (lambda: lw.train(n_layers=math.nan), "n_layers is nan, but must be a whole number, 1 or more"),
        (lambda: lw.plan(preset=None), "preset is None, but must be a text."),  # type: ignore[arg-type]
        (lambda: lw.prepare("x", out=None), "out is None, but must be a text or a path."),  # type: ignore[arg-type]
        (lambda: lw.prepare("x", out="y", workers=-1), "workers is -1, but must be a whole number, 0 or more."),
        (lambda: lw.resume(3), "run is 3, but must be a text or a path."),  # type: ignore[arg-type]
        (lambda: lw.runs(7), "folder is 7, but must be a text or a path."),  # type: ignore[arg-type]
        (lambda: lw.Run(None), "path is None, but must be a text or a path."),  # type: ignore[arg-type]
        (lambda: lw.trace(5, "x"), "model is 5, but must be what lw.load gives."),  # type: ignore[arg-type]
        (lambda: lw.RunConfig(model=5), "model is 5, but must be a ModelConfig."),  # type: ignore[arg-type]
        (lambda: lw.Decoder("x"), "config is 'x', but must be a ModelConfig."),  # type: ignore[arg-type]
        (lambda: lw.LanguageModel(1, 2), "decoder is 1, but must be a Decoder."),  # type: ignore[arg-type]
        (lambda: lw.Tokenizer.load(1), "path is 1, but must be a text or a path."),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_a_wrong_argument_is_one_sentence(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(LightwellError) as failed:
        call()
    assert said in str(failed.value)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: m.generate(b"x"), "prompt is b'x', but must be a text or a list of texts."),
        (lambda m: m.generate(5), "prompt is 5, but must be a text or a list of texts."),
        (lambda m: m.generate(["a", 5]), "prompt is 5, but must be a text."),
        (lambda m: m.generate("x", seed="1"), "seed is '1', but must be a whole number, 0 or more or None."),
        (lambda m: m.generate("x", seed=-5), "seed is -5, but must be a whole number, 0 or more or None."),
        (lambda m: m.generate("x", temperature=math.nan), "temperature is nan"),
        (lambda m: m.stream(["a"]), "prompt is ['a'], but must be a text."),
        (lambda m: m.tokenizer.decode([10**6]), "1000000 is no token id of this vocabulary, which has 257, from 0."),
        (lambda m: m.tokenizer.decode([-1]), "-1 is no token id"),
        (lambda m: m.tokenizer.decode([10**40]), "is no list of token ids; they are whole numbers below 257."),
        (lambda m: m.tokenizer.decode(["a"]), "is no list of token ids"),
        (lambda m: m.tokenizer.decode(5), "5 is no list of token ids."),
        (lambda m: m.tokenizer.encode(b"x"), "A text to encode is b'x', but must be a str."),
        (
            lambda m: lw.trace(m, [1.5]),  # type: ignore[list-item]
            "text is 1.5, but must be a whole number",
        ),
        (
            lambda m: lw.trace(m, 5),  # type: ignore[arg-type]
            "text is 5, but must be a text or a Sequence.",
        ),
        (lambda m: lw.trace(m, [300]), "300 is no token id of this model"),
    ],
)
def test_a_wrong_argument_of_a_model_is_one_sentence(model: LanguageModel, call: Any, said: str) -> None:
    with pytest.raises(LightwellError) as failed:
        call(model)
    assert said in str(failed.value)


def test_numbers_of_numpy_and_torch_are_numbers(model: LanguageModel) -> None:
    assert check("x", np.int64(3), Whole) == 3
    assert check("x", torch.tensor(3), int) == 3
    assert isinstance(check("x", np.float32(0.5), float), float)
    assert check("x", np.bool_(True), bool) is True
    assert lw.ModelConfig(vocab_size=np.int64(50), n_layers=np.int32(2)).n_layers == 2  # type: ignore[arg-type]
    assert model.tokenizer.decode(np.array([104, 105])) == model.tokenizer.decode([104, 105])
    assert model.tokenizer.decode([]) == ""
    seed: Any = np.int64(1)
    assert model.generate("x", seed=seed, max_new_tokens=2) == model.generate("x", seed=1, max_new_tokens=2)


def test_a_run_is_named_as_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer = make_tokenizer(lw.TextConfig(tokenizer="byte"), 0, ())
    lw.Run.create(Path("runs/mine"), lw.RunConfig(), tokenizer)
    monkeypatch.setenv("HOME", str(tmp_path))
    for call in (lw.load, lw.evaluate, lw.resume):
        for name in ("mine", "runs/mine", Path("mine"), "~/runs/mine"):
            with pytest.raises(LightwellError) as failed:
                call(name)
            assert "no run" not in str(failed.value)
    assert [run.name for run in lw.runs("~/runs")] == ["mine"]
    lw.Run.create(Path("mine"), lw.RunConfig(), tokenizer)
    assert (find_run("mine"), find_run("runs/mine"), find_run("other")) == (
        Path("mine"),
        Path("runs/mine"),
        Path("other"),
    )


def test_what_the_system_refuses_is_a_sentence(tmp_path: Path) -> None:
    @checked
    def opening(path: Path) -> bytes:
        return path.read_bytes()

    @checked
    def failing() -> None:
        raise OSError("not foreseen")

    with pytest.raises(SystemRefusedError, match=r"cannot be used \(Is a directory\); name a file in it\."):
        opening(tmp_path)
    with pytest.raises(SystemRefusedError, match=r"\(File name too long\); put a text into a file"):
        opening(Path("x" * 400))
    with pytest.raises(OSError, match="not foreseen"):
        failing()


@pytest.mark.parametrize(
    ("value", "hint", "said"),
    [
        (1.5, int, "a whole number"), (True, float, "a number"), (math.nan, float, "a number"),
        (1, bool, "True or False"),
        ("d", Literal["a", "b"], "one of a, b"), ("d", Whole | None, "a whole number, 0 or more or None"),
        (object, list[int], "a list"), (3, Callable[[], None], "a function"),
    ],
)  # fmt: skip
def test_what_is_allowed_is_said_in_words(value: Any, hint: Any, said: str) -> None:
    with pytest.raises(SettingError, match=rf"^it is .*, but must be {said}\.$"):
        check("it", value, hint)
    assert check("it", None, Whole | None) is None
    assert check("it", 2, float) == 2


def test_a_wrong_value_is_shown_in_short_whatever_it_is() -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError

    assert len(shown("x" * 1000)) == 60
    assert shown(Hostile()) == "a Hostile"


def test_the_door_keeps_signatures_and_docstrings() -> None:
    assert list(inspect.signature(lw.load).parameters)[:2] == ["run", "checkpoint"]
    assert (lw.load.__doc__ or "").startswith("Return the model of a run")


HOSTILE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.sampled_from([object, print, np.int64(-1), np.array([1, 2]), Path("no/such"), 10**30, "~", "\0", "x" * 400]),
)  # fmt: skip
FUNCTIONS = [lw.train, lw.plan, lw.prepare, lw.load, lw.evaluate, lw.resume, lw.runs, lw.Run]


@settings(max_examples=60, deadline=None)
@given(function=st.sampled_from(FUNCTIONS), data=st.data())
def test_whatever_a_function_is_given_it_gives_a_result_or_a_sentence(function: Any, data: st.DataObject) -> None:
    parameters = [each for each in inspect.signature(function).parameters.values() if each.kind == each.KEYWORD_ONLY]
    arguments = {each.name: data.draw(HOSTILE) for each in parameters if data.draw(st.booleans())}
    # A text that is not there, so that nothing is trained where everything else is right.
    first = data.draw(HOSTILE.filter(lambda value: not isinstance(value, dict | list | np.ndarray) or not len(value)))
    with contextlib.suppress(LightwellError):
        function("no/such/text" if function in (lw.train, lw.plan, lw.prepare) else first, **arguments)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_a_model_is_given_it_gives_a_text_or_a_sentence(model: LanguageModel, data: st.DataObject) -> None:
    names = [field.name for field in lw.SamplingConfig.fields() if field.name != "max_new_tokens"]
    given_settings = {name: data.draw(HOSTILE) for name in names if data.draw(st.integers(0, 3)) == 0}
    with contextlib.suppress(LightwellError):
        model.generate(data.draw(HOSTILE), seed=data.draw(HOSTILE), max_new_tokens=2, **given_settings)
    with contextlib.suppress(LightwellError):
        model.tokenizer.decode(data.draw(HOSTILE))
    with contextlib.suppress(LightwellError):
        lw.trace(model, data.draw(HOSTILE))
    with contextlib.suppress(LightwellError):
        lw.RunConfig().with_values({data.draw(st.sampled_from(sorted(lw.RunConfig.all_fields()))): data.draw(HOSTILE)})
