"""Ask every node of a cluster for its facts through Ray, and let each see whether it can read the others' files."""

from __future__ import annotations

import contextlib
import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainable.errors import UserError
from trainable.redaction import one_line
from trainable.storage.lease import LEASE_FILE
from tune.cluster import node_facts
from tune.cluster.node_facts import (
    NodeFacts,
    facts_here,
    facts_of,
    leave_mark,
    project_digest,
    read_clock,
    remove_marks,
    seen_marks,
)
from tune.cluster.node_problems import DRIVER, NoAnswer, Requirements

ANSWERS_WITHIN_S = 60.0  # all questions to all nodes together
MARKS_SEEN_WITHIN_S = 10.0  # network file systems show a new file to other machines after a moment
CLOCK_READINGS = 3


def ask_nodes(
    nodes: Sequence[str], model_folder: str, required: Requirements
) -> tuple[dict[str, NodeFacts | NoAnswer], NodeFacts]:
    """What the nodes with these ids say, and the facts of the driver's own machine.

    Raises:
        UserError: The driver itself can't write to the run directory.
    """
    questions = _Questions(nodes)
    project, root = project_digest(), str(required.root)
    with _sent_by_value():
        own = facts_here(model_folder, project, root)
        said = questions.ask_all(facts_here, model_folder, project, root)
        ahead = questions.ask_clocks()
        with _marks_below(required) as place:
            unwritable, sees, own_sees = questions.ask_for_marks(*place)
    answers: dict[str, NodeFacts | NoAnswer] = dict(questions.unanswered)
    for node in said.keys() - answers.keys():
        answers[node] = facts_of(said[node], sees.get(node), unwritable.get(node), ahead[node])
    return {node: answers[node] for node in nodes}, facts_of(own, own_sees)


@contextlib.contextmanager
def _sent_by_value() -> Iterator[None]:
    """Send the source of `node_facts` along: a node may have another version of this project, or none."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(node_facts)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(node_facts)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _marks_below(required: Requirements) -> Iterator[tuple[str, bool, str]]:
    """Make a folder for marks, with the driver's own in it, and remove it when the context ends.

    The folder lies in the run directory, or, where that does not exist yet, in the nearest folder above it. Its name
    is that of other unfinished things, so that a driver that is killed meanwhile leaves nothing that is in the way.

    Yields:
        The folder's parent (a path or a store's URL), whether that is a URL, and the folder's name.

    Raises:
        UserError: The folder can't be made.
    """
    in_store = required.url is not None
    if required.url is None:
        root = str(next(path for path in (required.root, *required.root.parents) if path.exists()))
        folder = f".preflight.{uuid.uuid4().hex[:8]}"
    else:
        root, folder = required.url, f"{LEASE_FILE}.{uuid.uuid4().hex[:8]}"
    try:
        if required.url is None:
            Path(root, folder).mkdir()
        problem = leave_mark(root, in_store, folder, DRIVER)
    except OSError as error:
        problem = error.strerror
    try:
        if problem is not None:
            where = root if required.url is None else "the store"
            raise UserError([f"--out {required.out}: {where} can't be written to: {problem}"])
        yield root, in_store, folder
    finally:
        remove_marks(root, in_store, folder)


class _Questions:
    """Calls functions on all nodes at once. A node that failed to answer one question is asked no further ones."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self._nodes = nodes
        self._until = time.monotonic() + ANSWERS_WITHIN_S
        self.unanswered: dict[str, NoAnswer] = {}

    def ask_all(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """What the function returned, by node."""
        answers = self._ask(function, dict.fromkeys(self._nodes, arguments))
        return {node: value for node, (value, _, _) in answers.items()}

    def ask_clocks(self) -> dict[str, float]:
        """By how many seconds at least each node's clock is ahead of the driver's; negative where it is behind.

        Of several readings, the one with the shortest way there and back is the most exact.
        """
        best: dict[str, tuple[float, float]] = {}
        for _ in range(CLOCK_READINGS):
            answers = self._ask(read_clock, dict.fromkeys(self._nodes, ()))
            for node, (there, sent, received) in answers.items():
                reading = ((received - sent) / 2, there - (sent + received) / 2)
                best[node] = min(best.get(node, reading), reading)
        return {
            node: math.copysign(max(0.0, abs(ahead) - uncertainty), ahead)
            for node, (uncertainty, ahead) in best.items()
        }

    def ask_for_marks(
        self, root: str, in_store: bool, folder: str
    ) -> tuple[dict[str, str | None], dict[str, list[str]], list[str]]:
        """Let every node leave a mark in the folder, then look for everybody's.

        Returns:
            Why a node can't write there (None where it can), by node; whose marks each node sees; whose the driver
            sees.
        """
        own_names = {node: (root, in_store, folder, node) for node in self._nodes}
        unwritable = {node: problem for node, (problem, _, _) in self._ask(leave_mark, own_names).items()}
        names = [DRIVER, *unwritable]
        sees = self.ask_all(seen_marks, root, in_store, folder, names, MARKS_SEEN_WITHIN_S)
        return unwritable, sees, seen_marks(root, in_store, folder, names, MARKS_SEEN_WITHIN_S)

    def _ask(
        self, function: Callable[..., Any], arguments: Mapping[str, tuple[Any, ...]]
    ) -> dict[str, tuple[Any, float, float]]:
        """By node: what the function returned, when the question was sent, when the answer came (s since 1970)."""
        import ray
        from ray.exceptions import RayError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # The questions ask for no resources, so that a busy cluster answers too.
        remote = ray.remote(num_cpus=0, max_retries=0)(function)
        sent = time.time()
        waiting = {
            remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(*given): node
            for node, given in arguments.items()
            if node not in self.unanswered
        }
        answers = {}
        while waiting:
            left_s = max(0.0, self._until - time.monotonic())
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=left_s)
            received = time.time()
            for reference in ready:
                node = waiting.pop(reference)
                try:
                    answers[node] = (ray.get(reference), sent, received)
                except RayError as error:
                    last = str(error).strip().rpartition("\n")[2]
                    self.unanswered[node] = NoAnswer(f"could not be asked: {one_line(last)}")
            if not ready:
                for reference, node in waiting.items():
                    self.unanswered[node] = NoAnswer(
                        f"did not answer within {ANSWERS_WITHIN_S:.0f} s; is it overloaded?"
                    )
                    ray.cancel(reference, force=True)
                break
        return answers
