"""Compare what the nodes of a cluster said with what the driver needs: every difference, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainable.errors import listed
from tune.cluster.node_facts import NodeFacts
from tune.cluster.versions import version_problem

MAX_CLOCK_DIFFERENCE_S = 5.0
DRIVER = "the driver"  # its name among the nodes' ids


@dataclass(frozen=True)
class Requirements:
    """What a node must have before it may run trials."""

    root: Path
    """The run directory."""
    url: str | None
    """Where the run directory lies in an object store; None where it is a folder, which all nodes must share."""
    model_fingerprint: str
    """Content of the model's files. A node whose model folder has other content is sent the model."""
    run_bytes: int
    """The most that the sweep may still write to the run directory."""
    shipped_bytes: int
    """Size of the model's files when they are sent to a node."""
    temporary_bytes: Mapping[str, int] = field(default_factory=dict)
    """The most that the trials of a node write to its temporary folder, by node id."""

    @property
    def out(self) -> str:
        """The run directory as the user knows it."""
        return str(self.root) if self.url is None else self.url.partition("?")[0].rstrip("/")


@dataclass(frozen=True)
class NoAnswer:
    """In place of the facts of a node that could not be asked."""

    reason: str
    """A sentence without its subject: "did not answer within 60 s"."""


def problems_of(
    answers: Mapping[str, NodeFacts | NoAnswer],
    driver: NodeFacts,
    required: Requirements,
    names: Mapping[str, str],
) -> list[str]:
    """Everything that keeps the sweep from running on these nodes; nodes with the same problem share a sentence.

    Args:
        answers: What each node said, by node id.
        driver: The facts of the driver's own machine.
        required: What the nodes must have.
        names: What to call the nodes, by id.
    """
    nodes_with: dict[str, list[str]] = {}
    facts = {node: found for node, found in answers.items() if isinstance(found, NodeFacts)}
    with_driver = {**facts, DRIVER: driver}
    for node, found in answers.items():
        if isinstance(found, NoAnswer):
            problems = [found.reason]
        else:
            problems = [
                *_version_problems(found, driver),
                *_disk_problems(node, found, required),
                *_clock_problems(found),
            ]
        for problem in problems:
            nodes_with.setdefault(problem, []).append(names.get(node, node))
    for node in with_driver:
        for problem in _run_directory_problems(node, with_driver, required, names):
            nodes_with.setdefault(problem, []).append(names.get(node, node))
    return [f"{_together(nodes)}: {problem}" for problem, nodes in nodes_with.items()]


def _version_problems(found: NodeFacts, driver: NodeFacts) -> list[str]:
    problems = []
    other = [
        f"{name} {found.versions.get(name) or 'is missing'} (here {version})"
        for name, version in driver.versions.items()
        if found.versions.get(name) != version
    ]
    if other:
        problems.append(version_problem(", ".join(other)))
    if found.project is None:
        problems.append("finetune-search is not installed there; every node needs the driver's version of it")
    elif found.project != driver.project:
        problems.append("has another version of finetune-search (its source files differ); install the driver's there")
    return problems


def _disk_problems(node: str, found: NodeFacts, required: Requirements) -> list[str]:
    problems = []
    if required.url is None and found.free_bytes is not None and found.free_bytes < required.run_bytes:
        problems.append(
            f"the disk has {found.free_bytes / 1e9:.2f} GB for {required.root}, but the sweep may write "
            f"{required.run_bytes / 1e9:.2f} GB; lower --max-concurrent, --keep-top or --confirm"
        )
    needed = required.temporary_bytes.get(node, 0)
    if found.model != required.model_fingerprint:
        needed += required.shipped_bytes
        if found.no_place_for_model is not None:
            problems.append(f"the model can't be put there: {found.no_place_for_model}")
    if found.free_temporary_bytes < needed:
        problems.append(
            f"the disk of its temporary folder has {found.free_temporary_bytes / 1e9:.2f} GB, but the model's copy and "
            f"what its trials write may take {needed / 1e9:.2f} GB; free some, or set TMPDIR there to a larger disk"
        )
    return problems


def _clock_problems(found: NodeFacts) -> list[str]:
    if abs(found.clock_ahead_s) <= MAX_CLOCK_DIFFERENCE_S:
        return []
    ahead = "ahead of" if found.clock_ahead_s > 0 else "behind"
    return [
        f"has a clock at least {abs(found.clock_ahead_s):.0f} s {ahead} the driver's; "
        f"at most {MAX_CLOCK_DIFFERENCE_S:.0f} s are allowed: set the clocks (NTP)"
    ]


def _run_directory_problems(
    node: str, facts: Mapping[str, NodeFacts], required: Requirements, names: Mapping[str, str]
) -> list[str]:
    """Whether a node can write below the run directory, and read what every other node and the driver wrote there."""
    found = facts[node]
    if found.sees is None:
        return []
    problems = []
    # A node that can't see the driver's files has a different folder at that path; that it can't write there is then
    # not the user's problem.
    if found.unwritable is not None and (DRIVER in found.sees or required.url is not None):
        problems.append(f"can't write below {required.out}: {found.unwritable}")
    writers = [other for other in facts if other != node and facts[other].unwritable is None]
    if unseen := [names.get(other, other) for other in writers if other not in found.sees]:
        files = f"what {_together(unseen)} {'writes' if len(unseen) == 1 else 'write'} below {required.out}; "
        if required.url is None:
            problems.append(f"can't see {files}--out must be a folder that all nodes share, or s3://...")
        else:
            problems.append(f"can't read {files}every node needs a way to the store, and its keys")
    return problems


def _together(names: Sequence[str]) -> str:
    """A list of names as part of a sentence."""
    return listed(names) if len(names) != 2 else f"{names[0]} and {names[1]}"
