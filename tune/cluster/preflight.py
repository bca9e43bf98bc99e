"""What every node of a cluster that would run trials has and sees, before anything is trained there.

What runs on a node stands in `facts`; `problems_of` compares what the nodes said; `ask_nodes` talks to Ray.
"""

from __future__ import annotations

import contextlib
import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainable.config import Job
from trainable.errors import UserError, listed
from trainable.hub.model_folder import model_bytes
from trainable.hub.shipping import read_files, shipped_bytes
from trainable.redaction import one_line
from trainable.storage.object_store import DRIVER_FILE
from tune.cluster import node_facts as facts
from tune.cluster.connect import version_problem
from tune.cluster.node_facts import (
    NodeFacts,
    facts_here,
    facts_of,
    leave_mark,
    project_digest,
    read_clock,
    remove_marks,
    seen_marks,
)  # fmt: skip
from tune.cluster.plan import Node, Plan, bytes_while_training, disk_bytes
from tune.prepare.inputs import Prepared

ANSWER_WITHIN_S = 60.0  # all that is asked of all nodes together
CLOCKS_WITHIN_S = 5.0
SEEN_WITHIN_S = 10.0  # what one node writes, by every other: network file systems take a moment
CLOCK_READINGS = 3
DRIVER = "the driver"


@dataclass(frozen=True)
class Wanted:
    """What the facts are held against.

    root: the run directory; url: of the object store where it lies, None where all nodes are to share it as a folder
    run_bytes: what the sweep may write there; temporary_bytes: by node, what it may write to that one's own disk
    shipped_bytes: of the model, to nodes that don't have it
    """

    root: Path
    url: str | None
    model_fingerprint: str
    run_bytes: int
    shipped_bytes: int
    temporary_bytes: Mapping[str, int] = field(default_factory=dict)

    @property
    def out(self) -> str:
        """What the user calls the run directory."""
        return str(self.root) if self.url is None else self.url.partition("?")[0].rstrip("/")


@dataclass(frozen=True)
class Silent:
    """Why a node told nothing."""

    reason: str


def problems_of(
    answers: Mapping[str, NodeFacts | Silent], here: NodeFacts, wanted: Wanted, names: Mapping[str, str]
) -> list[str]:
    """Everything that keeps the sweep from running on these nodes; nodes with the same problem are told together.

    answers: by node id; here: the driver's; names: what to call the nodes, by id
    """
    told: dict[str, list[str]] = {}

    def tell(what: str, node: str) -> None:
        told.setdefault(what, []).append(names.get(node, node))

    for node, found in answers.items():
        if isinstance(found, Silent):
            tell(found.reason, node)
            continue
        for problem in [*_version_problems(found, here), *_room_problems(node, found, wanted)]:
            tell(problem, node)
        if abs(found.clock_ahead_s) > CLOCKS_WITHIN_S:
            ahead = "ahead of" if found.clock_ahead_s > 0 else "behind"
            tell(
                f"has a clock at least {abs(found.clock_ahead_s):.0f} s {ahead} the driver's; "
                f"at most {CLOCKS_WITHIN_S:.0f} s are allowed: set the clocks (NTP)",
                node,
            )
    answered = {node: found for node, found in {**answers, DRIVER: here}.items() if isinstance(found, NodeFacts)}
    for node, found in answered.items():
        if found.sees is None:
            continue
        # A node that sees nothing of the driver's has another folder there.
        if found.unwritable is not None and (DRIVER in found.sees or wanted.url is not None):
            tell(f"can't write below {wanted.out}: {found.unwritable}", node)
        writers = [n for n, other in answered.items() if n != node and other.unwritable is None]
        if hidden := [names.get(n, n) for n in writers if n not in found.sees]:
            what = f"what {_together(hidden)} {'writes' if len(hidden) == 1 else 'write'} below {wanted.out}; "
            if wanted.url is None:
                what = f"can't see {what}--out must be a folder that all nodes share, or s3://..."
            else:
                what = f"can't read {what}every node needs a way to the store, and its keys"
            tell(what, node)
    return [f"{_together(nodes)}: {what}" for what, nodes in told.items()]


def _version_problems(found: NodeFacts, here: NodeFacts) -> list[str]:
    problems = []
    other = [
        f"{name} {found.versions.get(name) or 'is missing'} (here {version})"
        for name, version in here.versions.items()
        if found.versions.get(name) != version
    ]
    if other:
        problems.append(version_problem(", ".join(other)))
    if found.project is None:
        problems.append("finetune-search is not installed there; every node needs the driver's version of it")
    elif found.project != here.project:
        problems.append("has another version of finetune-search (its source files differ); install the driver's there")
    return problems


def _room_problems(node: str, found: NodeFacts, wanted: Wanted) -> list[str]:
    problems = []
    if wanted.url is None and found.free_bytes is not None and found.free_bytes < wanted.run_bytes:
        problems.append(
            f"the disk has {found.free_bytes / 1e9:.2f} GB for {wanted.root}, but the sweep may write "
            f"{wanted.run_bytes / 1e9:.2f} GB; lower --max-concurrent or --keep-top"
        )
    needed = wanted.temporary_bytes.get(node, 0)
    if found.model != wanted.model_fingerprint:
        needed += wanted.shipped_bytes
        if found.unsealed is not None:
            problems.append(f"the model can't be put there: {found.unsealed}")
    if found.free_temporary_bytes < needed:
        problems.append(
            f"the disk of its temporary folder has {found.free_temporary_bytes / 1e9:.2f} GB, but the model's copy and "
            f"what its trials write may take {needed / 1e9:.2f} GB; free some, or set TMPDIR there to a larger disk"
        )
    return problems


def _together(names: Sequence[str]) -> str:
    """Names as a sentence has them."""
    return listed(names) if len(names) != 2 else f"{names[0]} and {names[1]}"


# Asking


def preflight(prepared: Prepared, plan: Plan, nodes: Sequence[Node], problems: list[str]) -> dict[str, NodeFacts]:
    """Ask every node that offers a slot, within ANSWER_WITHIN_S; what is wrong is appended to `problems`.

    Returns the facts of the nodes that answered, by id. Leaves nothing behind.
    """
    asked = [node for node in nodes if plan.slots_on([node])]
    if all(node.here for node in nodes) or not asked:
        return {}
    url = prepared.run_dir.files.url
    taken, _ = prepared.run_dir.disk()
    size = model_bytes(prepared.model_folder)
    wanted = Wanted(
        prepared.run_dir.root,
        url,
        prepared.model_fingerprint,
        disk_bytes(plan, size, prepared.spec.keep_top) - taken,
        shipped_bytes(prepared.model_folder),
        {} if url is None else {n.id: bytes_while_training(plan.slots_on([n]), size) + size for n in asked},
    )
    try:
        answers, here = ask_nodes([node.id for node in asked], str(prepared.model_folder), wanted)
    except UserError as error:
        problems += error.problems
        return {}
    problems += problems_of(answers, here, wanted, {node.id: node.name for node in asked})
    return {node: found for node, found in answers.items() if isinstance(found, NodeFacts)}


def with_model_shipped(job: Job, prepared: Prepared) -> Job:
    """The same job with the model's files in the object store, for nodes that don't have its folder.

    Nodes that come later are not known yet, so they lie there in any case; who has the folder does not fetch them.
    """
    import ray

    files = ray.put(read_files(prepared.model_folder))
    return replace(job, model_fingerprint=prepared.model_fingerprint, model_files=files)


def ask_nodes(
    nodes: Sequence[str], model_folder: str, wanted: Wanted
) -> tuple[dict[str, NodeFacts | Silent], NodeFacts]:
    """What the nodes with these ids say, and the driver itself."""
    asking = _Asking(nodes)
    project, root = project_digest(), str(wanted.root)
    with _sent_as_it_stands():
        own = facts_here(model_folder, project, root)
        said = asking.everywhere(facts_here, model_folder, project, root)
        ahead = asking.clocks()
        with _marks_below(wanted) as place:
            unwritable, sees, own_sees = asking.marks(*place)
    answers: dict[str, NodeFacts | Silent] = dict(asking.silent)
    for node in said.keys() - answers.keys():
        answers[node] = facts_of(said[node], sees.get(node), unwritable.get(node), ahead[node])
    return {node: answers[node] for node in nodes}, facts_of(own, own_sees)


@contextlib.contextmanager
def _sent_as_it_stands() -> Iterator[None]:
    """Send the functions of `facts` whole: a node may have another version of this project, or none."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(facts)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(facts)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _marks_below(wanted: Wanted) -> Iterator[tuple[str, str]]:
    """A folder for marks in the run directory, or in what is there of its path: its root, and its name.

    It goes with the context. Where a driver is killed meanwhile, what it leaves is named as other things that are half
    made, and is swept away or not minded. Raises UserError where it can't be made.
    """
    if wanted.url is None:
        root = str(next(path for path in (wanted.root, *wanted.root.parents) if path.exists()))
        folder = f".preflight.{uuid.uuid4().hex[:8]}"
    else:
        root, folder = wanted.url, f"{DRIVER_FILE}.{uuid.uuid4().hex[:8]}"
    try:
        if wanted.url is None:
            Path(root, folder).mkdir()
        problem = leave_mark(root, folder, DRIVER)
    except OSError as error:
        problem = error.strerror
    try:
        if problem is not None:
            where = root if wanted.url is None else "the store"
            raise UserError([f"--out {wanted.out}: {where} can't be written to: {problem}"])
        yield root, folder
    finally:
        remove_marks(root, folder)


class _Asking:
    """Runs functions on all nodes at once; one that fails to answer once is not asked again."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self._nodes = nodes
        self._until = time.monotonic() + ANSWER_WITHIN_S
        self.silent: dict[str, Silent] = {}

    def everywhere(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """What the function returns, by node."""
        answers = self._each(function, dict.fromkeys(self._nodes, arguments))
        return {node: value for node, (value, _, _) in answers.items()}

    def clocks(self) -> dict[str, float]:
        """How many seconds each clock is ahead of ours at least: of some readings, the one that took the least time."""
        best: dict[str, tuple[float, float]] = {}
        for _ in range(CLOCK_READINGS):
            answers = self._each(read_clock, dict.fromkeys(self._nodes, ()))
            for node, (there, sent, received) in answers.items():
                reading = ((received - sent) / 2, there - (sent + received) / 2)
                best[node] = min(best.get(node, reading), reading)
        return {n: math.copysign(max(0.0, abs(ahead) - unsure), ahead) for n, (unsure, ahead) in best.items()}

    def marks(self, root: str, folder: str) -> tuple[dict[str, str | None], dict[str, list[str]], list[str]]:
        """Why a node can't write there; whose marks each sees; whose the driver sees."""
        unwritable = {
            node: why
            for node, (why, _, _) in self._each(
                leave_mark, {node: (root, folder, node) for node in self._nodes}
            ).items()
        }
        names = [DRIVER, *unwritable]
        sees = self.everywhere(seen_marks, root, folder, names, SEEN_WITHIN_S)
        return unwritable, sees, seen_marks(root, folder, names, SEEN_WITHIN_S)

    def _each(
        self, function: Callable[..., Any], arguments: Mapping[str, tuple[Any, ...]]
    ) -> dict[str, tuple[Any, float, float]]:
        """What the function returned on each node, when it was sent and when the answer came (seconds since 1970)."""
        import ray
        from ray.exceptions import RayError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # No share of anything: a cluster that is busy answers too.
        remote = ray.remote(num_cpus=0, max_retries=0)(function)
        sent = time.time()
        waiting = {
            remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(*given): node
            for node, given in arguments.items()
            if node not in self.silent
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
                    self.silent[node] = Silent(f"could not be asked: {one_line(last)}")
            if not ready:
                for reference, node in waiting.items():
                    self.silent[node] = Silent(f"did not answer within {ANSWER_WITHIN_S:.0f} s; is it overloaded?")
                    ray.cancel(reference, force=True)
                break
        return answers
