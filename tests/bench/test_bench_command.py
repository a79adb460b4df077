"""The command: the real worker of Lightwell on a tiny shape, and what is refused before anything starts."""

from __future__ import annotations

import ast
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli_house import call
from lightwell.bench import table
from lightwell.bench.check import ratio_of, sentence
from lightwell.bench.contenders import contender, worker
from lightwell.bench.contenders.shapes import SHAPES, Shape, shape
from lightwell.training.settings.config import RunConfig

Capture = pytest.CaptureFixture[str]
PEERS_SCRIPT = Path(contender.__file__).with_name("peers.py")


def test_lightwell_alone_is_measured(tmp_path: Path, capsys: Capture) -> None:
    out, page = tmp_path / "results.json", tmp_path / "page.md"
    tokens = ["bench", "tiny", "--contenders", "lightwell-eager", "--rounds", "2", "--steps-per-round", "1"]
    result = call(capsys, *tokens, "--peak", "1000", "--json", "--out", out)
    assert result.code == 0, result.err
    results = json.loads(result.out)
    assert results == json.loads(out.read_text())
    (contender,) = results["shapes"][0]["contenders"]
    assert contender["error"] == ""
    assert contender["tokens_per_second"] > 0
    assert 5 < contender["final_loss"] < 6.5  # ln 300 = 5.7
    assert 0 < contender["loader_share"] < 1
    assert 0 < contender["share_of_peak"] < contender["share_of_product"]["max"] * 10
    assert contender["peak_bytes"] > 50e6
    assert results["shapes"][0]["product_gflops"].keys() == {"bf16", "fp32"}

    page.write_text(f"# Before\n\n{table.BEGIN}\nold\n{table.END}\n\nAfter\n")
    assert table.main([str(out), str(page)]) == 0
    once = page.read_text()
    assert once.startswith("# Before\n")
    assert once.endswith(f"{table.END}\n\nAfter\n")
    assert "old" not in once
    assert f"| lightwell-eager | {contender['tokens_per_second']:,.0f} | 1.00 x (1.00 to 1.00) |" in once
    assert table.main([str(out), str(page)]) == 0
    assert page.read_text() == once


def test_a_table_says_who_failed() -> None:
    broken = {"name": "litgpt", "what": "", "error": "litgpt has no dropout.", "peak_bytes": 0, "final_loss": None}
    first = {"name": "lightwell", "what": "", "error": "Killed.", "peak_bytes": 0, "final_loss": None}
    result = {"contenders": [first, broken], "peak_gflops": 0.0, "product_gflops": {}}
    assert table.rows(result) == []
    assert table.failures(result) == ["lightwell failed: Killed.", "litgpt failed: litgpt has no dropout."]


def test_a_page_without_a_place_for_tables_is_refused(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "page.md").write_text("no marks")
    assert table.main([str(tmp_path / "none.json"), str(tmp_path / "page.md")]) == 1
    assert "has no <!-- measured: begin -->" in capsys.readouterr().err
    (tmp_path / "page.md").write_text(f"{table.BEGIN}{table.END}")
    assert table.main([str(tmp_path / "none.json"), str(tmp_path / "page.md")]) == 1
    assert "is not what `lightwell bench --out` writes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["L"], "There is no shape L; there are S, S-dropout, M, M1024, tiny."),
        (["--contenders", "litgp"], "There is no contender litgp; "),
        (["--contenders", "litgpt"], "litgpt needs --peers PYTHON"),
        (["--contenders", "nanogpt"], "nanogpt needs --nanogpt PATH"),
        (["--peers", "/no/python"], "--peers is /no/python, which is no Python that can be run"),
        (["--nanogpt", "/no/checkout"], "--nanogpt is /no/checkout, which is no checkout of nanoGPT"),
        (["--rounds", "0"], "rounds is 0, but must be at least 1."),
        (["--steps-per-round", "0"], "steps_per_round is 0, but must be at least 1."),
        (["--peak", "-1"], "peak is -1, but must be at least 0."),
        (["--out", "no/such/folder.json"], "There is no folder no/such for folder.json"),
        (["S", "M", "--profile", "step.png"], "--profile draws one shape and one of lightwell, "),
        (["--profile", "no/such/step.png"], "There is no folder no/such for step.png"),
        (["--profile", "step.xyz"], "step.xyz must end in .png, .svg or .pdf."),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(tokens: list[str], said: str, capsys: Capture) -> None:
    result = call(capsys, "bench", *tokens)
    assert result.code == 2
    assert said in result.err
    assert len(result.err.splitlines()) == 1


def test_every_variant_is_a_configuration() -> None:
    assert worker.VARIANTS.keys() == contender.OURS.keys()
    for name in worker.VARIANTS:
        config = RunConfig().with_values(worker.settings(shape("S-dropout"), name))
        assert config.model.attention_dropout == 0.2
        assert config.training.grad_clip == 1.0


def test_m_is_gpt2() -> None:
    config = RunConfig().with_values(worker.settings(shape("M1024"), "lightwell"))
    assert config.model.parameter_count() == 124_439_808  # as the released model


def test_shapes_survive_the_way_to_a_contender() -> None:
    assert [Shape.from_json(each.to_json()) for each in SHAPES.values()] == list(SHAPES.values())


def test_the_peers_script_needs_nothing_but_the_standard_library() -> None:
    for path in (PEERS_SCRIPT, PEERS_SCRIPT.with_name("pacer.py")):
        imported = {
            name.split(".")[0]
            for node in ast.parse(path.read_text()).body
            for name in (
                [alias.name for alias in node.names] if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            )
        }  # fmt: skip
        assert imported <= sys.stdlib_module_names, path


def test_the_peers_script_knows_every_peer() -> None:
    code = "import runpy; print(sorted(runpy.run_path('peers.py')['PEERS']))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=PEERS_SCRIPT.parent)
    assert ast.literal_eval(done.stdout) == sorted([*contender.NANOGPT, *contender.PACKAGES])


def test_the_check_compares_medians_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = itertools.cycle([3.0, 2.0])  # of a step, and of the products
    monkeypatch.setattr("lightwell.bench.check._seconds", lambda work: next(costs))
    assert ratio_of(lambda: None, lambda: None, products=4.0) == 1.5
    assert ratio_of(lambda: None, lambda: None, products=4.4) == pytest.approx(1.5 / 1.1)


def test_the_check_says_what_to_do() -> None:
    assert sentence(2.0, "bf16", 4.0).endswith("of the same FLOPs; up to 4 is allowed.")
    assert "something in the step has become slow" in sentence(4.5, "fp32", 4.0)
