from __future__ import annotations

import io
import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import lightwell as lw
from cli_house import SMALL_FLAGS, call
from lightwell.cli.progress import BarProgress, LineProgress
from lightwell.training.checkpoints.checkpoint import checkpoint_steps
from lightwell.training.planning import budget
from lightwell.training.runs.run import Run
from small import final_state, same_bits

Capture = pytest.CaptureFixture[str]


def test_training_reads_a_folder_and_ends_with_a_run_a_curve_a_sample_and_what_to_type_next(
    house: Path, capsys: Capture
) -> None:
    result = call(capsys, "train", "notes", "--out", "runs/again", *SMALL_FLAGS)
    assert result.code == 0
    assert "12 documents" in result.err
    assert "Reference lines" in result.err
    assert "held-out loss" in result.err
    assert "What it writes" in result.out
    assert "lightwell generate runs/again --prompt" in result.out
    for name in ("config.toml", "tokenizer.json", "metrics.jsonl", "samples.jsonl", "curve.png", "curve.svg"):
        assert (house / "runs" / "again" / name).stat().st_size > 0


def test_the_same_command_again_takes_the_next_free_name(house: Path, capsys: Capture) -> None:
    result = call(capsys, "train", "notes", *SMALL_FLAGS, "--json")
    assert json.loads(result.out)["path"] == "runs/notes-2"
    assert json.loads(call(capsys, "runs", "--json").out)[0]["name"] == "notes-2"


def test_the_result_of_training_as_json(house: Path, capsys: Capture) -> None:
    result = call(capsys, "train", "notes", "--out", "runs/again", *SMALL_FLAGS, "--json")
    summary = json.loads(result.out)
    assert summary["step"] == summary["steps"] == 6
    assert summary["validation_loss"] > 0
    assert summary["bits_per_byte"] > 0
    assert summary["sample"]["step"] == 6
    assert summary["references"]["uniform"] > summary["references"]["unigram_loss"]


def test_a_dry_run_prints_the_plan_and_leaves_nothing(house: Path, capsys: Capture) -> None:
    result = call(capsys, "train", "notes", "--out", "runs/planned", *SMALL_FLAGS, "--dry-run")
    assert result.code == 0
    for word in ("windows", "effective epochs", "tokens skipped", "parameters", "activations", "FLOPs", "time"):
        assert word in result.out
    plan = json.loads(call(capsys, "train", "notes", *SMALL_FLAGS, "--dry-run", "--json").out)
    assert plan["steps"] == 6
    assert plan["memory_bytes"] == sum(
        plan[f"{part}_bytes"]
        for part in ("weight", "gradient", "optimizer", "activation", "snapshot", "working", "process")
    )
    assert not (house / "runs" / "planned").exists()


def test_a_dry_run_for_a_time_shows_what_was_considered_and_leaves_nothing(
    house: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "SHAPES", budget.SHAPES[:2])
    monkeypatch.setattr(budget, "CONTEXTS", budget.CONTEXTS[:2])
    command = ("train", "notes", "--minutes", "1", "--tokenizer", "character", "--dry-run")
    result = call(capsys, *command)
    assert result.code == 0, result.err
    table = result.err[result.err.index("For the time there is") :]
    head = next(line for line in table.splitlines() if "tokens/s" in line).split()
    assert head == [
        "layers",
        "d_model",
        "parameters",
        "context",
        "batch",
        "tokens/s",
        "memory",
        "steps",
        "passes",
        "loss",
    ]
    assert table.count("→") == 1
    assert "effective epochs" in result.out
    planned = call(capsys, *command, "--json")
    plan = json.loads(planned.out)  # nothing but JSON on stdout, the table beside it
    chosen = next(line for line in planned.err.splitlines() if line.startswith("→")).split()
    assert [plan["n_layers"], plan["d_model"]] == [int(chosen[1]), int(chosen[2])]
    assert 0 < plan["seconds"] < 90
    assert not (house / "runs" / "notes-2").exists()


def test_progress_counts_on_the_number_of_steps_that_the_time_allows(capsys: Capture) -> None:
    record = {"step": 7, "loss": 2.0, "tokens_per_second": 1.0, "learning_rate": 0.1, "grad_norm": 1.0}
    console = Console(file=io.StringIO(), width=100)
    lines = LineProgress(console)
    lines.begin(10, 0)
    lines.lengthened(25)
    lines.last_line = -math.inf
    lines.stepped(record)
    bar = BarProgress(Console(file=io.StringIO(), force_terminal=True))
    bar.begin(10, 0)
    bar.lengthened(25)
    bar.stepped(record)
    bar.end()
    assert isinstance(console.file, io.StringIO)
    assert "7/25" in console.file.getvalue()
    assert isinstance(bar.console.file, io.StringIO)
    assert "7/25" in bar.console.file.getvalue()


def test_a_file_gives_settings_and_flags_go_over_it(house: Path, capsys: Capture) -> None:
    Path("mine.toml").write_text("[model]\nn_layers = 3\nd_model = 48\n")
    result = call(
        capsys, "train", "notes", "--config", "mine.toml", "--d-model", "32", "--no-qk-norm", "--steps", "1",
        "--eval-every", "0", "--stop", "moss", "--stop", "rain", "--out", "runs/mine",
    )  # fmt: skip
    assert result.code == 0, result.err
    config = Run("runs/mine").config
    assert (config.model.n_layers, config.model.d_model, config.model.qk_norm) == (3, 32, False)
    assert config.sampling.stop == ("moss", "rain")


def test_force_replaces_a_run(house: Path, capsys: Capture) -> None:
    assert call(capsys, "train", "notes", "--out", "runs/notes", *SMALL_FLAGS, "--steps=2").code == 2  # given twice
    flags = [flag for flag in SMALL_FLAGS if not flag.startswith("--steps")]
    refused = call(capsys, "train", "notes", "--out", "runs/notes", *flags, "--steps=2")
    assert refused.code == 1
    assert Run("runs/notes").config.training.steps == 6
    assert call(capsys, "train", "notes", "--out", "runs/notes", *flags, "--steps=2", "--force").code == 0
    assert Run("runs/notes").config.training.steps == 2


def test_runs_are_listed(house: Path, capsys: Capture) -> None:
    listed = call(capsys, "runs")
    assert listed.code == 0
    head, row = listed.out.splitlines()
    assert head.split()[0] == "run"
    assert row.split()[0] == "runs/notes"
    assert "6" in row.split()[1:]
    (summary,) = json.loads(call(capsys, "runs", "--json").out)
    assert summary["path"] == "runs/notes"
    assert summary["size_bytes"] > 1000


def test_no_runs_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    assert "No run is in runs yet" in call(capsys, "runs").out
    assert json.loads(call(capsys, "runs", "--json").out) == []


def test_show_tells_settings_losses_samples_and_checkpoints_and_draws_the_curve(house: Path, capsys: Capture) -> None:
    (house / "runs" / "notes" / "curve.png").unlink()
    shown = call(capsys, "show", "notes")  # a bare name, although notes/ is a folder of text here
    assert shown.code == 0
    assert (house / "runs" / "notes" / "curve.png").exists()
    assert "n_layers" in shown.out
    assert "(default 4)" in shown.out
    assert "Sample at step 6" in shown.out
    assert "bigram" in shown.out
    result = json.loads(call(capsys, "show", "runs/notes", "--json").out)
    assert result["config"]["model"]["n_layers"] == 2
    assert [record["step"] for record in result["evaluations"]] == [0, 3, 6]
    assert result["checkpoints"] == checkpoint_steps(house / "runs" / "notes" / "checkpoints")


def test_generation_prints_the_prompt_and_what_follows(house: Path, capsys: Capture) -> None:
    written = call(capsys, "generate", "notes", "--prompt", "the rain", "--seed", "3", "--max-new-tokens", "12")
    expected = lw.load("runs/notes").generate("the rain", seed=3, max_new_tokens=12)
    assert written.code == 0
    assert written.out == f"the rain{expected}\n"
    result = json.loads(
        call(capsys, "generate", "notes", "--prompt", "the rain", "--seed=3", "--max-new-tokens=12", "--json").out
    )
    assert result == {"prompt": "the rain", "text": expected, "seed": 3}
    first = call(capsys, "generate", "notes", "--prompt=a", "--seed=0", "--max-new-tokens=2", "--json")
    assert json.loads(first.out)["seed"] == 0  # a seed as good as any other


def test_several_prompts_are_a_batch_and_each_can_be_repeated_alone(house: Path, capsys: Capture) -> None:
    tokens = ["--prompt", "the rain", "--prompt", "moss", "--seed", "3", "--max-new-tokens", "9"]
    rows = json.loads(call(capsys, "generate", "notes", *tokens, "--json").out)
    assert [row["prompt"] for row in rows] == ["the rain", "moss"]
    alone = lw.load("runs/notes").generate("moss", seed=rows[1]["seed"], max_new_tokens=9)
    assert rows[1]["text"] == alone
    plain = call(capsys, "generate", "notes", *tokens).out
    assert f"the rain{rows[0]['text']}\n" in plain
    assert plain.endswith(f"moss{alone}\n")


def test_a_prompt_from_stdin(house: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("deep well"))
    result = call(capsys, "generate", "notes", "--prompt", "-", "--max-new-tokens", "2", "--json")
    assert json.loads(result.out)["prompt"] == "deep well"


def test_generation_takes_the_checkpoint_that_is_asked_for(house: Path, capsys: Capture) -> None:
    texts = {
        json.loads(
            call(capsys, "generate", "notes", "--prompt=moss", "--seed=1", f"--checkpoint={which}", "--json").out
        )["text"]
        for which in ("2", "6")
    }
    assert len(texts) == 2


def test_evaluation_scores_the_whole_held_out_text(house: Path, capsys: Capture) -> None:
    told = call(capsys, "evaluate", "notes")
    assert told.code == 0
    assert "bits per byte" in told.out
    assert "bigram" in told.out
    result = json.loads(call(capsys, "evaluate", "notes", "--json").out)
    assert {"nats_per_token", "perplexity", "bits_per_byte", "tokens", "bytes", "stride"} <= result.keys()
    assert set(result["references"]) == {"uniform", "unigram", "bigram"}
    assert result["text"] == []


def test_overlapping_windows_score_every_token_once_with_more_context(house: Path, capsys: Capture) -> None:
    apart = json.loads(call(capsys, "evaluate", "notes", "--json").out)
    overlapping = json.loads(call(capsys, "evaluate", "notes", "--stride", "4", "--json").out)
    assert overlapping["tokens"] == apart["tokens"]
    assert overlapping["bytes"] == apart["bytes"]
    assert overlapping["nats_per_token"] != apart["nats_per_token"]
    assert overlapping["stride"] == 4


def test_another_text_is_scored_whole(house: Path, capsys: Capture) -> None:
    Path("a.txt").write_text("the moss falls")
    Path("b.txt").write_text("deep and still")
    result = json.loads(call(capsys, "evaluate", "notes", "a.txt", "b.txt", "--json").out)
    assert result["text"] == ["a.txt", "b.txt"]
    assert result["bytes"] == 28
    assert result["tokens"] == 28 + 2  # a character is a token here, and an end-of-text token closes each document
    assert result["references"]["uniform"] == pytest.approx(
        json.loads(call(capsys, "evaluate", "notes", "--json").out)["references"]["uniform"]
    )


def test_a_changed_text_cannot_be_scored_as_held_out(house: Path, capsys: Capture) -> None:
    Path("notes/00.txt").write_text("something else " * 30)
    refused = call(capsys, "evaluate", "notes")
    assert refused.code == 1
    assert "has changed since it was trained" in refused.err
    other = call(capsys, "evaluate", "notes", "notes/01.txt", "--json")
    assert other.code == 0
    assert json.loads(other.out)["references"] is None


def test_the_doctor_tells_of_this_machine(capsys: Capture) -> None:
    told = call(capsys, "doctor")
    assert told.code == 0
    assert "GFLOP/s in fp32" in told.out
    machine = json.loads(call(capsys, "doctor", "--json").out)
    assert machine["gflops_fp32"] > 0
    assert machine["gflops_bf16"] > 0
    assert machine["cores"] >= 1
    assert isinstance(machine["advice"], list)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_run_that_resume_finishes_as_if_nothing_had_happened(
    house: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals, code: int
) -> None:
    stepped = LineProgress.stepped

    def interrupt_after_three(self: LineProgress, record: dict[str, Any]) -> None:
        stepped(self, record)
        if record["step"] == 3:
            signal.raise_signal(sent)

    with monkeypatch.context() as patch:
        patch.setattr(LineProgress, "stepped", interrupt_after_three)
        stopped = call(capsys, "train", "notes", "--out", f"runs/stopped-{code}", *SMALL_FLAGS)
    assert stopped.code == code
    assert "saved at step 3" in stopped.err
    assert f"`lightwell resume runs/stopped-{code}`" in stopped.err
    assert "3/6" in call(capsys, "runs").out
    resumed = call(capsys, "resume", f"stopped-{code}", "--json")
    assert resumed.code == 0
    assert json.loads(resumed.out)["step"] == 6
    assert same_bits(final_state(Run(f"runs/stopped-{code}")), final_state(Run("runs/notes")))
    again = call(capsys, "resume", f"stopped-{code}")
    assert again.code == 0
    assert "finished" in again.err


def test_ctrl_c_before_training_says_that_nothing_was_saved(
    house: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: LineProgress, sentence: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LineProgress, "say", interrupt)
    stopped = call(capsys, "train", "notes", "--out", "runs/stopped", *SMALL_FLAGS)
    assert stopped.code == 130
    assert "nothing was saved" in stopped.err
    assert not Path("runs/stopped").exists()
