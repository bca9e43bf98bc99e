"""Call a function on a node that has the resources for it, and tell the user while none has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from trainable.errors import RayDied
from tune.cluster.plan import Plan
from tune.cluster.waiting_notice import WaitingNotices

PLACED_CHECK_EVERY_S = 1.0
WORKERS_TRIED = 3  # for a call beside the trials, before we give up


def where_trials_run(
    plan: Plan, function: Callable[..., Any], *arguments: Any, say: Callable[[str], None] = print
) -> Any:
    """Call a function on a machine, and with the resources, that a trial gets, and return what it returns.

    Where trials run on this machine's cores, the call is made in this process: another one would only cost its start.

    Args:
        plan: Where trials run.
        function: What to call. It must be importable on every node.
        arguments: What to call it with.
        say: Shows a text to the user while the call waits.

    Raises:
        RayDied: The worker or its machine died again and again.
    """
    if plan.local_cores is not None:
        return function(*arguments)
    from ray.exceptions import RayError, RayTaskError

    for _ in range(WORKERS_TRIED):
        try:
            return when_placed(plan.resources(1), say, function, arguments)
        except RayTaskError:
            raise
        except RayError as error:
            reason = str(error).strip().partition("\n")[0]
    raise RayDied(f"{function.__name__} found no worker that lives ({reason})")


def when_placed(
    asked: Mapping[str, float], say: Callable[[str], None], function: Callable[..., Any], arguments: Sequence[Any]
) -> Any:
    """Call a function where the cluster has the resources that are asked for, and return its result.

    Args:
        asked: Ray's resources by name.
        say: Shows a text to the user while the call waits.
        function: What to call. It is sent to the node.
        arguments: What to call it with.

    Raises:
        RayTaskError: The function raised.
        RayError: The worker died.
    """
    import ray

    others = {name: amount for name, amount in asked.items() if name not in ("CPU", "GPU")}
    # No retries: where memory runs out, Ray would retry for ever.
    remote = ray.remote(num_cpus=asked.get("CPU", 0), num_gpus=asked.get("GPU", 0), resources=others, max_retries=0)(
        _announced
    )
    results: Any = remote.remote(function, arguments)
    notices = WaitingNotices(say)
    try:
        while not ray.wait([results], timeout=PLACED_CHECK_EVERY_S)[0]:
            notices.tick(asked)
        notices.tick(None)
        ray.get(next(results))
        return ray.get(next(results))
    except KeyboardInterrupt:
        ray.cancel(results)
        raise


def _announced(function: Callable[..., Any], arguments: Sequence[Any]) -> Iterator[Any]:
    """First yield nothing, to tell that the call was placed, then the function's result."""
    yield None
    yield function(*arguments)
