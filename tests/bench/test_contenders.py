"""Who is measured, what each is started with, and what it says between its steps."""

from __future__ import annotations

import importlib.util
import io
import itertools
import json
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightwell.bench import check
from lightwell.bench.contenders import contender, pacer, products, worker
from lightwell.bench.contenders.contender import ALL, NANOGPT, PACKAGES, Peers, choose, command_of
from lightwell.bench.contenders.pacer import Pacer
from lightwell.bench.contenders.shapes import Shape, shape
from lightwell.errors import SettingError
from lightwell.training.planning.plan import flops_per_token
from lightwell.training.settings.config import RunConfig


@pytest.fixture
def checkout(tmp_path: Path) -> str:
    (tmp_path / "model.py").write_text("")
    return str(tmp_path)


def test_without_names_all_that_can_be_run_are_chosen(checkout: str) -> None:
    assert choose((), Peers()) == ["lightwell", "lightwell-eager", "lightwell-fp32"]
    own = ["lightwell", "lightwell-own"]
    assert choose((), Peers(python=sys.executable)) == [*own, *PACKAGES]
    assert choose((), Peers(nanogpt=checkout)) == [*own, *NANOGPT]
    assert choose((), Peers(sys.executable, checkout)) == [*own, *NANOGPT, *PACKAGES]
    assert choose(("lightwell-own", "lightwell", "lightwell-own"), Peers()) == ["lightwell-own", "lightwell"]


def test_a_peer_whose_place_is_not_given_is_refused(checkout: str) -> None:
    for name in PACKAGES:
        with pytest.raises(SettingError, match=f"^{name} needs --peers PYTHON"):
            choose((name,), Peers(nanogpt=checkout))
    for name in NANOGPT:
        with pytest.raises(SettingError, match=f"^{name} needs --nanogpt PATH"):
            choose((name,), Peers(python=sys.executable))


def test_each_is_started_by_its_own_command() -> None:
    tiny, scripts = shape("tiny"), Path(contender.__file__).parent
    given = tiny.to_json()
    module = ("-m", "lightwell.bench.contenders.worker")
    for peers in (Peers(), Peers("/peers/python", "/nanogpt")):
        ours = command_of("lightwell-eager", tiny, peers)
        assert ours.command == (sys.executable, *module, "lightwell-eager", given)
        assert (ours.name, ours.what) == ("lightwell-eager", ALL["lightwell-eager"])
    script = str(scripts / "peers.py")
    peers = Peers("/peers/python", "/nanogpt")
    assert command_of("litgpt", tiny, peers).command == ("/peers/python", script, "litgpt", given)
    assert command_of("nanogpt", tiny, peers).command == ("/peers/python", script, "nanogpt", given, "/nanogpt")
    alone = command_of("nanogpt-bf16", tiny, Peers("", "/nanogpt"))
    assert alone.command == (sys.executable, script, "nanogpt-bf16", given, "/nanogpt")
    assert alone.what == NANOGPT["nanogpt-bf16"]
    product = contender.products("bf16")
    assert product.command == (sys.executable, "-m", "lightwell.bench.contenders.products", "bf16")
    assert product.name == "product-bf16"


def test_every_variant_differs_in_what_its_name_says() -> None:
    parts = {
        name: (config.training.compile, config.training.precision, config.model.activation, config.model.positions)
        for name in worker.VARIANTS
        for config in [RunConfig().with_values(worker.settings(shape("S-dropout"), name))]
    }
    precision = RunConfig().training.precision
    assert parts == {
        "lightwell": ("on", precision, "gelu_tanh", "learned"),
        "lightwell-own": ("on", precision, "relu2", "rope"),
        "lightwell-eager": ("off", precision, "gelu_tanh", "learned"),
        "lightwell-fp32": ("off", "fp32", "gelu_tanh", "learned"),
        "lightwell-fp32-compiled": ("on", "fp32", "gelu_tanh", "learned"),
    }
    config = RunConfig().with_values(worker.settings(Shape("x", 3, 2, 8, 5, 7, 11, 0.3), "lightwell"))
    model = config.model
    assert (model.n_layers, model.n_heads, model.d_model, model.context_length) == (3, 2, 8, 5)
    assert (model.vocab_size, config.batches.batch_size) == (11, 7)
    assert (config.training.device, config.training.optimizer) == ("cpu", "adamw")
    assert (model.embedding_dropout, model.attention_dropout, model.residual_dropout) == (0.3, 0.3, 0.3)


# The pacer ------------------------------------------------------------------------------------------------------------


def paced(monkeypatch: pytest.MonkeyPatch, asked: str) -> tuple[Pacer, io.StringIO]:
    """A pacer that hears `asked`; its watch goes on by 1, 2, 3 ... seconds from one look to the next."""
    answers, seconds = io.StringIO(), itertools.accumulate(itertools.count(1))
    monkeypatch.setattr(pacer, "_own_stdout", lambda: answers)
    monkeypatch.setattr(pacer, "peak_bytes", lambda: 77)
    monkeypatch.setattr(sys, "stdin", io.StringIO(asked))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(seconds)))
    return Pacer("numpy", "no-such-package"), answers


def said(answers: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answers.getvalue().splitlines()]


def test_a_pacer_answers_after_its_warm_up_and_after_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    pace, answers = paced(monkeypatch, "run 2\nrun 1\nquit\n")
    pace.about, pace.versions = {"parameters": 5}, {"nanoGPT": "abc"}
    assert [pace.stepped(9.0) for _ in range(2)] == [True] * 2
    assert answers.getvalue() == ""
    assert pace.stepped(9.0)
    (warm,) = said(answers)
    # It was made at 1 and looked at 3; steps end at 6, 15 and 28, and the next begin at 10, 21 and 36.
    assert (warm["warm_up_seconds"], warm["peak_bytes"], warm["parameters"]) == (27.0, 77, 5)
    assert warm["python"] == ".".join(map(str, sys.version_info[:3]))
    assert warm["versions"].keys() == {"torch", "numpy", "no-such-package", "nanoGPT"}
    assert (warm["versions"]["no-such-package"], warm["versions"]["nanoGPT"]) == ("unknown", "abc")
    assert pace.stepped(8.0)
    assert len(said(answers)) == 1
    assert pace.stepped(7.0)
    assert said(answers)[1:] == [{"seconds": [9.0, 11.0]}]  # 36 to 45, and 55 to 66
    pace.findings = {"loader_seconds": 0.5}
    assert not pace.stepped(6.5)
    assert said(answers)[2:] == [{"seconds": [13.0]}, {"peak_bytes": 77, "loss": 6.5, "loader_seconds": 0.5}]


def test_a_pacer_whose_parent_is_gone_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    pace, answers = paced(monkeypatch, "")
    assert [pace.stepped(1.0) for _ in range(3)] == [True, True, False]
    assert said(answers)[-1] == {"peak_bytes": 77, "loss": 1.0}


def test_peak_memory_is_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrusage", lambda who: types.SimpleNamespace(ru_maxrss=3000))
    monkeypatch.setattr(sys, "platform", "linux")
    assert pacer.peak_bytes() == 3_072_000
    monkeypatch.setattr(sys, "platform", "darwin")
    assert pacer.peak_bytes() == 3000


class Pace:
    """Stands in for a pacer: lets go on for so many steps, and keeps the losses."""

    def __init__(self, steps: int) -> None:
        self.left, self.losses, self.about, self.versions, self.findings = steps, [], {}, {}, {}  # type: ignore[var-annotated]
        self.packages: tuple[str, ...] = ()

    def __call__(self, *packages: str) -> Self:
        self.packages = packages
        return self

    def stepped(self, loss: float) -> bool:
        self.losses.append(loss)
        self.left -= 1
        return self.left > 0


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_a_step_of_the_yardstick_is_one_product_in_the_precision(
    monkeypatch: pytest.MonkeyPatch, precision: str, dtype: torch.dtype
) -> None:
    pace, made = Pace(3), []
    monkeypatch.setattr(products, "Pacer", pace)
    monkeypatch.setattr(torch, "mm", lambda a, b: made.append((tuple(a.shape), tuple(b.shape), a.dtype, b.dtype)))
    products.run(precision)
    assert made == [((2048, 2048), (2048, 2048), dtype, dtype)] * 3


def test_our_own_worker_says_what_it_is_and_how_long_batches_take(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(3)
    steps = iter([5.0, 4.0, 3.0])
    config = RunConfig().with_values({**worker.settings(shape("tiny"), "lightwell-eager"), "precision": "fp32"})
    monkeypatch.setattr(worker, "Pacer", pace)
    job = types.SimpleNamespace(config=config)
    monkeypatch.setattr(worker, "make_bench_job", lambda *given: (job, [0.5, 0.25, 9.0]))
    monkeypatch.setattr("lightwell.training.loop.train_step", lambda job: {"loss": next(steps), "step": 1})
    worker.run(shape("tiny"), "lightwell-eager")
    assert pace.losses == [5.0, 4.0, 3.0]
    assert pace.packages == ("numpy",)
    assert pace.findings == {"loader_seconds": 0.5}
    assert pace.about == {
        "flops_per_token": flops_per_token(config.model),
        "parameters": config.model.parameter_count(),
        "precision": "fp32",
    }


def test_the_check_takes_as_many_products_as_have_the_flops_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    values = worker.settings(check.SHAPE, check.VARIANT)
    asked: list[float] = []

    def pretend(ratio: float) -> Callable[..., float]:
        def ratio_of(step: object, product: Callable[[], object], many: float) -> float:
            product()
            asked.append(many)
            return ratio

        return ratio_of

    monkeypatch.setattr(torch, "mm", lambda a, b: asked.append(float(a.numel() + b.numel())))
    for precision in ("bf16", "fp32"):
        config = RunConfig().with_values({**values, "precision": precision})
        job = types.SimpleNamespace(config=config, device=torch.device("cpu"))
        monkeypatch.setattr(worker, "make_bench_job", lambda *given, job=job: (job, []))
        monkeypatch.setattr(check, "ratio_of", pretend(4.0))
        ratio, sentence = check.compare()
        assert (ratio, sentence) == (4.0, check.sentence(4.0, precision, 4.0))
        assert asked[0] == 2 * 1024**2
        # 8 sequences of 128 tokens; a product of 1024 x 1024 matrices has 2 * 1024^3 FLOPs
        assert asked.pop() == pytest.approx(flops_per_token(config.model) * 1024 / 2_147_483_648)
        asked.clear()


def test_the_check_leaves_its_first_pairs_out_and_takes_one_product_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    pairs = iter([(100.0, 1.0)] * 3 + [(float(number), 2.0) for number in (1, 9, 2, 8, 3, 7, 4, 6, 5, 50, 60)])
    watch: Iterator[float] = itertools.chain.from_iterable(pairs)

    def seconds(work: Callable[[], object]) -> float:
        work()
        return next(watch)

    monkeypatch.setattr(check, "_seconds", seconds)
    # the median of eleven is 6 s, against 2 s for 3 of the 2.6 products
    assert check.ratio_of(lambda: done.append("s"), lambda: done.append("p"), 2.6) == pytest.approx(6 / (2 * 2.6 / 3))
    assert "".join(done) == "sppp" * 14
    done.clear()
    watch = iter([1.0, 4.0] * 14)
    assert check.ratio_of(lambda: done.append("s"), lambda: done.append("p"), 0.25) == 1.0
    assert "".join(done) == "sp" * 14


@pytest.mark.parametrize(("ratio", "code"), [(4.0, 0), (4.01, 1)])
def test_the_check_ends_with_1_where_the_step_is_too_slow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ratio: float, code: int
) -> None:
    monkeypatch.setattr(check, "compare", lambda: (ratio, check.sentence(ratio, "bf16", 4.0)))
    assert check.main() == code
    assert ("only 4 is allowed" in capsys.readouterr().out) == bool(code)


# Peers ----------------------------------------------------------------------------------------------------------------

FEW = {
    "name": "x", "n_layers": 3, "n_heads": 2, "d_model": 8, "context_length": 5, "batch_size": 4, "vocab_size": 11,
    "dropout": 0.25,
}  # fmt: skip


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """peers.py, as it finds itself in an environment without Lightwell."""
    path = Path(contender.__file__).with_name("peers.py")
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location("peers_alone", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop("pacer", None)
    return module


class Table(nn.Module):
    """A model that looks up the logits of the next token, with large gradients, so that clipping counts."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rows = nn.Parameter(torch.randn(vocab_size, vocab_size))

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        assert self.rows.grad is None or not self.rows.grad.any(), "gradients of the step before are gone"
        return 50.0 * F.cross_entropy(self.rows[inputs].flatten(0, 1), targets.flatten())


class Configured(Table):
    """One that is made from a configuration, which its class keeps; its trainer has to switch it to training."""

    given: ClassVar[dict[str, Any]] = {}

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(11)
        self.eval()
        type(self).given = config


def random_ids() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(11, (4, 6), generator=generator) for _ in range(3)]


def by_hand(scale: float, clip: bool, rate: float, betas: tuple[float, float], shifted: bool = False) -> list[float]:
    """The losses of three steps of AdamW, written out."""
    model = Table(11)
    weights = model.rows.detach().clone()
    first, second, losses = torch.zeros_like(weights), torch.zeros_like(weights), []
    for step, ids in enumerate(random_ids(), 1):
        model.rows.data = weights
        inputs, targets = ids[:, :-1], ids[:, 1:]
        if shifted:
            inputs, targets = inputs[:, :-1], inputs[:, 1:]
        loss = model.loss(inputs, targets) * scale
        losses.append(loss.item())
        (gradient,) = torch.autograd.grad(loss, [model.rows])
        if clip:
            gradient = gradient / gradient.norm()
        weights = weights * (1 - rate * 0.1)
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient**2
        weights = weights - rate * (first / (1 - betas[0] ** step)) / ((second / (1 - betas[1] ** step)).sqrt() + 1e-8)
    return losses


def test_batches_are_random_ids_and_the_next_ones(peers: Any) -> None:
    for ids, (inputs, targets) in zip(random_ids(), peers.batches(FEW), strict=False):
        assert inputs.equal(ids[:, :-1])
        assert targets.equal(ids[:, 1:])
        assert inputs.is_contiguous()


@pytest.mark.parametrize("bf16", [False, True])
def test_nanogpt_is_trained_as_its_own_loop_does(peers: Any, monkeypatch: pytest.MonkeyPatch, bf16: bool) -> None:
    class GPT(Configured):
        def configure_optimizers(self, decay: float, rate: float, betas: tuple[float, float], kind: str) -> Any:
            assert kind == "cpu"
            return torch.optim.AdamW(self.parameters(), lr=rate, betas=betas, weight_decay=decay)

        def forward(self, inputs: Tensor, targets: Tensor) -> tuple[None, Tensor]:
            assert self.training
            assert torch.is_autocast_enabled("cpu") == bf16
            return None, self.loss(inputs, targets)

    model = types.SimpleNamespace(GPT=GPT, GPTConfig=dict)
    monkeypatch.setitem(sys.modules, "model", model)
    monkeypatch.setattr(sys, "argv", ["peers.py", "nanogpt", "", "/no/checkout"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    pace = Pace(3)
    (peers.nanogpt_bf16 if bf16 else peers.nanogpt)(FEW, pace)
    assert pace.losses == pytest.approx(by_hand(1.0, True, 6e-4, (0.9, 0.95)), rel=1e-5)
    assert pace.versions == {"nanoGPT": "unknown"}
    expected = {"block_size": 5, "vocab_size": 11, "n_layer": 3, "n_head": 2, "n_embd": 8, "dropout": 0.25}
    assert GPT.given == {**expected, "bias": False}


def test_gpt2s_vocabulary_is_rounded_up_for_nanogpt(peers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def config(**settings: Any) -> None:
        seen.append(settings["vocab_size"])
        raise InterruptedError

    monkeypatch.setitem(sys.modules, "model", types.SimpleNamespace(GPT=object, GPTConfig=config))
    monkeypatch.setattr(sys, "argv", ["peers.py", "nanogpt", "", "/no/checkout"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    for size in (50257, 50256):
        with pytest.raises(InterruptedError):
            peers.nanogpt({**FEW, "vocab_size": size}, Pace(1))
    assert seen == [50304, 50256]


@pytest.mark.parametrize("best", [False, True])
def test_transformers_is_trained_in_a_plain_loop(peers: Any, monkeypatch: pytest.MonkeyPatch, best: bool) -> None:
    compiled: list[object] = []

    class GPT2(Configured):
        def forward(self, input_ids: Tensor, labels: Tensor) -> Any:
            assert self.training
            assert torch.is_autocast_enabled("cpu") == best
            return types.SimpleNamespace(loss=self.loss(input_ids[:, :-1], labels[:, 1:]))

    fake = types.SimpleNamespace(GPT2Config=dict, GPT2LMHeadModel=GPT2)
    monkeypatch.setitem(sys.modules, "transformers", fake)
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)  # type: ignore[func-returns-value]
    pace = Pace(3)
    (peers.transformers_compiled_bf16 if best else peers.transformers_plain)(FEW, pace)
    assert pace.losses == pytest.approx(by_hand(1.0, True, 6e-4, (0.9, 0.95), shifted=True), rel=1e-5)
    assert len(compiled) == best
    dropouts = {"resid_pdrop": 0.25, "embd_pdrop": 0.25, "attn_pdrop": 0.25}
    expected = {"vocab_size": 11, "n_positions": 5, "n_embd": 8, "n_layer": 3, "n_head": 2, **dropouts}
    expected |= {"bos_token_id": 0, "eos_token_id": 0}
    assert GPT2.given == (expected | {"use_cache": False} if best else expected)


def test_the_books_loop_does_not_clip(peers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class GPTModel(Configured):
        def forward(self, inputs: Tensor) -> Tensor:
            assert self.training
            assert self.rows.grad is None or not self.rows.grad.any()
            return self.rows[inputs]

    chapter = types.SimpleNamespace(GPTModel=GPTModel)
    monkeypatch.setitem(sys.modules, "llms_from_scratch", types.ModuleType("llms_from_scratch"))
    monkeypatch.setitem(sys.modules, "llms_from_scratch.ch04", chapter)
    pace = Pace(3)
    peers.llms_from_scratch(FEW, pace)
    assert pace.losses == pytest.approx(by_hand(1 / 50, False, 4e-4, (0.9, 0.999)), rel=1e-5)
    expected = {"vocab_size": 11, "context_length": 5, "emb_dim": 8, "n_heads": 2, "n_layers": 3, "drop_rate": 0.25}
    assert GPTModel.given == {**expected, "qkv_bias": False}


def test_what_a_peer_cannot_do_is_refused_before_it_starts(
    peers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=r"litgpt has no dropout\."):
        peers.litgpt(FEW, Pace(1))
    monkeypatch.setattr(sys, "argv", ["peers.py", "nanogpt", json.dumps(FEW), str(tmp_path)])
    with pytest.raises(SystemExit, match=r"is no checkout of nanoGPT: it has no model\.py"):
        peers.main()
    ran: list[Any] = []
    monkeypatch.setattr(peers, "Pacer", lambda *packages: packages)
    monkeypatch.setitem(peers.PEERS, "litgpt", (lambda *given: ran.append(given), ("litgpt", "lightning")))
    monkeypatch.setattr(sys, "argv", ["peers.py", "litgpt", json.dumps(FEW)])
    peers.main()
    assert ran == [(FEW, ("litgpt", "lightning"))]


def test_the_commit_of_a_checkout_is_named(peers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done = types.SimpleNamespace(stdout="1a2b3c4\n")
    asked: list[Any] = []

    def run(command: list[str], **given: Any) -> Any:
        asked.append((command, given["check"]))
        return done

    monkeypatch.setattr(subprocess, "run", run)
    assert peers.commit("/there") == "1a2b3c4"
    assert asked == [(["git", "-C", "/there", "rev-parse", "--short", "HEAD"], True)]
