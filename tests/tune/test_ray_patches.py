"""What we replace inside Ray and Tune is still there, and is restored."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import ray

from tune.cluster.ray_patches import (
    COPIED_VARIABLES,
    PATCHES,
    RAY_VERSION,
    REUSE_WORKER,
    TASK_FAILED,
    Patch,
    no_keys_in_actors,
    small_and_local,
    tune_mended,
)


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.attribute)
def test_the_target_of_a_patch_exists_in_the_pinned_ray(patch: Patch) -> None:
    assert patch.exists, f"Ray {ray.__version__} has no {patch.module}.{patch.attribute}: {patch.why}"


def test_the_patches_were_checked_against_the_pinned_ray() -> None:
    assert ray.__version__.startswith(f"{RAY_VERSION}.")


def test_everything_is_restored() -> None:
    before = [patch.original for patch in PATCHES]
    with small_and_local(), no_keys_in_actors(), tune_mended({}):
        assert sum(patch.original != value for patch, value in zip(PATCHES, before, strict=True)) >= len(PATCHES) - 2
    assert [patch.original for patch in PATCHES] == before


def test_a_target_that_is_gone_is_left_alone() -> None:
    patch = Patch("ray._private.node", "Node.nobody_has_this", "")
    assert not patch.exists
    with patch.replaced_by(1):
        assert not patch.exists


def test_keys_are_not_copied() -> None:
    assert "AWS_SECRET_ACCESS_KEY" in COPIED_VARIABLES.original
    with no_keys_in_actors():
        assert not [name for name in COPIED_VARIABLES.original if name.startswith("AWS_")]
        assert COPIED_VARIABLES.original


def test_an_error_of_rays_own_is_taken_for_a_workers_death(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

    told: list[Exception] = []
    monkeypatch.setattr(RayActorManager, "_actor_task_failed", lambda self, task, exception: told.append(exception))
    raised = RayTaskError("f", "traceback", ValueError())
    with tune_mended({}):
        for error in (OutOfMemoryError("killed by the monitor"), raised):
            TASK_FAILED.original(None, None, error)
    assert isinstance(told[0], RayActorError)
    assert "OutOfMemoryError" in str(told[0])
    assert told[1] is raised


@pytest.mark.parametrize("starting", [True, False])
def test_a_trial_whose_worker_is_starting_takes_no_other(starting: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.tune.execution.tune_controller import TuneController

    monkeypatch.setattr(TuneController, "_maybe_reuse_cached_actor", lambda self, trial: True)

    controller = SimpleNamespace(
        _trial_to_actor={"trial": "worker"},
        _actor_manager=SimpleNamespace(live_actors=["worker"]),
        _resetting_trials=set(),
        _started_actors=set() if starting else {"worker"},
    )
    with tune_mended({}):
        assert REUSE_WORKER.original(controller, "trial") is not starting
