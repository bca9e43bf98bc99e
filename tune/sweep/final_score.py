"""Score the winner on the test split, which is read only here, and only after validation has chosen the winner."""

from __future__ import annotations

import contextlib
import errno
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trainable.data.tokens import TokenizedSplit
from trainable.job import Job
from trainable.storage.base import Storage
from trainable.storage.predictions import read_predictions, write_array
from trainable.train.scoring import Scored, score_model
from tune.cluster.placement import where_trials_run
from tune.cluster.plan import Plan
from tune.report.finished import known_test_scores
from tune.report.intervals import intervals_of
from tune.report.results import SplitScores
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord
from tune.sweep.hand_over import Model

if TYPE_CHECKING:
    from trainable.storage.predictions import Probabilities


def get_ready_to_score(plan: Plan) -> None:
    """Import what the driver needs for scoring, if it scores on this machine's cores.

    The import takes one and a half seconds, for which the driver has time while the last trials run.
    """
    if plan.local_cores is not None:
        with contextlib.suppress(ImportError):  # scoring will raise it again, where the user is told
            import transformers.modeling_utils  # noqa: F401


def _fetch_and_score(storage: Storage, folder: str, *arguments: Any) -> Scored:
    place = storage.here(Path(folder))
    if not storage.fetch(place):
        raise OSError(errno.EIO, "the winner's model can't be read", folder)
    return score_model(str(place), *arguments)


@dataclass
class TestSplit:
    """The test split, read only where a model is to be scored on it that was not scored before."""

    run_dir: RunDir
    plan: Plan
    job: Job
    tokenize: Callable[[], TokenizedSplit]
    """Gives the split."""
    say: Callable[[str], None]
    """Shows a text to the user while the cluster has no room."""
    was_read: bool = False
    """Whether a model was scored on it since this object was made."""

    __test__ = False  # it is no test, whatever its name says

    @functools.cached_property
    def rows(self) -> TokenizedSplit:
        """The split's rows."""
        return self.tokenize()

    def score(self, folder: Path, predictions: Path) -> SplitScores:
        """Score a model, and write what it predicts of each row."""
        self.run_dir.storage.fetch(folder)
        scores, probabilities = score_on_split(self.plan, self.job, str(folder), self.rows, self.say)
        self.was_read = True
        predictions.parent.mkdir(parents=True, exist_ok=True)
        write_array(predictions, probabilities.astype(np.float16))
        self.run_dir.storage.publish(predictions)
        return scores

    def score_winner(self, model: Model) -> SplitScores:
        """Score the model that is handed over, unless an earlier run has done so already."""
        known = known_test_scores(self.run_dir, model.run, model.averaged)
        return self.score(model.folder, model.test_predictions) if known is None else known

    def predictions(self, run: TrialRecord) -> Probabilities | None:
        """What a run's model predicts of each row; None where its model is gone and was never asked."""
        file, classes = self.run_dir.test_predictions(run.number), len(self.job.label_names)
        if (known := read_predictions(file, len(self.rows), classes)) is not None:
            return known
        folder = self.run_dir.fetch_model(run.number, run.model_sha256)
        if folder is None:
            return None
        self.score(folder, file)
        return read_predictions(file, len(self.rows), classes)


def score_on_split(
    plan: Plan, job: Job, folder: str, rows: TokenizedSplit, say: Callable[[str], None] = print
) -> tuple[SplitScores, npt.NDArray[np.float32]]:
    """Score a saved model on a split, with the resources of a trial or on all of this machine's cores.

    Returns:
        The scores, and the probability that the model gives each class, [rows, classes].

    Raises:
        OSError: The model can't be fetched from the storage.
        RayDied: The worker that scores died again and again.
    """
    threads = plan.local_cores or job.threads  # the trials are over: all cores are free
    arguments = (
        job.storage,
        folder,
        job.label_names,
        rows,
        job.pad_id,
        job.f1_average,
        threads,
        job.gpus_per_trial > 0,
        job.task,
    )
    scored: Scored = where_trials_run(plan, _fetch_and_score, *arguments, say=say)
    missed = set(scored.labels) - set(scored.answers)
    never = [name for i, name in enumerate(job.label_names) if i in missed]
    interval = intervals_of(scored, rows, job.f1_average)
    scores = SplitScores(scores=scored.scores, rows=len(rows), never_predicted=never, interval=interval)
    return scores, scored.probabilities
