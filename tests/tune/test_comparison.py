"""`python -m tune.report RUN RUN`: sweeps side by side, and the differences of their winners on the same rows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import write_pairs
from tests.tune.left_behind import begin, complete
from tests.tune.test_shown import HOSTILE, Page, report_of
from trainable.config import TrialConfig
from tune.report.__main__ import main
from tune.report.comparison import ComparedRun, PairedDifference, SideBySide, compare_runs
from tune.report.comparison_words import comparison_page, table
from tune.report.results import SweepReport, read_report
from tune.run_dir.layout import RunDir
from tune.statistics.configurations import compare_models
from tune.sweep.interim import report_run


def swept(folder: Path, model: Path, data: Path, **fields: Any) -> SweepReport:
    """A finished sweep of two trials, made without Ray."""
    book = begin(folder, model, data, num_trials=2, **fields)
    complete(book, 0.7)
    complete(book, 0.9)
    while book.remaining:
        complete(book, 0.8)
    return report_run(folder, lambda text: None).report


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Path]:
    """Three sweeps on the same rows, of which one confirmed nothing, and one on other rows."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_pairs(folder / "pairs", {"train": 96, "validation": 48, "test": 48})
    other = write_pairs(folder / "other", {"train": 96, "validation": 48, "test": 47})
    for seed, (name, confirm) in enumerate({"a": "1x2", "b": "1x2", "alone": "none"}.items()):
        swept(folder / name, tiny_model, data, confirm=confirm, seed=seed)
    swept(folder / "elsewhere", tiny_model, other, confirm="none")
    return {name: folder / name for name in ("a", "b", "alone", "elsewhere")}


def report_in(run: Path) -> SweepReport:
    report = read_report(RunDir(run))
    assert report is not None
    return report


def test_a_difference_is_that_of_the_reports_and_turns_round(runs: dict[str, Path]) -> None:
    (there,) = compare_runs([runs["a"], runs["b"]], []).pairs
    (back,) = compare_runs([runs["b"], runs["a"]], []).pairs
    means = [report_in(runs[name]).recipe for name in ("a", "b")]
    assert [None if of is None else of.mean for of in means] == pytest.approx([there.first_score, there.second_score])
    assert (there.first_seeds, there.second_seeds, there.rows) == (2, 2, 48)
    assert there.difference == pytest.approx(there.first_score - there.second_score)
    assert back.difference == pytest.approx(-there.difference)
    assert back.interval == pytest.approx([-end for end in reversed(there.interval)])
    assert back.probability_better == pytest.approx(1 - there.probability_better)
    assert there.interval[0] <= there.difference <= there.interval[1]


def test_the_model_in_best_stands_for_a_sweep_that_confirmed_nothing(runs: dict[str, Path]) -> None:
    (pair,) = compare_runs([runs["a"], runs["alone"]], []).pairs
    test = report_in(runs["alone"]).test
    assert test is not None
    assert pair.second_seeds == 0
    assert pair.second_score == pytest.approx(test.scores[pair.metric])


def test_scores_on_other_rows_are_not_compared(runs: dict[str, Path]) -> None:
    compared = compare_runs([runs["a"], runs["elsewhere"]], [])
    assert compared.pairs == []
    assert compared.notes == [
        f"{runs['a']} and {runs['elsewhere']} have other test rows: their scores can't be compared"
    ]


def test_a_sweep_whose_data_has_gone_is_still_shown(
    tmp_path: Path, tiny_model: Path, tiny_data: Path, runs: dict[str, Path]
) -> None:
    swept(tmp_path / "run", tiny_model, tiny_data, confirm="none")
    tiny_data.rename(tmp_path / "moved")
    compared = compare_runs([runs["elsewhere"], tmp_path / "run"], [])
    assert [each.trials for each in compared.runs] == [2, 2]
    assert compared.pairs == []
    assert "because its data can't be read" in compared.notes[0]


def test_the_command_shows_a_table_and_writes_a_page(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    before = {path: path.read_bytes() for path in runs["a"].rglob("*") if path.is_file()}
    words = [str(runs[name]) for name in ("a", "b", "elsewhere")]
    assert main([*words, "--output", str(page)]) == 0
    out, err = capsys.readouterr()
    assert err == f"page: {page}\n"
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["run", *words]
    assert sum(" minus " in line for line in lines) == 1
    test = report_in(runs["b"]).test
    assert test is not None
    assert f"{test.scores['f1']:.4f}" in lines[2]
    shown = Page(page.read_text()).text
    assert all(line.split("; ")[0] in shown for line in lines if " minus " in line)
    assert {path: path.read_bytes() for path in runs["a"].rglob("*") if path.is_file()} == before
    assert main([*words, "--output", str(page), "--json"]) == 0
    loaded = json.loads(capsys.readouterr().out)
    assert [each["run"] for each in loaded["runs"]] == words
    assert len(loaded["pairs"]) == 1


def test_all_mistakes_are_told_at_once(
    runs: dict[str, Path], tmp_path: Path, tiny_model: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(tmp_path / "begun", tiny_model, tiny_data, num_trials=2)
    wrong = ["s3://a:b@c/d", tmp_path / "nothing", tiny_data, tmp_path / "begun", runs["a"], runs["a"]]
    assert main([*map(str, wrong), "--output", str(tmp_path / "none" / "page.html")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    for told in (
        "6 problems", "a key or a password", "no such folder", "holds no sweep", "has no report yet", "is named twice",
        "its folder is not there",
    ):  # fmt: skip
        assert told in err
    assert main([str(runs["a"]), "--output", "x.html"]) == 2
    assert "--output goes with several RUNs" in capsys.readouterr().err


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_elsewhere_shows_as_text(text: str) -> None:
    report = report_of(text)
    config = TrialConfig.model_construct(learning_rate=1e-4, batch_size=8, epochs=2, optimizer=text)
    run = ComparedRun.model_construct(
        run=text, name=text, model=text, dataset=text, metric="f1", space={text: text}, trials=1, fresh_runs=0,
        train_s=1.0, config=config, validation=report.best.validation, test=report.test, recipe=None, test_reads=1,
        unfinished=text,
    )  # fmt: skip
    pair = PairedDifference(
        first=text, second=text, metric="f1", rows=1, first_score=0.5, second_score=0.5, first_seeds=0, second_seeds=0,
        difference=0.0, interval=[0.0, 0.0], probability_better=0.5,
    )  # fmt: skip
    comparison = SideBySide.model_construct(runs=[run, run], pairs=[pair], notes=[text])
    tags = {tag for tag, _ in Page(comparison_page(comparison)).tags}
    assert tags <= {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "p",
        "div",
        "table",
        "tr",
        "th",
        "td",
        "code",
    }
    assert all(line.isprintable() for line in table(comparison))


def test_two_models_differ_by_the_rows_where_one_of_them_is_right() -> None:
    """On accuracy it is the paired t interval of the difference."""
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 2, (2, 200)).astype(float)
    found = compare_models(first, second)
    difference = first - second
    assert found.difference == pytest.approx(difference.mean())
    assert found.interval is not None
    assert found.interval[1] - found.difference == pytest.approx(
        1.9720 * difference.std(ddof=1) / math.sqrt(200), rel=1e-4
    )
    assert compare_models(first, second, "min").probability_better == pytest.approx(1 - (found.probability_better or 0))
    assert compare_models(first, first).interval == (0.0, 0.0)
