"""Score the winner on the test split, which is read only here, and only after validation has chosen the winner."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainable.data.tokens import TokenizedSplit
from trainable.job import Job
from trainable.storage.base import Storage
from trainable.train.scoring import Scored, score_model
from tune.cluster.placement import where_trials_run
from tune.cluster.plan import Plan
from tune.report.finished import known_test_scores
from tune.report.intervals import intervals_of
from tune.report.results import SplitScores
from tune.run_dir.layout import RunDir
from tune.run_dir.records import TrialRecord


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


def score_winner(
    winner: TrialRecord,
    plan: Plan,
    job: Job,
    run_dir: RunDir,
    test: Callable[[], TokenizedSplit],
    say: Callable[[str], None],
) -> SplitScores:
    """Score the winner on the test split, unless an earlier run has done so already.

    Args:
        winner: The best trial; its model is in the run directory.
        plan: Where trials ran.
        job: What they all share.
        run_dir: Where the sweep was run.
        test: Gives the test split; it is called only where the split is to be read.
        say: Shows a text to the user while the cluster has no room.
    """
    if (known := known_test_scores(run_dir, winner)) is not None:
        return known
    folder = run_dir.model(winner.number)
    run_dir.storage.fetch(folder)
    return score_on_test(plan, job, str(folder), test(), say)


def score_on_test(
    plan: Plan, job: Job, folder: str, test: TokenizedSplit, say: Callable[[str], None] = print
) -> SplitScores:
    """Score a saved model on the test split, with the resources of a trial or on all of this machine's cores.

    Raises:
        OSError: The model can't be fetched from the storage.
        RayDied: The worker that scores died again and again.
    """
    threads = plan.local_cores or job.threads  # the trials are over: all cores are free
    arguments = (
        job.storage,
        folder,
        job.label_names,
        test,
        job.pad_id,
        job.f1_average,
        threads,
        job.gpus_per_trial > 0,
        job.task,
    )
    scored: Scored = where_trials_run(plan, _fetch_and_score, *arguments, say=say)
    missed = set(scored.labels) - set(scored.answers)
    never = [name for i, name in enumerate(job.label_names) if i in missed]
    return SplitScores(
        scores=scored.scores, rows=len(test), never_predicted=never, interval=intervals_of(scored, test, job.f1_average)
    )
