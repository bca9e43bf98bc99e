"""study.db read without Optuna: whether it is whole, and its trials for whoever must write nothing.

Optuna's own storage takes a second to import and writes when it opens a file.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from trainable.errors import UserError
from trainable.redaction import one_line
from tune.run_dir.attributes import STUDY_NAME, SWEEP_ID
from tune.run_dir.documents import WHAT_TO_DO
from tune.run_dir.layout import SPEC
from tune.run_dir.records import TrialRecord, record_from

STATES_IN_STUDY = ("RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING")  # of a trial, as Optuna stores them
TABLES = {"studies", "study_user_attributes", "trials", "trial_user_attributes"}  # those that are read here
READ_LIMIT_S = 20.0  # for one study; one of 1,000 trials takes far less than a second
READ_BUSY_LIMIT_S = 5.0  # how long the read-only reader waits for a driver that is writing
CHECK_BUSY_LIMIT_S = 60.0  # how long the check of a driver's own study waits
LATEST_S = 1e11  # seconds since 1970: no epoch has ended later than in the year 5138


def study_problem(path: Path) -> str | None:
    """Why SQLite does not take a file for a whole database; None if it does.

    If a writer was killed in a transaction, SQLite rolls it back here.
    """
    try:
        with _for_the_driver(path) as connection:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return str(error)
    return None if verdict == "ok" else str(verdict).replace("\n", " ")


def holds_study(path: Path) -> bool:
    """Whether there is a study in a whole database. A driver that was killed early may have made no tables yet."""
    with _for_the_driver(path) as connection:
        found = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'studies'").fetchone()[0]
        return bool(found and connection.execute("SELECT count(*) FROM studies").fetchone()[0])


def _for_the_driver(path: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=CHECK_BUSY_LIMIT_S))


# Reading only


def read_study_file(file: Path, metric: str, mode: str, sweep_id: str | None, begun: bool) -> tuple[TrialRecord, ...]:
    """Every trial of a study, in the order of numbers. Nothing is written, also not beside the file.

    Args:
        file: study.db.
        metric: The objective's name.
        mode: "max" or "min".
        sweep_id: The sweep that the study must be tied to, as spec.yaml has it; None if that has none.
        begun: Whether the study must be there: spec.yaml says that trials may have been run.

    Raises:
        UserError: The file is missing, damaged, another sweep's, or a driver is writing for too long.
    """
    if not file.exists():
        if begun:
            raise UserError([f"{file} is gone, and with it what every trial gave; {WHAT_TO_DO}"])
        return ()
    try:
        with _for_a_reader(file) as connection:
            found = _read_study(connection, metric, mode, begun)
    except sqlite3.Error as error:
        if _is_busy(error):
            raise UserError([f"{file} is being written; ask again"]) from error
        raise UserError([f"{file} is damaged ({error}); {WHAT_TO_DO}"]) from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise UserError([f"{file} is damaged ({error}); {WHAT_TO_DO}"]) from error
    if found is None:
        if begun:
            raise UserError([f"{file} is damaged (it is empty); {WHAT_TO_DO}"])
        return ()
    tied_to, records = found
    if tied_to != sweep_id and (tied_to is not None or records):
        spec = file.with_name(SPEC)
        raise UserError([f"{file} belongs to another sweep than {spec}, or one of them was cut; {WHAT_TO_DO}"])
    return records


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


@contextlib.contextmanager
def _for_a_reader(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading only.

    SQLite itself would repair a file that a killed writer left in a transaction, or write beside one that is in
    write-ahead mode. Then a copy in a temporary folder is opened instead.
    """
    with contextlib.ExitStack() as stack:
        connection = None
        with file.open("rb") as start:
            copy = start.read(20)[18:] == b"\x02\x02"  # the format's mark of write-ahead mode
        if not copy:
            connection = stack.enter_context(_limited(f"file:{quote(str(file))}?mode=ro"))
            try:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except sqlite3.OperationalError as error:
                if _is_busy(error):
                    raise
                copy = True
        if copy:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ft-status-")))
            for suffix in ("", "-journal", "-wal"):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(f"{file}{suffix}", folder / f"{file.name}{suffix}")
            connection = stack.enter_context(_limited(f"file:{quote(str(folder / file.name))}?mode=rw"))
        assert connection is not None
        yield connection


@contextlib.contextmanager
def _limited(uri: str) -> Iterator[sqlite3.Connection]:
    """A connection that gives up after READ_LIMIT_S: a stranger's file may hold a view that never ends."""
    with closing(sqlite3.connect(uri, uri=True, timeout=READ_BUSY_LIMIT_S)) as connection:
        until = time.monotonic() + READ_LIMIT_S
        connection.set_progress_handler(lambda: time.monotonic() > until, 10_000)
        connection.execute("PRAGMA trusted_schema = OFF")
        yield connection


def _read_study(
    connection: sqlite3.Connection, metric: str, mode: str, begun: bool
) -> tuple[str | None, tuple[TrialRecord, ...]] | None:
    """What the study is tied to, and its trials; None if there is no study yet. Raises ValueError if it is damaged."""
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise ValueError(one_line(str(verdict)))
    kinds = dict(connection.execute("SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')"))
    if any(kinds.get(name) != "table" for name in TABLES):
        if not kinds or not begun:  # a driver is about to make the tables
            return None
        raise ValueError("it holds no study of Optuna's")
    studies = connection.execute("SELECT study_id, study_name FROM studies").fetchall()
    if not studies:
        return None
    if [name for _, name in studies] != [STUDY_NAME]:
        raise ValueError("it holds no sweep's study")
    attributes = _attributes(connection.execute("SELECT study_id, key, value_json FROM study_user_attributes"))
    of_trials = _attributes(connection.execute("SELECT trial_id, key, value_json FROM trial_user_attributes"))
    records = []
    for trial, number, state in connection.execute("SELECT trial_id, number, state FROM trials ORDER BY number"):
        if type(number) is not int or state not in STATES_IN_STUDY:
            raise ValueError("its trials are not numbered")
        if state == "WAITING":  # a driver died after it had asked for the trial and before it began it
            continue
        record = record_from(number, state, of_trials.get(trial, {}), {}, metric, mode)
        if not all(0 <= epoch.ended_at < LATEST_S for epoch in record.epochs):
            raise ValueError(f"trial {number}: an epoch that ended at no time")
        records.append(record)
    tied_to = attributes.get(studies[0][0], {}).get(SWEEP_ID)
    return None if tied_to is None else str(tied_to), tuple(records)


def _attributes(rows: sqlite3.Cursor) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for owner, key, value in rows:
        found.setdefault(owner, {})[str(key)] = json.loads(value)
    return found
