"""Check every node of a cluster before anything is trained there, and send the model to nodes that lack it.

A trial that fails on its node after an hour, for a folder that the node can't see or a package that it has in another
version, costs that hour. So every node that would run trials is asked first: `node_facts` is the code that runs there,
`ask_nodes` calls it through Ray, `node_problems` compares the answers with the driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainable.errors import UserError
from trainable.hub.shipping import read_files
from trainable.job import Job
from tune.cluster.ask_nodes import ask_nodes
from tune.cluster.disk import bytes_while_training, disk_bytes
from tune.cluster.node_facts import NodeFacts
from tune.cluster.node_problems import Requirements, problems_of
from tune.cluster.nodes import Node
from tune.cluster.plan import Plan


@dataclass(frozen=True)
class SweepFiles:
    """What a sweep reads from its nodes' disks, and how much it writes to them."""

    root: Path
    """The run directory."""
    url: str | None
    """Where the run directory lies in an object store; None where it is a folder."""
    taken_bytes: int
    """What the run directory holds already."""
    free_bytes: int
    """What is free on the driver's disk for the run directory, or for its copy of what lies in an object store."""
    kept_models: int
    """How many finished trials keep their model."""
    model_folder: Path
    model_fingerprint: str
    model_bytes: int
    """Size of the model's weights."""
    shipped_bytes: int
    """Size of the model's files when they are sent to a node."""

    @property
    def out(self) -> str:
        """The run directory as the user knows it."""
        return str(self.root) if self.url is None else self.url.partition("?")[0].rstrip("/")

    def requirements(self, plan: Plan, nodes: Sequence[Node]) -> Requirements:
        """What these nodes must have to run trials by that plan."""
        temporary_bytes = {}
        if self.url is not None:  # then trials write to their node's own disk first
            for node in nodes:
                trials_bytes = bytes_while_training(plan.slots_on([node]), self.model_bytes)
                temporary_bytes[node.id] = trials_bytes + self.model_bytes
        return Requirements(
            self.root,
            self.url,
            self.model_fingerprint,
            run_bytes=disk_bytes(plan, self.model_bytes, self.kept_models) - self.taken_bytes,
            shipped_bytes=self.shipped_bytes,
            temporary_bytes=temporary_bytes,
        )


def preflight(files: SweepFiles, plan: Plan, nodes: Sequence[Node], problems: list[str]) -> dict[str, NodeFacts]:
    """Ask every node that offers a slot what it has, and append all that is wrong to `problems`.

    It takes a minute at most and leaves nothing behind. This machine alone is not asked.

    Returns:
        The facts of the nodes that answered, by node id.
    """
    asked = [node for node in nodes if plan.slots_on([node])]
    if all(node.here for node in nodes) or not asked:
        return {}
    required = files.requirements(plan, asked)
    try:
        answers, driver = ask_nodes([node.id for node in asked], str(files.model_folder), required)
    except UserError as error:
        problems += error.problems
        return {}
    problems += problems_of(answers, driver, required, {node.id: node.name for node in asked})
    return {node: found for node, found in answers.items() if isinstance(found, NodeFacts)}


def with_model_shipped(job: Job, model_folder: Path, model_fingerprint: str) -> Job:
    """The same job, with the model's files in Ray's object store.

    Nodes that join later can't be asked whether they have the model's folder, so the files are put there always. A
    worker that finds the model on its own disk does not fetch them.
    """
    import ray

    return replace(job, model_fingerprint=model_fingerprint, model_files=ray.put(read_files(model_folder)))


def fetch_shipped(reference: Any) -> Any:
    """Get the model's files for a job's reference to them, on any node."""
    import ray

    return ray.get(reference)
