"""While no trial can be placed, the user is told what is missing, who holds it, what to do, and when the wait ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from tune.cluster.occupancy import Holder, NodeOccupancy, Occupancy
from tune.cluster.waiting_notice import NOTICE_AFTER_S, NOTICE_EVERY_S, WaitingNotices, notice

BUSY = NodeOccupancy("alpha (10.0.0.1)", {"CPU": 4.0, "GPU": 1.0, "memory": 1e9}, {"CPU": 4.0, "GPU": 0.25})
SMALL = NodeOccupancy("beta (10.0.0.2)", {"CPU": 2.0}, {})
HEAD = NodeOccupancy("head (10.0.0.9)", {"memory": 1e9}, {"memory": 1e9})
HOG = Holder("python train.py", "10.0.0.7", 123, ["actor Hog (0.75 GPU, process 99) on alpha (10.0.0.1)"])
QUIET = Holder("", "10.0.0.8", 7)


def test_the_notice_says_all() -> None:
    text = notice({"CPU": 1, "GPU": 0.5}, Occupancy([BUSY, SMALL, HEAD], [HOG, QUIET]), 61.3)
    assert text.splitlines() == [
        "nothing has been running for 61 s: no node has 1 CPU, 0.5 GPU free",
        "  alpha (10.0.0.1): free 4 of 4 CPU, 0.25 of 1 GPU",
        "  beta (10.0.0.2): free 0 of 2 CPU",
        "  head (10.0.0.9): offers no CPU or GPU",
        "  held by python train.py (process 123 on 10.0.0.7): actor Hog (0.75 GPU, process 99) on alpha (10.0.0.1)",
        "  held by a driver (process 7 on 10.0.0.8): no actor or placement group; maybe tasks, not listed",
        "  It goes on by itself once a node has that much free: wait, add nodes, or end this and lower "
        "--gpus-per-trial or --cpus-per-trial.",
    ]


def test_what_no_node_has_is_not_waited_for_in_hope() -> None:
    text = notice({"CPU": 1, "GPU": 1, "accelerator_type:H100": 0.001}, Occupancy([BUSY, SMALL], []), 60)
    assert "No node has that much, busy or not" in text
    assert "no other driver is known" in text
    assert "No node has" not in notice({"CPU": 2}, Occupancy([SMALL], []), 60)


def test_a_worker_that_is_slow_to_start_is_no_lack_of_room() -> None:
    room = Occupancy([BUSY], [HOG], own=[{"CPU": 1.0, "GPU": 0.5}])
    assert notice({"CPU": 1, "GPU": 0.5}, room, 60).endswith("was given, but no worker has started there yet")
    assert "no node has 2 CPU, 0.5 GPU free" in notice({"CPU": 2, "GPU": 0.5}, room, 60)


def test_a_large_cluster_is_not_listed_whole() -> None:
    many = Holder("python x.py\n\x1b[2J " * 50, "h", 1, [f"actor {i}" for i in range(50)])
    lines = notice({"CPU": 8}, Occupancy([SMALL] * 100, [many] * 100), 60).splitlines()
    assert len(lines) < 50
    assert "  ... (100 nodes in all)" in lines
    assert "  ... (100 drivers in all)" in lines
    assert max(map(len, lines)) < 250
    assert not any("\x1b" in line for line in lines)


@dataclass
class Told:
    """A clock, and what was said at which time."""

    at_s: float = 0.0
    lines: list[tuple[float, str]] = field(default_factory=list)
    looks: int = 0

    def say(self, text: str) -> None:
        self.lines.append((self.at_s, text.partition(":")[0]))

    def look(self) -> Occupancy:
        self.looks += 1
        return Occupancy([SMALL], [])

    def let(self, waiting: WaitingNotices, until_s: float, asked: dict[str, float] | None) -> None:
        while self.at_s < until_s:
            waiting.tick(asked)
            self.at_s += 0.5


def test_a_short_wait_is_not_told() -> None:
    told = Told()
    waiting = WaitingNotices(told.say, told.look, lambda: told.at_s)
    for _ in range(5):
        told.let(waiting, told.at_s + NOTICE_AFTER_S - 1, {"CPU": 1.0})
        told.let(waiting, told.at_s + 1, None)
    assert (told.lines, told.looks) == ([], 0)


def test_a_long_wait_is_told_again_and_again_and_its_end_once() -> None:
    told = Told()
    waiting = WaitingNotices(told.say, told.look, lambda: told.at_s)
    told.let(waiting, 500, {"CPU": 1.0})
    told.let(waiting, 600, None)
    expected = [(float(at), f"nothing has been running for {at} s") for at in (60, 240, 420)]
    assert (NOTICE_AFTER_S, NOTICE_EVERY_S) == (60, 180)
    assert told.lines == [*expected, (500.0, "placed after 500 s")]
    told.let(waiting, 659, {"CPU": 1.0})
    assert len(told.lines) == 4
    told.let(waiting, 661, {"CPU": 1.0})
    assert len(told.lines) == 5


def test_a_cluster_that_can_not_be_asked_is_told_and_ends_nothing() -> None:
    told = Told()

    def look() -> Occupancy:
        raise RuntimeError("the head is away")

    said: list[str] = []
    waiting = WaitingNotices(said.append, look, lambda: told.at_s)
    told.let(waiting, 100, {"CPU": 1.0})
    assert said == [
        "nothing has been running for 60 s: 1 CPU was asked for, and Ray's head does not say what the cluster has"
    ]
