"""The page: every number of it stands in report.json, its charts show what the report says, and it stays small."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tune.page_reports import SPACE, trial_records, whole_report
from tests.tune.test_shown import Page, report_of
from trainable.epoch_scores import WorkerFacts
from tune.report.answer_words import answer, troubles
from tune.report.answers import MOST_CHARACTERS, MOST_ERRORS, answers_of
from tune.report.charts import CHARTS, figures
from tune.report.charts.curves import MOST_CURVES, curves_drawn
from tune.report.files import write_best, write_report
from tune.report.finished import finished_report
from tune.report.html_page import html_page
from tune.report.importance import importance_of
from tune.report.results import SweepReport, TrialRow
from tune.report.timeline import timeline_of
from tune.run_dir.layout import RunDir
from tune.spec.sweep_spec import SweepSpec
from tune.sweep.details import without_secrets

MOST_BYTES = 6_000_000
ASKED_FOR = SweepSpec(name="reviews", model="m", dataset="d", num_trials=12)


@pytest.fixture(scope="module")
def report() -> SweepReport:
    return whole_report()


@pytest.fixture(scope="module")
def page(report: SweepReport) -> str:
    return html_page(report)


def test_every_chart_has_its_place_on_the_page(report: SweepReport, page: str) -> None:
    assert figures(report).keys() == CHARTS.keys()
    parsed = Page(page)
    assert list(parsed.charts) == list(CHARTS)
    places = [dict(attributes).get("id", "") for tag, attributes in parsed.tags if tag == "div"]
    assert [place.removeprefix("chart-") for place in places if place.startswith("chart-")] == list(CHARTS)


def test_a_report_of_an_earlier_version_gets_a_page_that_says_what_it_lacks() -> None:
    old = report_of("harmless")
    assert set(figures(old)) == {"history"}
    page = Page(html_page(old))
    assert list(page.charts) == ["history"]
    assert page.text.count("No chart:") == len(CHARTS) - 1


def test_the_report_with_everything_is_read_back_as_it_was_written(report: SweepReport) -> None:
    assert SweepReport.from_json(json.loads(json.dumps(report.as_json()))) == report


def test_the_numbers_of_charts_and_tables_stand_in_the_report(report: SweepReport, page: str) -> None:
    """Values of axes that no chart computes; a log axis and a part of a whole are no numbers of the report."""
    known = {round(number, 6) for number in _numbers(report.as_json())}
    charts = Page(page).charts
    for name in ("learning_curves", "loss_curves", "history", "importance", "finalists", "ties", "reliability"):
        for trace in charts[name]["data"]:
            shown = {round(v, 6) for axis in "xy" for v in trace.get(axis, ()) if isinstance(v, float) and v % 0.125}
            if name != "reliability" or trace["type"] == "scatter":
                assert shown <= known | {0.0, 1.0}, name
    of_classes = {f"{value:.4f}" for row in report.as_json()["answers"]["classes"] for value in _numbers(row)}
    assert of_classes <= set(re.findall(r"\d+\.\d{4}", page)) | {f"{float(n):.4f}" for n in range(400)}


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for each in value.values() for number in _numbers(each)]
    if isinstance(value, list):
        return [number for each in value for number in _numbers(each)]
    return [float(value)] if isinstance(value, (int, float)) else []


@pytest.mark.slow
def test_a_thousand_trials_and_77_classes_fit() -> None:
    report = whole_report(trials=1000, classes=77)
    began = time.monotonic()
    page = html_page(report)
    assert time.monotonic() - began < 60
    assert len(page.encode()) < MOST_BYTES
    drawn = curves_drawn(report)
    assert len(drawn) <= MOST_CURVES
    winner = report.best.confirms
    assert winner in {row.number for row in drawn}
    assert "are left out here" in page
    assert f"The first 300 of {len(report.trials):,} trials" in page


def test_without_examples_no_text_is_on_the_page_or_in_the_report() -> None:
    with_texts, without = whole_report(), whole_report(texts=False)
    assert "the secret text" in html_page(with_texts)
    assert "the secret text" not in html_page(without) + json.dumps(without.as_json())
    assert "asked to keep texts out" in html_page(without)
    assert [each.row for each in without.answers.worst] == [each.row for each in with_texts.answers.worst]  # type: ignore[union-attr]


# What is computed


def test_answers_are_counted_by_hand() -> None:
    sure = np.array([[0.92, 0.08], [0.83, 0.17], [0.26, 0.74], [0.05, 0.95]], dtype=np.float16)
    of = answers_of("test", np.array([0, 1, 1, 1]), sure, ["a", "b"], [["w", "x" * 500, "y", "z"]])
    a, b = of.classes
    assert (a.rows, a.answers, a.precision, a.recall) == (1, 2, 0.5, 1.0)
    assert (b.rows, b.answers, b.precision, b.recall) == (3, 2, 1.0, 2 / 3)
    assert b.f1 == pytest.approx(0.8)
    assert [(each.label, each.answer, each.rows) for each in of.confusion] == [
        ("a", "a", 1),
        ("b", "a", 1),
        ("b", "b", 2),
    ]
    (worst,) = of.worst
    assert (worst.row, worst.label, worst.answer, of.wrong) == (1, "b", "a", 1)
    assert worst.texts is not None
    assert len(worst.texts[0]) == MOST_CHARACTERS
    # 0.74 is right, 0.83 is wrong, and 0.92 and 0.95 lie in one bin and are right.
    assert of.calibration.error == pytest.approx((0.26 + 0.83 + 0.08 + 0.05) / 4, abs=1e-3)
    assert sum(each.rows for each in of.calibration.bins) == 4


def test_the_worst_errors_come_first_and_are_few() -> None:
    rng = np.random.default_rng(0)
    sure = rng.dirichlet([1, 1, 1], 200)
    worst = answers_of("validation", rng.integers(0, 3, 200), sure, ["a", "b", "c"], None).worst
    assert len(worst) == MOST_ERRORS
    assert [each.probability for each in worst] == sorted((each.probability for each in worst), reverse=True)
    assert all(each.probability > each.probability_of_label for each in worst)


def test_importance_finds_what_the_score_depends_on() -> None:
    records = [
        replace(record, value=float(np.log10(record.config.named()["learning_rate"])))
        for record in trial_records(80)
        if record.state == "COMPLETE"
    ]
    found = importance_of(records, SPACE, "f1", "max")
    assert found is not None
    assert next(iter(found.shares)) == "learning_rate"
    assert found.shares["learning_rate"] > 0.8
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.warning is None
    assert importance_of(records[:3], SPACE, "f1", "max") is None
    few = importance_of(records[:8], SPACE, "f1", "max")
    assert few is not None
    assert few.warning is not None
    assert "only 8 trials" in few.warning


def test_a_worker_that_follows_another_takes_its_slot() -> None:
    records = trial_records(12)
    spans = timeline_of(records)
    assert {span.trial for span in spans} == {record.number for record in records if record.epochs}
    assert {(span.host, span.slot) for span in spans} == {(f"node-{i}", slot) for i in (0, 1) for slot in (1, 2)}
    for one in spans:
        for other in spans:
            if one is not other and (one.host, one.slot) == (other.host, other.slot):
                assert one.ended_at <= other.began_at or other.ended_at <= one.began_at
    last = records[-1]
    moved = replace(last, epochs=tuple(replace(e, worker=WorkerFacts("node-9", 7, 0.0, 0)) for e in last.epochs))
    assert timeline_of([moved])[0].slot == 1


# In words


def test_the_answer_says_what_won_what_it_scores_and_what_it_cost(report: SweepReport) -> None:
    text = " ".join(answer(report))
    for part in ("trial", "0.8123", "0.7812 to 0.8456", "+0.0234", "most frequent class", "15:00", "4 workers"):
        assert part in text
    assert any("too good by about 1.4 points" in trouble for trouble in troubles(report))


def test_a_trial_that_was_stopped_within_its_first_epoch_is_drawn(report: SweepReport) -> None:
    stopped = [row for row in report.trials if not row.epochs and row.rungs]
    assert stopped
    history = figures(report)["history"].to_dict()
    numbers = {number for trace in history["data"] for number in trace["x"]}
    assert {row.number for row in stopped} <= numbers


def test_the_best_so_far_never_falls_and_goes_on_to_the_last_trial(report: SweepReport) -> None:
    history = figures(report)["history"].to_dict()
    [line] = [trace for trace in history["data"] if trace["name"] == "best so far"]
    scored = [row.number for row in report.searched if row.epochs or row.rungs]
    assert list(line["x"]) == scored
    known = [value for value in line["y"] if value is not None]
    assert known == sorted(known)
    assert known[-1] == max(row.value or 0.0 for row in report.searched if row.state == "COMPLETE")


def test_rows_of_trials_say_when_they_ran(report: SweepReport) -> None:
    def consistent(row: TrialRow) -> bool:
        return bool(row.epochs) == (row.began_at is not None) == (row.ended_at is not None)

    assert all(map(consistent, report.trials))


# What an earlier run left


def left_by_an_earlier_run(folder: Path, report: SweepReport) -> RunDir:
    """A run directory in which a sweep has ended; its model is not needed here."""
    run_dir = RunDir(folder)
    (folder / "model").mkdir()
    write_best(run_dir, report, folder / "model", folder / "none.npy")
    write_report(run_dir, report)
    return run_dir


def test_a_finished_sweep_that_is_asked_for_no_examples_loses_its_texts(tmp_path: Path, report: SweepReport) -> None:
    run_dir, records = left_by_an_earlier_run(tmp_path, report), trial_records(12)
    assert finished_report(run_dir, records, ASKED_FOR) == report
    assert "the secret text" in run_dir.report_html.read_text()
    bare = finished_report(run_dir, records, ASKED_FOR, no_examples=True)
    assert bare is not None
    for file in (run_dir.report_html, run_dir.report_json):
        assert "the secret text" not in file.read_text()
    assert finished_report(run_dir, records, ASKED_FOR) == bare  # they do not come back by themselves


def test_a_finished_sweep_whose_report_an_earlier_version_wrote_is_not_run_again(
    tmp_path: Path, report: SweepReport
) -> None:
    run_dir, records = left_by_an_earlier_run(tmp_path, report), trial_records(12)
    old = json.loads(run_dir.report_json.read_text())
    for name in ("timeline", "importance", "answers", "data", "provenance"):
        del old[name]
    for row in old["trials"]:
        for name in ("epochs", "rungs", "began_at", "ended_at"):
            del row[name]
    run_dir.report_json.write_text(json.dumps(old))
    found = finished_report(run_dir, records, ASKED_FOR)
    assert found is not None
    assert "an earlier version wrote it" in run_dir.report_html.read_text()
    old["trials"][0]["value"] = 0.1  # which is not what the study says
    run_dir.report_json.write_text(json.dumps(old))
    assert finished_report(run_dir, records, ASKED_FOR) is None


def test_the_specification_on_the_page_holds_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    found = without_secrets(
        {"dataset": "https://me:password@host/x", "points": [{"optimizer": "hf_abcdefgh"}], "seed": 1}
    )
    assert found == {"dataset": "https://***@host/x", "points": [{"optimizer": "***"}], "seed": 1}
