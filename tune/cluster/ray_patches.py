"""Every place where this project replaces something inside Ray or Tune, each with the reason.

Ray 2.60 has no settings for these things. Whoever raises the pinned version of Ray reads this file again:
`tests/tune/test_ray_patches.py` tells whether each target still exists, because a target that was renamed is left as
it is, silently.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

RAY_VERSION = "2.60"  # these patches were last checked against it


@dataclass(frozen=True)
class Patch:
    """An attribute inside Ray that we replace for a while."""

    module: str
    attribute: str
    """The name in the module, like "function" or "Class.method"."""
    why: str

    @property
    def exists(self) -> bool:
        """Whether this version of Ray has the attribute."""
        owner, name = self._owner()
        return hasattr(owner, name)

    @property
    def original(self) -> Any:
        """The attribute as Ray has it; None if there is none."""
        owner, name = self._owner()
        return getattr(owner, name, None)

    @contextlib.contextmanager
    def replaced_by(self, value: Any) -> Iterator[None]:
        """Let the attribute have another value in the context; if Ray has no such attribute, do nothing."""
        if not self.exists:
            yield
            return
        owner, name = self._owner()
        before = getattr(owner, name)
        setattr(owner, name, value)
        try:
            yield
        finally:
            setattr(owner, name, before)

    def _owner(self) -> tuple[Any, str]:
        *path, name = self.attribute.split(".")
        return functools.reduce(getattr, path, importlib.import_module(self.module)), name


LOOPBACK_ONLY = Patch(
    "ray._private.ray_constants",
    "ENABLE_RAY_CLUSTER",
    "A private Ray must not be reachable from the network. Off, this switch keeps its ports on loopback, as on desktop "
    "systems.",
)
HELPERS = tuple(
    Patch(
        "ray._private.node",
        f"Node.{method}",
        f"A private Ray needs no {helper}: nobody reads it, and each helper costs a second at start and at end.",
    )
    for method, helper in (
        ("start_api_server", "dashboard"),
        ("start_monitor", "autoscaler"),
        ("start_log_monitor", "log monitor"),
    )
)
OWN_GROUP = Patch(
    "ray._private.services",
    "ConsolePopen",
    "`timeout`, batch systems and closed terminals send their signal to the driver's whole process group. Ray's "
    "processes would end with it, before the trials' states are written. Linux ends them with the driver anyway.",
)
WORKER_MESSAGES = Patch(
    "ray._private.worker",
    "print_to_stdstream",
    "Ray prints a message for each worker that dies. We tell the user ourselves, once.",
)
COPIED_VARIABLES = Patch(
    "ray.tune.execution.class_cache",
    "ENV_VARS_TO_PROPAGATE",
    "Tune copies AWS's keys into the environments of its actors, which stand in Ray's logs and in its head's tables. "
    "The workers of a private Ray have this process's environment anyway; those of a cluster have their owner's.",
)
TASK_FAILED = Patch(
    "ray.air.execution._internal.actor_manager",
    "RayActorManager._actor_task_failed",
    "An error that is neither a worker's death nor raised by a trial ends the whole sweep. Ray's memory monitor causes "
    "such errors. We pass them on as a worker's death, so that only the trial is affected.",
)
REUSE_WORKER = Patch(
    "ray.tune.execution.tune_controller",
    "TuneController._maybe_reuse_cached_actor",
    "A trial whose own worker is still starting takes the next worker that becomes free, and its own is ended. If "
    "trials are shorter than a worker's start, a slot then stays empty for ever.",
)
KEEP_ERROR = Patch(
    "ray.tune.experiment.trial",
    "Trial.handle_error",
    "Tune keeps of a trial's error a text, and a pickle that not every process can read. The error's class tells what "
    "kind of failure it was; the text may hold anything.",
)
PATCHES = (LOOPBACK_ONLY, *HELPERS, OWN_GROUP, WORKER_MESSAGES, COPIED_VARIABLES, TASK_FAILED, REUSE_WORKER, KEEP_ERROR)


@contextlib.contextmanager
def small_and_local() -> Iterator[None]:
    """A Ray that is started in the context has no dashboard, autoscaler and log monitor, and listens on loopback.

    On Linux its processes are a group of their own.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(LOOPBACK_ONLY.replaced_by(False))
        for helper in HELPERS:
            stack.enter_context(helper.replaced_by(_do_nothing))
        if sys.platform.startswith("linux"):
            stack.enter_context(OWN_GROUP.replaced_by(functools.partial(OWN_GROUP.original, process_group=0)))
        yield


@contextlib.contextmanager
def no_worker_messages() -> Iterator[None]:
    """Ray prints nothing about its workers in the context."""
    with WORKER_MESSAGES.replaced_by(_do_nothing):
        yield


@contextlib.contextmanager
def no_keys_in_actors() -> Iterator[None]:
    """Tune copies no AWS keys into its actors' environments in the context."""
    copied = COPIED_VARIABLES.original or ()
    with COPIED_VARIABLES.replaced_by({name for name in copied if not name.startswith("AWS_")}):
        yield


@contextlib.contextmanager
def tune_mended(errors: dict[str, BaseException]) -> Iterator[None]:
    """In the context, Tune survives errors of Ray's own, and waits for a worker that is starting.

    Args:
        errors: Gets the error of each trial that raised or whose worker died, by Tune's name of the trial.
    """
    from ray.exceptions import RayActorError, RayError, RayTaskError

    task_failed, reuse_worker, handle_error = TASK_FAILED.original, REUSE_WORKER.original, KEEP_ERROR.original

    def as_worker_death(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, (RayActorError, RayTaskError)):
            death = RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
            death.__cause__ = exception
            exception = death
        task_failed(self, tracked_actor_task, exception)

    def kept(self: Any, exc: BaseException | None = None) -> None:
        if exc is not None:
            errors[self.trial_id] = exc
        handle_error(self, exc)

    def reuse_unless_own_is_starting(self: Any, trial: Any) -> bool:
        worker = self._trial_to_actor.get(trial)
        has_resources = worker is not None and worker in self._actor_manager.live_actors
        if has_resources and trial not in self._resetting_trials and worker not in self._started_actors:
            return False
        return bool(reuse_worker(self, trial))

    with (
        TASK_FAILED.replaced_by(as_worker_death),
        REUSE_WORKER.replaced_by(reuse_unless_own_is_starting),
        KEEP_ERROR.replaced_by(kept),
    ):
        yield


def _do_nothing(*arguments: Any, **options: Any) -> None:
    """In the place of a function that is not to run."""
