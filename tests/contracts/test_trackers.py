"""Every tracker that `--log-to` names: a sweep as it has it in its local store, after one driver and after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.tune.test_searcher import epoch
from tests.tune.test_shown import report_of
from trainable.config import TrialConfig
from trainable.epoch_scores import CurvePoint
from trainable.job import Assignment
from tune.report import tracker_log
from tune.report.score_logs import ScoreLogs
from tune.report.tracker_log import tracker_logs
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord
from tune.spec.sweep_spec import SweepSpec
from tune.trackers import TRACKERS

# MLflow's own SQL mapping is older than SQLAlchemy 2.1.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


@dataclass
class Run:
    """What a tracker's store has of a run."""

    name: str
    config: dict[str, str]
    tags: dict[str, str]
    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    state: str = ""


Reader = Callable[[], list[Run]]


def in_mlflow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")

    def read() -> list[Run]:
        import mlflow

        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name("finetune-search")
        runs = []
        for run in client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]):
            points = {
                name: [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics
            }
            runs.append(Run(run.info.run_name, run.data.params, run.data.tags, points, run.info.status))
        parent = next(run for run in runs if "mlflow.parentRunId" not in run.tags)
        return [parent, *sorted((run for run in runs if run is not parent), key=lambda run: int(run.tags["trial"]))]

    return read


STORES: dict[str, Callable[[Path, pytest.MonkeyPatch], Reader]] = {"mlflow": in_mlflow}


def test_every_tracker_has_a_local_store_here() -> None:
    assert STORES.keys() == TRACKERS.keys()


def record(number: int, state: str, epochs: int, confirms: int | None = None) -> TrialRecord:
    run = tuple(epoch(each, each / 10) for each in range(1, epochs + 1))
    best = run[-1] if run else None
    config = TrialConfig(learning_rate=1e-4, epochs=3)
    return TrialRecord(number, state, config, 7, run, best, best and best.scores["f1"], confirms=confirms)


def assignment(number: int, confirms: int | None = None) -> Assignment:
    return Assignment(number, 7, TrialConfig(learning_rate=1e-4, epochs=3), folder="", confirms=confirms)


def test_a_sweep_is_a_parent_with_a_run_for_each_trial(
    tracker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = STORES[tracker](tmp_path, monkeypatch)
    spec = SweepSpec(name="mine", model="m", dataset="d", log_to=tracker)
    said: list[str] = []
    with tracker_logs(spec, "id-1", RunDir(tmp_path), [], said.append) as trackers:
        logs = ScoreLogs(trackers, ["no", "<yes>"])
        for number, state in enumerate(["COMPLETE", "PRUNED", "FAIL", "COMPLETE"]):
            confirms = 0 if number == 3 else None
            logs.start(assignment(number, confirms))
            logs.curve(number, [CurvePoint(5, 0.5, 1e-4), CurvePoint(10, 0.25, 1e-4)])
            logs.epoch(number, epoch(1, 0.5), [0.5, 0.75])
            logs.finish(number, record(number, state, 1, confirms))
        trackers[0].result(report_of("mine", trials=[]))
    assert [line for line in said if "warning" in line] == []
    assert len(said) == 1, "where the user finds it"
    parent, *trials = read()
    assert parent.name == "mine"
    assert (parent.config["model"], parent.config["metric"]) == ("m", "f1")
    assert "test/f1" in parent.points
    assert "validation/f1" in parent.points
    assert parent.tags["best.learning_rate"]
    assert [run.name for run in trials] == ["trial 0", "trial 1", "trial 2", "trial 3 (trial 0 again)"]
    assert [run.tags["state"] for run in trials] == ["COMPLETE", "PRUNED", "FAIL", "COMPLETE"]
    assert [run.tags.get("confirms") for run in trials] == [None, None, None, "0"]
    assert trials[0].config["learning_rate"] == "0.0001"
    assert trials[0].points["validation/f1"] == [(1, 0.5)]
    assert trials[0].points["train/loss"] == [(1, 0.5)]
    assert trials[0].points["steps/train_loss"] == [(5, 0.5), (10, 0.25)]
    assert trials[0].points["validation/f1/_yes_"] == [(1, 0.75)]


def test_the_next_driver_goes_on_with_the_same_runs(
    tracker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = STORES[tracker](tmp_path, monkeypatch)
    spec = SweepSpec(name="mine", model="m", dataset="d", log_to=tracker)
    said: list[str] = []

    def first_driver() -> None:
        with tracker_logs(spec, "id-1", RunDir(tmp_path), [], said.append) as trackers:
            logs = ScoreLogs(trackers)
            logs.start(assignment(0))
            logs.epoch(0, epoch(1, 0.1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first_driver()
    # The study got further than the tracker: an epoch of trial 0, and all of trial 1.
    earlier = [record(0, "RUNNING", 2), record(1, "COMPLETE", 1)]
    with tracker_logs(spec, "id-1", RunDir(tmp_path), earlier, said.append) as trackers:
        logs = ScoreLogs(trackers)
        logs.start(assignment(0))
        for number in (1, 2, 3):  # it trains again what it has reported
            logs.epoch(0, epoch(number, number / 10))
        logs.finish(0, record(0, "COMPLETE", 3))
    assert [line for line in said if "warning" in line] == []
    _, *trials = read()
    assert [run.name for run in trials] == ["trial 0", "trial 1"]
    assert [run.tags["state"] for run in trials] == ["COMPLETE", "COMPLETE"]
    assert trials[0].points["validation/f1"] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert trials[1].points["validation/f1"] == [(1, 0.1)]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow makes its tables in seconds, on a busy machine in many."""
    monkeypatch.setattr(tracker_log, "INTERRUPT_LIMIT_S", 100.0)
    monkeypatch.setattr(tracker_log, "END_LIMIT_S", 100.0)


@pytest.fixture(params=TRACKERS)
def tracker(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    pytest.importorskip(name)
    return name
