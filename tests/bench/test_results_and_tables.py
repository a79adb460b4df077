"""From seconds to figures, and from figures to the tables of a page: every number by hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from lightwell.bench import table
from lightwell.bench.contenders.contender import Contender
from lightwell.bench.contenders.shapes import Shape, shape
from lightwell.bench.turns.results import contender_results, fastest, product_rates, shape_results, spread
from lightwell.bench.turns.rounds import Measurement, Turns

TINY = shape("tiny")  # 32 tokens in a step


def turns(name: str, rounds: dict[int, list[float]], **about: Any) -> Turns:
    return Turns(Contender(name, f"what {name} is", ()), about=about, rounds=rounds)


def test_the_rate_of_a_product_is_its_flops_by_the_median_of_a_round() -> None:
    measured = Measurement(
        [turns("A", {})],
        {
            "bf16": turns("p", {0: [0.1, 0.2, 0.9], 1: [0.4], 2: [0.5]}),
            "fp32": turns("q", {0: [0.8]}),
            "fp16": turns("r", {}),
        },
    )
    flops = 2 * 2048**3
    rates = product_rates(measured)
    assert rates == {"bf16": {0: flops / 0.2, 1: flops / 0.4, 2: flops / 0.5}, "fp32": {0: flops / 0.8}, "fp16": {}}
    result = shape_results(TINY, measured, 7, 0.0)
    assert result["product_gflops"] == pytest.approx({"bf16": flops / 0.4 / 1e9, "fp32": flops / 0.8 / 1e9})
    assert (result["shape"], result["steps_per_round"], result["peak_gflops"]) == (dataclasses.asdict(TINY), 7, 0.0)
    assert result["rounds"] == measured.rounds == 0


def test_the_fastest_product_is_that_of_each_round() -> None:
    assert fastest([{1: 5.0, 0: 1.0}, {0: 3.0, 1: 2.0, 2: 4.0}]) == {0: 3.0, 1: 5.0, 2: 4.0}
    assert list(fastest([{2: 1.0, 0: 1.0}])) == [0, 2]
    assert fastest([]) == {}


def test_a_spread_is_median_and_extremes() -> None:
    assert spread([9.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 9.0}


def test_the_figures_of_a_contender() -> None:
    baseline = turns("A", {0: [1.0], 1: [4.0]}, flops_per_token=1e6)
    other = turns(
        "B",
        {0: [2.0, 2.0], 1: [2.0, 4.0, 6.0]},
        peak_bytes=10,
        warm_up_seconds=3.0,
        python="3.12",
        versions={"torch": "2"},
        pid=7,
    )
    other.findings = {"loss": 5.5, "loader_seconds": 0.5}
    product = {0: 1e9, 1: 1e8}
    found = contender_results(other, baseline, TINY, product, 2.0)
    assert found == {
        "name": "B", "what": "what B is", "error": "", "warm_up_seconds": 3.0, "python": "3.12",
        "versions": {"torch": "2"}, "peak_bytes": 10, "final_loss": 5.5,
        "step_seconds": 2.0,  # of 2, 2, 2, 4 and 6
        "all_step_seconds": {"0": [2.0, 2.0], "1": [2.0, 4.0, 6.0]},
        "tokens_per_second": 16.0,
        "baseline_is_times": {"median": 1.5, "min": 1.0, "max": 2.0},
        # 32 million FLOPs, the baseline's, in 2 and in 4 seconds
        "share_of_product": pytest.approx({"median": 0.048, "min": 0.016, "max": 0.08}),
        "share_of_peak": pytest.approx(0.008),
        "loader_share": 0.25,
    }  # fmt: skip
    other.about["flops_per_token"], other.findings["peak_bytes"] = 2e6, 20
    own = contender_results(other, baseline, TINY, product, 2.0)
    assert (own["share_of_peak"], own["peak_bytes"]) == (pytest.approx(0.016), 20)
    without = contender_results(other, baseline, TINY, {1: 0.0}, 0.0)
    assert not {"share_of_product", "share_of_peak"} & without.keys()
    silent = contender_results(turns("C", {}), baseline, TINY, product, 2.0)
    assert silent == {"name": "C", "what": "what C is", "error": "", "peak_bytes": 0, "final_loss": None}


def contender(name: str, ratio: float, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "error": "", "tokens_per_second": 12345.6, "peak_bytes": 1_234_567_890, "warm_up_seconds": 31.4,
        "baseline_is_times": {"median": ratio, "min": ratio / 2, "max": ratio * 2},
        "share_of_product": {"median": 0.456, "min": 0.1, "max": 0.9}, **more,
    }  # fmt: skip


RESULT: dict[str, Any] = {
    "shape": dataclasses.asdict(TINY),
    "rounds": 5,
    "steps_per_round": 2,
    "product_gflops": {"bf16": 1234.4, "fp32": 99.6},
    "peak_gflops": 100.0,
    "contenders": [
        contender("A", 1.0, share_of_peak=0.123, loader_share=0.00123, python="3.12.1", versions={"torch": "2.9"}),
        contender("B", 3.0, loader_share=0.0005, python="3.12.1", versions={"torch": "2.8", "numpy": "2"}),
        contender("C", 0.5, baseline_is_times=None, share_of_product=None),
        contender("D", 0.25),
        {"name": "E", "error": "too large", "peak_bytes": 0},
    ],
}


def test_rows_are_in_the_order_of_the_ratio() -> None:
    assert table.headings(RESULT) == [
        "contender", "tokens/s", "A is", "of the product", "of peak", "peak memory", "warm after"
    ]  # fmt: skip
    assert table.rows(RESULT) == [
        ["D", "12,346", "0.25 x (0.12 to 0.50)", "46%", "", "1.23 GB", "31 s"],
        ["A", "12,346", "1.00 x (0.50 to 2.00)", "46%", "12%", "1.23 GB", "31 s"],
        ["B", "12,346", "3.00 x (1.50 to 6.00)", "46%", "", "1.23 GB", "31 s"],
        ["C", "12,346", "", "", "", "1.23 GB", "31 s"],
    ]
    without = {**RESULT, "peak_gflops": 0.0}
    assert "of peak" not in table.headings(without)
    assert {len(row) for row in table.rows(without)} == {6}
    assert table.failures(RESULT) == ["E failed: too large"]
    assert table.remarks(RESULT) == [
        "The bare matrix product: 1,234 in bf16 and 100 in fp32 GFLOP/s.",
        "Making the batch takes 0.12% of a step of Lightwell.",
    ]
    assert table.remarks({"product_gflops": {}, "contenders": []}) == []


def results(**host: Any) -> dict[str, Any]:
    return {
        "format": 1, "date": "2026-01-02", "command": "lightwell bench tiny", "shapes": [RESULT],
        "host": {"processor": "Some CPU", "cores": 2, "memory_bytes": 8.4e9, "system": "Linux", **host},
    }  # fmt: skip


def test_the_page_says_on_what_and_how_it_was_measured() -> None:
    parts = table.markdown(results()).split("\n\n")
    assert parts[:5] == [
        "Measured on 2026-01-02: Some CPU, 2 cores, 8 GB of memory, Linux.",
        "Python 3.12.1, torch 2.9 and 2.8, numpy 2.",
        "```sh\nlightwell bench tiny\n```",
        "### tiny",
        "2 layers, 2 heads, d_model 32, context 16, batch 2, vocabulary 300; 5 rounds of 2 steps.",
    ]
    lines = parts[5].splitlines()
    assert lines[0] == "| contender | tokens/s | A is | of the product | of peak | peak memory | warm after |"
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| D", "| A", "| B", "| C"]
    assert parts[6:] == [*table.failures(RESULT), *table.remarks(RESULT)]
    unknown = {**results(memory_bytes=0), "shapes": []}
    assert table.markdown(unknown).split("\n\n")[0] == "Measured on 2026-01-02: Some CPU, 2 cores, Linux."


def test_the_command_puts_the_tables_between_the_marks_and_says_how_it_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, page = tmp_path / "results.json", tmp_path / "page.md"
    found.write_text(json.dumps(results()))
    page.write_text("before\n<!-- measured: begin -->old<!-- measured: end -->\nafter <!-- measured: end -->")
    assert table.main([str(found), str(page)]) == 0
    made = f"<!-- measured: begin -->\n\n{table.markdown(results())}\n\n<!-- measured: end -->"
    assert page.read_text() == f"before\n{made}\nafter <!-- measured: end -->"
    for arguments in ([], [str(found)], [str(found), str(page), "more"]):
        assert table.main(arguments) == 2
    assert capsys.readouterr().err.startswith("Usage: python -m lightwell.bench.table RESULTS.json PAGE.md\n")
    for content in ('{"format": 2}', "{}", "[]", "no json"):
        found.write_text(content)
        with pytest.raises(table.TableError, match="is not what `lightwell bench --out` writes"):
            table.read_results(found)
    assert table.main([str(found), str(tmp_path / "none.md")]) == 1
    assert "none.md cannot be read (No such file or directory)." in capsys.readouterr().err
    page.write_text("<!-- measured: end --> <!-- measured: begin -->")
    assert table.main([str(found), str(page)]) == 1


def test_the_shapes_are_those_that_were_compared_before() -> None:
    small, large = (
        "6 layers, 6 heads, d_model 384, context 256, batch 16, vocabulary 4096",
        "12 layers, 12 heads, d_model 768",
    )
    said = {name: (shape(name).sentence(), shape(name).tokens) for name in ("S", "S-dropout", "M", "M1024")}
    assert said == {
        "S": (small, 4096),
        "S-dropout": (f"{small}, dropout 0.2", 4096),
        "M": (f"{large}, context 256, batch 4, vocabulary 50257", 1024),
        "M1024": (f"{large}, context 1024, batch 1, vocabulary 50257", 1024),
    }
    assert Shape("x", 1, 2, 4, 3, 5, 7).tokens == 15
