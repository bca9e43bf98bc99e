"""What TensorBoard is shown, read back with its own reader."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearns
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.plugins.hparams import metadata

from tests.contracts.test_storage import one_object_store
from trainable.config import TrialConfig
from trainable.epoch_scores import CurvePoint, EpochScores, RungScores
from trainable.job import Assignment
from trainable.metrics import METRICS
from trainable.storage.predictions import write_array
from tune.report.confusion_matrix import MAX_CLASSES_DRAWN, confusion_image, confusion_matrix
from tune.report.score_logs import MAX_CLASS_CURVES, ScoreLogs
from tune.report.tensorboard import TensorBoardLog, draw_winner, last_steps, write_plan
from tune.run_dir.layout import PUBLISHED_AS_IT_GROWS, RunDir
from tune.spec.space import Choice, Fixed, Float, Int

ASSIGNMENT = Assignment(0, 1, TrialConfig(learning_rate=1e-4, epochs=2), folder="")
RUNG = RungScores(25.0, 5, 0.7, 1.0, dict.fromkeys(METRICS, 0.25))


def epoch(number: int) -> EpochScores:
    return EpochScores(number, 50.0, 0.7, dict.fromkeys(METRICS, 0.25), False, 1e-3, 9.0, 0.0, 1.0, 1.0, 100.0)


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def report(board: ScoreLogs, *, after: int, upto: int) -> None:
    """What a worker reports that has gone on after a step, with an epoch of four steps."""
    board.curve(0, [CurvePoint(step, 0.5, 1e-4) for step in range(after + 1, upto + 1)])
    board.rung(0, RUNG)
    for number in range(after // 4 + 1, upto // 4 + 1):
        board.epoch(0, epoch(number), [0.5, 0.25])


@pytest.mark.parametrize("cut_bytes", [0, 7])
def test_a_trial_that_goes_on_repeats_no_point(tmp_path: Path, cut_bytes: int) -> None:
    board = ScoreLogs([TensorBoardLog(RunDir(tmp_path))], ["no", "yes"])
    board.start(ASSIGNMENT)
    report(board, after=0, upto=9)
    board.finish(0, None)
    (file,) = (tmp_path / "trials" / "0").glob("events.*")
    with file.open("r+b") as events:  # a driver that is killed leaves half a record
        events.truncate(file.stat().st_size - cut_bytes)
    again = ScoreLogs([TensorBoardLog(RunDir(tmp_path))], ["no", "yes"])
    again.start(ASSIGNMENT)
    report(again, after=4, upto=12)
    again.finish(0, None)
    steps: dict[str, list[int]] = {}
    for file in sorted((tmp_path / "trials" / "0").glob("events.*")):
        for event in LegacyEventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if not value.tag.startswith("_hparams_"):
                    steps.setdefault(value.tag, []).append(event.step)
    assert steps["steps/train_loss"] == steps["steps/learning_rate"] == list(range(1, 13))
    assert steps["train/loss"] == steps["validation/f1/yes"] == [1, 2, 3]
    assert steps["rungs/f1"] == [25]


def test_a_folder_without_events_has_no_steps(tmp_path: Path) -> None:
    assert last_steps(tmp_path) == {}
    (tmp_path / "events.damaged").write_bytes(b"no events")
    assert last_steps(tmp_path) == {}


def test_many_classes_have_no_curves_of_their_own(tmp_path: Path) -> None:
    for classes, curves in ((MAX_CLASS_CURVES, MAX_CLASS_CURVES), (MAX_CLASS_CURVES + 1, 0)):
        board = ScoreLogs([TensorBoardLog(RunDir(tmp_path / str(classes)))], [f"class {i}" for i in range(classes)])
        board.start(ASSIGNMENT)
        board.epoch(0, epoch(1), [i / 100 for i in range(classes)])
        board.finish(0, None)
        tags = read(tmp_path / str(classes) / "trials" / "0").Tags()["scalars"]
        assert sum(tag.startswith("validation/f1/") for tag in tags) == curves


def test_the_page_of_hyperparameters_knows_their_domains(tmp_path: Path) -> None:
    space = {
        "learning_rate": Float(1e-5, 1e-4, log=True),
        "epochs": Int(2, 5),
        "batch_size": Choice((8, 16)),
        "dropout": Choice((None, 0.1)),
        "optimizer": Fixed("adamw"),
    }
    for _ in range(2):  # the second driver's plan comes in place of the first one's
        write_plan(RunDir(tmp_path), space, [TrialConfig(weight_decay=0)], ["trains", "2 trials"])
    events = read(tmp_path / "sweep")
    content = events.SummaryMetadata(metadata.EXPERIMENT_TAG).plugin_data.content
    infos = {info.name: info for info in metadata.parse_experiment_plugin_data(content).hparam_infos}
    assert infos.keys() == {*space, "weight_decay"}
    assert infos["learning_rate"].domain_interval.max_value == 1e-4
    assert infos["epochs"].domain_interval.min_value == 2
    assert list(infos["batch_size"].domain_discrete) == [8, 16]
    assert list(infos["optimizer"].domain_discrete) == ["adamw"]
    assert infos["dropout"].WhichOneof("domain") is None, "none and a number can't be filtered as one type"
    (card,) = events.Tensors("plan/text_summary")
    assert card.tensor_proto.string_val[0].decode() == "    trains\n    2 trials"


def test_the_next_driver_replaces_the_plan_in_an_object_store_too(tmp_path: Path) -> None:
    for storage in one_object_store(tmp_path):  # a driver on one machine, and the next one on another
        run_dir = RunDir(storage.root, storage)
        run_dir.fetch()
        write_plan(run_dir, {"epochs": Int(2, 5)}, [], ["2 trials"])
        run_dir.storage.publish_changed(PUBLISHED_AS_IT_GROWS)
    assert len(list((tmp_path / "place" / "run" / "sweep").glob("events.*.plan"))) == 1


def test_the_confusion_matrix_is_scikit_learns() -> None:
    labels, answers = np.random.default_rng(0).integers(0, 5, (2, 300))
    assert confusion_matrix(labels.tolist(), answers.tolist(), 6)[:5, :5].tolist() == sklearns(labels, answers).tolist()


@pytest.mark.parametrize("classes", [2, 12, MAX_CLASSES_DRAWN])
def test_a_confusion_image_is_dark_where_rows_are(classes: int) -> None:
    labels = list(range(classes)) * 3
    right = confusion_image(labels, labels, ["a name that is longer than anybody reads"] * classes, "title")
    assert right is not None
    assert right.dtype == np.uint8
    assert max(right.shape[:2]) < 1600
    wrong = confusion_image(labels, [0] * len(labels), ["a"] * classes, "title")
    assert wrong is not None
    assert not np.array_equal(right, wrong)
    assert confusion_image([0], [0], ["a"] * (MAX_CLASSES_DRAWN + 1), "title") is None


def test_the_winners_matrix_comes_from_what_it_predicts(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    split = type("Split", (), {"labels": [0, 1, 1], "__len__": lambda self: 3})()
    job = cast(Any, SimpleNamespace(validation=split, label_names=["no", "yes"]))
    draw_winner(run_dir, 4, job)
    assert not (tmp_path / "sweep").exists(), "its predictions are gone"
    run_dir.trial(4).mkdir(parents=True)
    write_array(run_dir.predictions(4), np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float16))
    draw_winner(run_dir, 4, job)
    draw_winner(run_dir, 4, job)
    (image,) = read(tmp_path / "sweep").Images("winner/confusion_matrix")
    assert image.encoded_image_string.startswith(b"\x89PNG")
