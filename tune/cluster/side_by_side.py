"""Workers side by side, as trials are, for what must be measured under a sweep's own load."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

from tune.cluster.nodes import Node
from tune.cluster.placement import PLACED_CHECK_EVERY_S
from tune.cluster.plan import Plan
from tune.cluster.waiting_notice import WaitingNotices

MOST_WORKERS = 8  # on one machine; more of them show nothing new


def measured_side_by_side(plan: Plan, nodes: Sequence[Node]) -> int:
    """How many workers show what a trial shares with others: as many as one machine will run, within reason."""
    return min(MOST_WORKERS, plan.slots, max((plan.slots_on([node]) for node in nodes), default=0))


@contextlib.contextmanager
def ray_failed(kind: Callable[[str], Exception]) -> Iterator[None]:
    """Raise another kind of exception in place of Ray's, which only this room knows."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        raise kind(str(error).strip().rpartition("\n")[2]) from error


class TrialWorkers:
    """Ray actors that each have what a trial has. They are all asked the same, at the same time."""

    def __init__(
        self, plan: Plan, many: int, make: Callable[..., Any], shared: Any, say: Callable[[str], None]
    ) -> None:
        """Describe the workers; entering the context starts them.

        Args:
            plan: What a trial gets.
            many: How many workers.
            make: A class that every node can import.
            shared: What each is made of; Ray's object store carries it to each machine once.
            say: Shows a text to the user while no machine has room.
        """
        self._plan, self._many, self._make, self._shared, self._say = plan, many, make, shared, say
        self._workers: list[Any] = []
        self._placed = not plan.elastic  # nobody else has anything of a private Ray

    def __enter__(self) -> TrialWorkers:
        import ray

        asked = self._plan.resources(1)
        others = {name: amount for name, amount in asked.items() if name not in ("CPU", "GPU")}
        remote = ray.remote(num_cpus=asked.get("CPU", 0), num_gpus=asked.get("GPU", 0), resources=others)(self._make)
        reference = ray.put(self._shared)
        self._workers = [remote.remote(reference) for _ in range(self._many)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        for worker in self._workers:
            with contextlib.suppress(Exception):  # it is dead, or Ray is
                ray.kill(worker)

    def all(self, method: str, *arguments: Any) -> list[Any]:
        """What each worker's method returns. The calls begin together.

        Raises:
            RayError: A worker died, or its method raised.
        """
        import ray

        results = [getattr(worker, method).remote(*arguments) for worker in self._workers]
        notices = WaitingNotices(self._say)
        left = results
        while left:
            done, left = ray.wait(left, num_returns=len(left), timeout=PLACED_CHECK_EVERY_S)
            self._placed = self._placed or bool(done)
            notices.tick(None if self._placed else self._plan.resources(1))
        found: list[Any] = ray.get(results)
        return found
