"""What kind a failure is, and which deaths of a trial's worker count."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, RayError, RayTaskError

from trainable.errors import UserError, WeightsMissing
from trainable.trial import failure_to_report
from tune.cluster.plan import Plan
from tune.run_dir.layout import open_run_dir
from tune.spec.sweep_spec import SweepSpec
from tune.sweep.failures import Failure, SetAside, failure_in_result, what_follows, why_it_failed
from tune.sweep.trial_book import TrialBook

DIED = Failure("died", "its worker died", "")
NODE = Failure("node", "its node went", "")
PLAN = Plan(1, 1.0, 0.0)


SAYS_EVERYTHING = "OutOfMemoryError: its node has died, running low on memory: WeightsMissing: no"


def raised(cause: Exception) -> RayTaskError:
    return RayTaskError("step", f"ray::Trial.step()\n{cause!r}", cause)


def died(text: str = "", **facts: Any) -> RayActorError:
    return RayActorError(error_msg=text, **facts)


def killed(cause: Exception) -> RayActorError:
    error = died()
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (raised(ValueError(SAYS_EVERYTHING)), "failed"),
        (raised(RuntimeError("CUDA error: out of memory")), "memory"),
        (raised(MemoryError()), "memory"),
        (died(f"ray::Trial.__init__()\nKeyError: {SAYS_EVERYTHING}", actor_init_failed=True), "failed"),
        (died("The actor is dead because its process died."), "died"),
        (died("The actor is dead.", preempted=True), "node"),
        (died("The actor died unexpectedly.\nThe actor is dead because its node has died. Node Id: 5f"), "node"),
        (killed(NodeDiedError("")), "node"),
        (killed(OutOfMemoryError("")), "memory"),
        (died("Task was killed due to the node running low on memory."), "memory"),
    ],
)
def test_the_class_of_the_error_tells_the_kind_whatever_a_trial_wrote(error: RayError, kind: str) -> None:
    assert why_it_failed(error, str(error))[0] == kind


def test_a_model_whose_weights_did_not_load_ends_the_sweep() -> None:
    report = failure_to_report(WeightsMissing("--model m: lacks a"))
    assert report is not None
    with pytest.raises(UserError, match=r"^--model m: lacks a$"):
        what_follows(failure_in_result(report["failure"], report), 0, cast(Any, SimpleNamespace()), PLAN)


@pytest.fixture
def book(tmp_path: Path) -> TrialBook:
    run_dir = open_run_dir(tmp_path / "run")
    run_dir.root.mkdir()
    return TrialBook(SweepSpec(name="s", model="m", dataset="d", num_trials=1, max_retries=2), run_dir)


def die(book: TrialBook, failure: Failure = DIED, steps: int | None = None) -> bool:
    """Let the trial's worker die; whether the trial is run again, which it then is."""
    if steps is not None:
        book.record_steps(0, steps)
    again = isinstance(what_follows(failure, 0, book, PLAN), SetAside)
    if again:
        book._queue._again = [(0.0, number) for _, number in book._queue._again]  # without the pause
        assert book.issue() is not None
    return again


def test_a_trial_that_dies_at_the_same_step_every_time_is_given_up(book: TrialBook) -> None:
    assert book.issue() is not None
    assert [die(book, steps=40), die(book, steps=40), die(book, steps=40)] == [True, True, False]


def test_a_trial_that_runs_its_earlier_epochs_again_has_not_got_any_further(book: TrialBook) -> None:
    assert book.issue() is not None
    assert [die(book, steps=40), die(book, steps=20), die(book, steps=40)] == [True, True, False]


def test_a_trial_that_gets_further_starts_counting_anew(book: TrialBook) -> None:
    assert book.issue() is not None
    assert all(die(book, steps=10 * death) for death in range(1, 20))


def test_a_node_that_goes_never_counts(book: TrialBook) -> None:
    assert book.issue() is not None
    assert all(die(book, NODE) for _ in range(20))
    assert [die(book), die(book), die(book)] == [True, True, False]


def test_deaths_are_remembered_by_the_next_driver(book: TrialBook, tmp_path: Path) -> None:
    assert book.issue() is not None
    assert die(book, steps=40)
    assert die(book, steps=40)
    again = TrialBook(book.spec, book.run_dir)
    assert again.issue() is not None
    assert not die(again, steps=40)
