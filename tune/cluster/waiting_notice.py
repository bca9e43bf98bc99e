"""Tell the user why nothing runs: what was asked for, what there is, who holds it, and what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from trainable.redaction import one_line
from tune.cluster.occupancy import Holder, NodeOccupancy, Occupancy, amounts_text, occupancy_now

NOTICE_AFTER_S = 60.0
NOTICE_EVERY_S = 180.0
MAX_NODES_OR_DRIVERS = 20  # that a notice lists
MAX_HELD = 5  # things that are listed for one driver
MAX_COMMAND = 120  # characters of a driver's command
ALWAYS_SHOWN = ("CPU", "GPU")  # of every node, beside what was asked for


class WaitingNotices:
    """Tells the user of every long wait for resources, again and again while it lasts, and when it ends."""

    def __init__(
        self,
        say: Callable[[str], None],
        look: Callable[[], Occupancy] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with nothing waiting.

        Args:
            say: Shows a text to the user.
            look: Asks how the cluster is occupied.
            now: A clock (s).
        """
        self._say = say
        self._look = look or occupancy_now
        self._now = now
        self._since: float | None = None
        self._told: float | None = None

    def tick(self, asked: Mapping[str, float] | None) -> None:
        """Note whether something waits now; to be called every few seconds at least.

        Args:
            asked: The resources that are waited for while nothing runs; None when something runs or nothing is due.
        """
        now = self._now()
        if asked is None:
            if self._since is not None and self._told is not None:
                self._say(f"placed after {now - self._since:.0f} s")
            self._since = self._told = None
            return
        if self._since is None:
            self._since = now
        due = self._since + NOTICE_AFTER_S if self._told is None else self._told + NOTICE_EVERY_S
        if now >= due:
            self._told = now
            try:
                occupancy = self._look()
            except Exception:  # a notice must not end a sweep
                occupancy = None
            self._say(notice(asked, occupancy, now - self._since))


def notice(asked: Mapping[str, float], occupancy: Occupancy | None, waited_s: float) -> str:
    """The notice, in several lines. The first says what is waited for, and for how long.

    Args:
        asked: The resources that are waited for.
        occupancy: How the cluster is occupied; None if it could not be asked.
        waited_s: How long nothing has been running.
    """
    first = f"nothing has been running for {waited_s:.0f} s"
    if occupancy is None:
        return f"{first}: {amounts_text(asked)} was asked for, and Ray's head does not say what the cluster has"
    if any(_covers(own, asked) for own in occupancy.own):
        return f"{first}: {amounts_text(asked)} was given, but no worker has started there yet"
    lines = [f"{first}: no node has {amounts_text(asked)} free"]
    lines += [_node_line(node, asked) for node in occupancy.nodes[:MAX_NODES_OR_DRIVERS]]
    lines += _how_many(occupancy.nodes, "nodes")
    lines += [_holder_line(holder) for holder in occupancy.holders[:MAX_NODES_OR_DRIVERS]]
    lines += _how_many(occupancy.holders, "drivers")
    if not occupancy.holders:
        lines.append("  no other driver is known to the cluster")
    return "\n".join([*lines, f"  {_advice(asked, occupancy)}"])


def _node_line(node: NodeOccupancy, asked: Mapping[str, float]) -> str:
    shown = [*ALWAYS_SHOWN, *(name for name in asked if name not in ALWAYS_SHOWN)]
    has = [f"{node.free.get(name, 0.0):g} of {node.total[name]:g} {name}" for name in shown if node.total.get(name)]
    return f"  {node.name}: " + (f"free {', '.join(has)}" if has else "offers no CPU or GPU")


def _holder_line(holder: Holder) -> str:
    more = [f"{len(holder.holds) - MAX_HELD} more"] if len(holder.holds) > MAX_HELD else []
    held = "; ".join([*holder.holds[:MAX_HELD], *more]) or "no actor or placement group; maybe tasks, not listed"
    command = one_line(holder.entrypoint) or "a driver"
    command = command if len(command) <= MAX_COMMAND else f"{command[:MAX_COMMAND]}..."
    return f"  held by {command} (process {holder.pid} on {holder.address}): {one_line(held)}"


def _how_many(items: Sequence[object], what: str) -> list[str]:
    return [f"  ... ({len(items)} {what} in all)"] if len(items) > MAX_NODES_OR_DRIVERS else []


def _advice(asked: Mapping[str, float], occupancy: Occupancy) -> str:
    flags = " or ".join(f"--{name.lower()}s-per-trial" for name in ("GPU", "CPU") if asked.get(name))
    if not any(_covers(node.total, asked) for node in occupancy.nodes):
        return f"No node has that much, busy or not: add one that has, or end this (Ctrl-C) and lower {flags}."
    return f"It goes on by itself once a node has that much free: wait, add nodes, or end this and lower {flags}."


def _covers(has: Mapping[str, float], asked: Mapping[str, float]) -> bool:
    return all(has.get(name, 0.0) + 1e-9 >= amount for name, amount in asked.items())
