"""Every tracker that `--log-to` names: a sweep as it has it in its local store, after one driver and after another."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
from tune.trackers import TRACKERS, missing_trackers

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


def in_wandb(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    import wandb

    wandb.teardown()  # what it has read of the environment before
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(folder))

    def read() -> list[Run]:
        runs: dict[str, Run] = {}
        for file in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.parent.name):
            run = Run("", {}, {})
            for line in wandb_records(file):
                if line.HasField("run"):
                    run = runs.setdefault(line.run.run_id, run)
                    run.name = line.run.display_name
                    if line.run.tags:
                        run.tags["state"] = line.run.tags[-1]
                    run.config |= {each.key: str(json.loads(each.value_json)) for each in line.run.config.update}
                if line.HasField("history"):
                    row = {
                        "/".join(each.nested_key) or each.key: json.loads(each.value_json) for each in line.history.item
                    }
                    axis = next(name for name in row if name in ("epoch", "schedule_percent", "optimizer_step"))
                    for name in row.keys() - {axis}:
                        run.points.setdefault(name, []).append((row[axis], row[name]))
                is_parent = file.stem.endswith("-sweep")
                for each in line.summary.update if line.HasField("summary") and is_parent else ():
                    if each.key.startswith("best."):
                        run.tags[each.key] = each.value_json
                    elif each.key:
                        run.points[each.key] = [(0, json.loads(each.value_json))]
        for run in runs.values():
            run.tags |= {name: run.config[name] for name in ("trial", "confirms") if name in run.config}
        return sorted(runs.values(), key=lambda run: int(run.tags.get("trial", -1)))

    return read


def wandb_records(file: Path) -> Iterator[Any]:
    """What W&B has written for `wandb sync`: blocks of 32 KiB with records in pieces, as in LevelDB's log."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        if kind == 0:
            return
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def in_trackio(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    trackio_utils = pytest.importorskip("trackio.utils")
    storage = pytest.importorskip("trackio.sqlite_storage")
    for module in (trackio_utils, storage):
        monkeypatch.setattr(module, "TRACKIO_DIR", folder)

    def read() -> list[Run]:
        project, store = "finetune-search", storage.SQLiteStorage
        runs = []
        for name in store.get_runs(project):
            config = {key: str(value) for key, value in store.get_run_config(project, name).items()}
            run = Run(name.partition(": ")[2] or name, config, config)
            for line in store.get_logs(project, name):
                for key in line.keys() - {"step", "timestamp"}:
                    run.points.setdefault(key, []).append((line["step"], line[key]))
            runs.append(run)
        return sorted(runs, key=lambda run: int(run.tags.get("trial", -1)))

    return read


STORES: dict[str, Callable[[Path, pytest.MonkeyPatch], Reader]] = {
    "mlflow": in_mlflow,
    "trackio": in_trackio,
    "wandb": in_wandb,
}


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
    assert parent.name.startswith("mine")
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
    (of_yes,) = (points for name, points in trials[0].points.items() if "yes" in name)
    assert of_yes == [(1, 0.75)]


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


def test_wandb_without_a_key_is_told_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    wandb.teardown()
    (problem,) = missing_trackers(("wandb",))
    assert problem.startswith("--log-to wandb: no API key; run `wandb login`")
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb.teardown()
    assert missing_trackers(("wandb",)) == []


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
