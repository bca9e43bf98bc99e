"""`python -m tune.report RUN`: of a sweep that has ended, and of one that was stopped and goes on later."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_pairs
from tests.tune.left_behind import begin, complete
from tests.tune.test_end_to_end import command
from tests.tune.test_searcher import issue
from trainable.errors import UserError
from tune.report.__main__ import main
from tune.report.finished import finished_report
from tune.report.results import SweepReport, read_report
from tune.report.status import status
from tune.run_dir.layout import RunDir
from tune.sweep import final_score
from tune.sweep.interim import report_run
from tune.sweep.trial_book import TrialBook


def report_quietly(run: Path) -> SweepReport:
    said: list[str] = []
    return report_run(run, said.append).report


def never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise AssertionError("the test split was read")

    monkeypatch.setattr(final_score, "score_on_split", fail)


@pytest.fixture
def cut(tmp_path: Path, tiny_model: Path, tiny_data: Path) -> Path:
    """A sweep that was killed: of four trials two are done and one is open."""
    book = begin(tmp_path / "cut", tiny_model, tiny_data, num_trials=4, confirm="1x2")
    complete(book, 0.7)
    complete(book, 0.9)
    issue(book)
    return tmp_path / "cut"


@pytest.fixture
def ended(tmp_path: Path, tiny_model: Path, tiny_data: Path) -> Path:
    """A sweep whose trials and fresh runs have ended, killed before it wrote its result."""
    book = begin(tmp_path / "ended", tiny_model, tiny_data, num_trials=2, confirm="1x2")
    complete(book, 0.7)
    complete(book, 0.9)
    while book.remaining:
        complete(book, 0.8)
    return tmp_path / "ended"


def test_a_sweep_that_was_stopped_gets_a_report_of_what_is_there(cut: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(cut)]) == 0
    out, err = capsys.readouterr()
    told = "the sweep did not end: 2 of 4 trials are done, and its result is not confirmed"
    assert f"WARNING: {told}" in out
    assert err == "the test split was read for this (once so far for this run): what is chosen by it, flatters\n"
    report = read_report(RunDir(cut))
    assert report is not None
    assert (report.best.trial, report.test_reads, report.recipe) == (1, 1, None)
    assert [row.state for row in report.trials] == ["COMPLETE", "COMPLETE", "RUNNING"]
    assert told in (cut / "report.html").read_text()
    assert told in (cut / "best" / "README.md").read_text()
    assert not any("as asked" in note for note in report.notes)
    assert report.test is not None
    from tune.evaluate import evaluate_run

    scores = evaluate_run(cut)
    assert {name: scores[name] for name in report.test.scores} == pytest.approx(report.test.scores)


def test_a_sweep_goes_on_as_if_it_had_never_been_reported(cut: Path, tmp_path: Path) -> None:
    untouched = tmp_path / "untouched"
    shutil.copytree(cut, untouched)
    report_quietly(cut)
    assert (cut / "study.db").read_bytes() == (untouched / "study.db").read_bytes()
    assert (cut / "spec.yaml").read_bytes() == (untouched / "spec.yaml").read_bytes()
    assert status(cut).state == "stopped"
    assert finished_report(RunDir(cut), TrialBook(status(cut).spec, RunDir(cut)).records(), status(cut).spec) is None
    books = [TrialBook(status(run).spec, RunDir(run)) for run in (cut, untouched)]
    models = [sorted(p.parent.name for p in run.glob("trials/*/model")) for run in (cut, untouched)]
    assert models[0] == models[1] == ["1"]
    while books[0].remaining:
        of_both = [issue(book) for book in books]
        assert [(a.number, a.seed, a.config, a.confirms) for a in of_both] == [
            (of_both[1].number, of_both[1].seed, of_both[1].config, of_both[1].confirms)
        ] * 2
        for book, assignment in zip(books, of_both, strict=True):
            finish(book, assignment.number)
    assert books[0].records() == books[1].records()
    reports = [report_quietly(run).as_json() for run in (cut, untouched)]
    assert [each["provenance"].pop("command").split()[:3] for each in reports] == [["python", "-m", "tune.report"]] * 2
    assert reports[0].pop("test_reads") == 2, "the model of what was there was another one"
    assert reports[1].pop("test_reads") == 1
    assert [each.pop("wall_s") >= 0 for each in reports]
    assert reports[0] == reports[1]
    assert reports[0]["unfinished"] is None


def finish(book: TrialBook, number: int) -> None:
    from optuna.trial import TrialState

    from tests.tune.left_behind import leave_classifier
    from tests.tune.test_searcher import epoch

    leave_classifier(book.run_dir.model(number), Path(book.spec.model), number)
    book.record_epochs(number, [epoch(1, 0.95)])
    book.finish(number, TrialState.COMPLETE)


def test_asking_again_reads_nothing_and_changes_nothing(cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = report_quietly(cut)
    written = (cut / "report.json").read_bytes()
    never_read(monkeypatch)
    assert report_quietly(cut) == first
    assert (cut / "report.json").read_bytes() == written


def test_a_sweep_that_only_lacks_its_result_gets_it(ended: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = report_quietly(ended)
    assert report.unfinished is None
    assert report.best.confirms == 1
    assert report.recipe is not None
    assert report.recipe.seeds == 2
    assert status(ended).state == "finished"
    written = (ended / "report.json").read_bytes()
    never_read(monkeypatch)
    # What follows from report.json is made of it again.
    for path in (ended / "report.html", ended / "best" / "README.md"):
        before = path.read_text()
        path.write_text("spoilt")
        report_quietly(ended)
        assert path.read_text() == before
    # And report.json follows from the study and best/: every number is the same.
    (ended / "report.json").unlink()
    again = report_quietly(ended)
    assert (ended / "report.json").read_bytes() == written
    assert again == report


def test_what_was_not_confirmed_to_its_end_is_no_finished_sweep(
    tmp_path: Path, tiny_model: Path, tiny_data: Path
) -> None:
    book = begin(tmp_path / "run", tiny_model, tiny_data, num_trials=2, confirm="1x2")
    complete(book, 0.7)
    complete(book, 0.9)
    complete(book, 0.8)
    report = report_quietly(tmp_path / "run")
    assert report.unfinished is not None
    assert report.unfinished.startswith(
        "the sweep did not end: 2 of 2 trials are done, and its result is not confirmed: only 1 fresh run finished"
    )
    assert status(tmp_path / "run").state == "stopped"
    assert finished_report(RunDir(tmp_path / "run"), book.records(), book.spec) is None


def test_the_model_of_an_earlier_winner_stays(tmp_path: Path, tiny_model: Path, tiny_data: Path, ended: Path) -> None:
    """It lies in best/ alone once a sweep has ended. A sweep that is extended may choose it again."""
    first = report_quietly(ended)
    shutil.rmtree(ended / "trials" / str(first.best.trial) / "model", ignore_errors=True)
    book = begin(ended, tiny_model, tiny_data, num_trials=5, confirm="1x2")
    complete(book, 0.99)
    second = report_quietly(ended)
    assert second.best.trial == book.records()[-1].number
    assert second.unfinished is not None
    assert book.run_dir.has_model(first.best.trial, book.records()[first.best.trial].model_sha256)


# What is refused


def refused(run: Path | str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([str(run)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_without_a_trial_that_ended_there_is_nothing_to_report(
    tmp_path: Path, tiny_model: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    issue(begin(run, tiny_model, tiny_data, num_trials=4))
    before = sorted(run.rglob("*"))
    assert refused(run, capsys) == (
        f"{run}: no trial has run its whole schedule yet (0 of 1 trials ended): there is no model to report; "
        "the same `python -m tune.search` command goes on\n"
    )
    assert [path for path in sorted(run.rglob("*")) if path.name != ".lock"] == before


def test_a_sweep_that_runs_is_left_alone(cut: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunDir(cut).held():
        told = refused(cut, capsys)
    assert "runs this sweep, and will make the report; wait for its end, or end its search now" in told
    assert not (cut / "best").exists()
    assert not (cut / "report.json").exists()


@pytest.mark.parametrize("kind", ["nothing", "a file", "another folder", "a url"])
def test_what_is_no_run_directory_is_refused(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run: Path | str = tmp_path / "run"
    if kind == "a file":
        (tmp_path / "run").write_text("x")
    elif kind == "another folder":
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "report.json").write_text("{}")
    elif kind == "a url":
        run = "s3://user:password@bucket/x"
    told = refused(run, capsys)
    expected = {"nothing": "no such folder", "a file": "is a file", "another folder": "holds no sweep", "a url": "keys"}
    assert expected[kind] in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "run" / ".lock").exists()


def test_data_that_has_changed_is_told(cut: Path, tiny_data: Path) -> None:
    file = tiny_data / "train.csv"
    file.write_text(file.read_text().replace("0\n", "1\n", 1))
    with pytest.raises(UserError, match=r"its data, .*, has changed since the sweep"):
        report_quietly(cut)
    assert not (cut / "best").exists()


def test_json_is_the_report(cut: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(cut), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((cut / "report.json").read_text())


# A real search


@pytest.mark.slow
@pytest.mark.timeout(1200)  # three searches, each with a Ray of its own
def test_a_search_is_interrupted_reported_and_brought_to_its_end(tiny_model: Path, tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "pairs", {"train": 96, "validation": 48, "test": 48})
    run = tmp_path / "run"
    flags: list[object] = [
        "--dataset",
        data,
        "--model",
        tiny_model,
        "--num-trials",
        4,
        "--seed",
        3,
        "--space",
        "epochs=8",
    ]
    flags += ["--scheduler", "none", "--precision", "fp32", "--confirm", "1x2", "--max-concurrent", 1]
    whole = command("tune.search", *flags, "--out", tmp_path / "whole", cwd=tmp_path, limit_s=400)
    assert whole.returncode == 0, whole.stderr
    words = [sys.executable, "-m", "tune.search", *map(str, flags), "--out", str(run)]
    driver = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 400
        while not (run / "study.db").exists() or status(run).count("COMPLETE") < 1:
            assert driver.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        driver.send_signal(signal.SIGINT)
        _, told = driver.communicate(timeout=60)
    finally:
        driver.kill()
        driver.wait()
    assert driver.returncode == 130
    advised = [line for line in told.splitlines() if "tune.report" in line]
    assert advised == [f"Report and best/ of what is there: python -m tune.report {run}"]
    reported = command("tune.report", run, cwd=tmp_path, limit_s=200)
    assert reported.returncode == 0, reported.stderr
    assert "WARNING: the sweep did not end: " in reported.stdout
    so_far = json.loads((run / "report.json").read_text())
    assert so_far["unfinished"] is not None
    assert so_far["test"]["rows"] == 48
    assert status(run).state == "stopped"
    on = command("tune.search", "--out", run, cwd=tmp_path, limit_s=400)
    assert on.returncode == 0, on.stderr
    told_of = [json.loads((folder / "report.json").read_text()) for folder in (run, tmp_path / "whole")]
    assert told_of[0]["unfinished"] is None
    assert told_of[0]["test_reads"] >= told_of[1]["test_reads"]
    for trials in zip(told_of[0]["trials"][:4], told_of[1]["trials"][:4], strict=True):
        assert [(row["number"], row["config"], row["seed"], row["value"]) for row in trials] == [
            (trials[1]["number"], trials[1]["config"], trials[1]["seed"], trials[1]["value"])
        ] * 2
    for name in ("best", "test", "recipe"):
        assert told_of[0][name] == told_of[1][name], name
    before = (run / "report.json").read_bytes()
    again = command("tune.report", run, tmp_path / "whole", cwd=tmp_path, limit_s=200)
    assert again.returncode == 0, again.stderr
    assert " minus " in again.stdout
    assert command("tune.report", run, cwd=tmp_path, limit_s=200).returncode == 0
    assert (run / "report.json").read_bytes() == before
