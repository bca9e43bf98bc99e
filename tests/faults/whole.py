"""What is written stays whole whatever write fails: run in a process that carries failing_writes.so.

    LD_PRELOAD=failing_writes.so python -m tests.faults.whole FOLDER STEP SCENARIO ...

Each scenario is run with the n-th write failing, for every n up to 50, in each of the ways below. Ends with an
AssertionError where something is neither old nor new; prints how many failures were made, -1 where a control broke.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from optuna.trial import TrialState

from tests.tune.test_searcher import SPACE, epoch, leave_model
from trainable.model.weights import read_tensors, write_tensors
from trainable.storage import folders as storage
from trainable.storage.folders import is_whole, sweep_asides, write_folder, write_text
from tune.run_dir.documents import RESOLVED
from tune.run_dir.layout import RunDir
from tune.spec.sweep_spec import SweepSpec
from tune.sweep.trial_book import TrialBook

MOST = 50
# (errno, whether the write is short before it, whether all later ones fail too)
WAYS = [
    (errno.ENOSPC, 0, 0), (errno.ENOSPC, 0, 1), (errno.EIO, 0, 0), (errno.EIO, 0, 1), (errno.EROFS, 0, 0),
    (errno.EROFS, 0, 1), (0, 1, 0), (errno.ENOSPC, 1, 1),
]  # fmt: skip


class Failing:
    """While in use, the n-th write below a folder fails; `hit` says afterwards whether there were as many."""

    def __init__(self, folder: Path, n: int, way: tuple[int, int, int]) -> None:
        self._folder, self._n, self._way = folder, n, way
        self.hit = False

    def __enter__(self) -> Failing:
        fail_at = ctypes.CDLL(None).fail_at
        fail_at.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int]
        fail_at(os.fsencode(self._folder), self._n, *self._way)
        return self

    def __exit__(self, *_: object) -> None:
        shim = ctypes.CDLL(None)
        self.hit = shim.fail_count() >= self._n
        shim.fail_at(b"", 0, 0, 0, 0)


def attempt(folder: Path, n: int, way: tuple[int, int, int], act: Callable[[], object]) -> tuple[bool, bool]:
    """Whether the act went well, and whether the n-th write came to fail. What is raised names a path below."""
    failing, raised = Failing(folder, n, way), None
    try:
        with failing:
            act()
    except OSError as error:
        raised = error
    if raised is not None:
        assert failing.hit
        assert raised.errno in (way[0], errno.EIO), raised  # SQLite tells most as an I/O error
        assert str(raised.filename).startswith(str(folder)), raised
    return raised is None, failing.hit


# Folders and files


def old_content(aside: Path) -> None:
    (aside / "a").write_text("old")
    (aside / "b").write_bytes(bytes(70_000))


def new_content(aside: Path) -> None:
    (aside / "a").write_text("new and longer")
    write_tensors(aside / "c.safetensors", {"x": torch.arange(9000.0), "y": torch.ones(3)})


def content(folder: Path) -> str | None:
    if not folder.exists():
        return None
    assert is_whole(folder), sorted(folder.iterdir())
    text = (folder / "a").read_text()
    if text == "new and longer":
        assert torch.equal(read_tensors(folder / "c.safetensors")["x"], torch.arange(9000.0))
    return text


def a_new_folder(root: Path, n: int, way: tuple[int, int, int]) -> bool:
    done, hit = attempt(root, n, way, lambda: write_folder(root / "deep" / "folder", new_content))
    assert content(root / "deep" / "folder") in (["new and longer"] if done else [None, "new and longer"])
    return hit


def a_replaced_folder(root: Path, n: int, way: tuple[int, int, int]) -> bool:
    folder = root / "folder"
    write_folder(folder, old_content)
    done, hit = attempt(root, n, way, lambda: write_folder(folder, new_content))
    if not way[2] or storage._exchange is EXCHANGE:  # where all later writes fail, nobody can bring the old one back
        assert content(folder) in (["new and longer"] if done else ["old", "new and longer"])
    sweep_asides(root)
    assert content(folder) in (["new and longer"] if done else ["old", "new and longer"])
    assert [path.name for path in root.iterdir()] == ["folder"]
    return hit


EXCHANGE = storage._exchange


def a_replaced_folder_where_none_can_be_exchanged(root: Path, n: int, way: tuple[int, int, int]) -> bool:
    storage._exchange = lambda one, other: False
    try:
        return a_replaced_folder(root, n, way)
    finally:
        storage._exchange = EXCHANGE


def a_replaced_text(root: Path, n: int, way: tuple[int, int, int]) -> bool:
    write_text(root / "x.json", "old" * 1000)
    done, hit = attempt(root, n, way, lambda: write_text(root / "x.json", "new" * 2000))
    allowed = ["new" * 2000] if done else ["old" * 1000, "new" * 2000]
    assert (root / "x.json").read_text() in allowed
    sweep_asides(root)
    assert [path.name for path in root.iterdir()] == ["x.json"]
    return hit


# The study

SPEC = SweepSpec(name="s", model="m", dataset="d", space=SPACE, num_trials=3, confirm="none")


def begin(root: Path) -> TrialBook:
    run_dir = RunDir(root)
    if not run_dir.holds_sweep:
        run_dir.write_spec({"resolved": {**dict.fromkeys(RESOLVED), "sweep": "a" * 32}})
    return TrialBook(SPEC, run_dir)


def one_trial(book: TrialBook, number: int, acknowledged: dict[int, float | None]) -> None:
    """What driver and worker do for a trial; notes its value once the book has taken it."""
    assignment = book.issue()
    assert assignment is not None
    assert assignment.number == number
    book.record_epochs(number, [epoch(1, 0.3 + number / 10)])
    book.record_epochs(number, [epoch(1, 0.3 + number / 10), epoch(2, 0.2)])
    leave_model(book, number)
    record = book.finish(number, TrialState.COMPLETE)
    acknowledged[number] = record.value


def a_study_that_is_made(root: Path, n: int, way: tuple[int, int, int]) -> bool:
    _, hit = attempt(root, n, way, lambda: begin(root).issue())
    goes_on(root, {})
    return hit


def a_study_in_its_second_trial(root: Path, n: int, way: tuple[int, int, int]) -> bool:
    acknowledged: dict[int, float | None] = {}
    template = root.with_name("template")
    if not template.exists():
        template.mkdir()
        one_trial(begin(template), 0, acknowledged)
    acknowledged[0] = 0.3
    shutil.copytree(template, root, dirs_exist_ok=True)
    book = begin(root)

    def act() -> None:
        one_trial(book, 1, acknowledged)
        one_trial(book, 2, acknowledged)

    _, hit = attempt(root, n, way, act)
    goes_on(root, acknowledged)
    return hit


def goes_on(root: Path, acknowledged: dict[int, float | None]) -> None:
    """That a driver that comes back finds what was acknowledged, and finishes the sweep with no trial too many."""
    sweep_asides(root)
    book = begin(root)
    records = book.records()
    assert [record.number for record in records] == list(range(len(records)))
    for number, value in acknowledged.items():
        assert (records[number].state, records[number].value) == ("COMPLETE", value)
    while book.remaining:
        assignment = book.issue()
        assert assignment is not None
        book.record_epochs(assignment.number, [epoch(1, 0.3 + assignment.number / 10)])
        leave_model(book, assignment.number)
        book.finish(assignment.number, TrialState.COMPLETE)
    after = book.records()
    assert [(record.number, record.state) for record in after] == [(n, "COMPLETE") for n in range(SPEC.num_trials)]
    for record in records:
        before, now = record.config.named(), after[record.number].config.named()
        assert before.items() <= now.items(), "a trial changed its configuration"
    assert book.leader is not None
    assert is_whole(book.run_dir.model(book.leader.number))


# Controls: the same without what protects


def rename_late(aside: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(aside, folder)


def a_folder_without_protection(root: Path, n: int, way: tuple[int, int, int]) -> bool:
    put, storage._put = storage._put, rename_late
    try:
        return a_replaced_folder(root, n, way)
    finally:
        storage._put = put


def a_text_without_protection(root: Path, n: int, way: tuple[int, int, int]) -> bool:
    (root / "x.json").write_text("old" * 1000)
    attempt(root, n, way, lambda: (root / "x.json").write_text("new" * 2000))
    assert (root / "x.json").read_text() in ("old" * 1000, "new" * 2000)
    return True


SCENARIOS: dict[str, Callable[[Path, int, tuple[int, int, int]], bool]] = {
    scenario.__name__: scenario
    for scenario in (
        a_new_folder,
        a_replaced_folder,
        a_replaced_folder_where_none_can_be_exchanged,
        a_replaced_text,
        a_study_that_is_made,
        a_study_in_its_second_trial,
        a_folder_without_protection,
        a_text_without_protection,
    )
}


def main() -> None:
    """Run scenarios with every STEP-th n, in every way."""
    for name in sys.argv[3:]:
        try:
            failures = run(SCENARIOS[name], Path(sys.argv[1]), int(sys.argv[2]))
        except AssertionError:
            if not name.endswith("without_protection"):
                raise
            failures = -1
        print(name, failures)


def run(scenario: Callable[[Path, int, tuple[int, int, int]], bool], folder: Path, step: int) -> int:
    """How many failures were made; raises AssertionError where one left something that is neither old nor new."""
    hits = 0
    for way in WAYS:
        for n in range(1, MOST + 1, step):
            root = folder / "case"
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir()
            try:
                hit = scenario(root, n, way)
            except Exception as error:
                raise AssertionError(f"write {n}, errno {way[0]}, short {way[1]}, for ever {way[2]}") from error
            hits += hit
            if not hit:
                break  # there are fewer writes than that
    return hits


if __name__ == "__main__":
    main()
