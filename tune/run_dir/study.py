"""The study of a sweep: opened, made and read with Optuna. Errors of its SQLite file are OSErrors that name it."""

from __future__ import annotations

import errno
import sqlite3
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from trainable.errors import UserError
from tune.run_dir.attributes import STUDY_NAME, SWEEP_ID
from tune.run_dir.documents import WHAT_TO_DO
from tune.run_dir.layout import SPEC
from tune.run_dir.records import TrialRecord, record_from
from tune.run_dir.study_file import READ_BUSY_LIMIT_S

if TYPE_CHECKING:
    import optuna
    import sqlalchemy

WRITE_BUSY_LIMIT_S = 60  # how long a read or write waits while another process writes


def open_study(path: Path, mode: str, sweep_id: str | None) -> optuna.Study:
    """Open the study in an SQLite file; make the file and the study if there are none yet.

    Args:
        path: study.db.
        mode: "max" or "min".
        sweep_id: The sweep that the study must be tied to. A study without trials is tied to it here. None for a
            sweep that an early version began, which has no such name.

    Raises:
        UserError: The study is tied to another sweep.
        OSError: The file can't be read or written. From now on, every read or write of the study raises it as well,
            instead of SQLAlchemy's errors; it names the file.
    """
    import optuna
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = f"sqlite:///{quote(str(path))}"
    try:
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": WRITE_BUSY_LIMIT_S}})
        sqlalchemy.event.listen(storage.engine, "handle_error", partial(_as_os_error, path))
        study = optuna.create_study(
            storage=storage,
            study_name=STUDY_NAME,
            direction="maximize" if mode == "max" else "minimize",
            load_if_exists=True,
        )
        tied_to = study.user_attrs.get(SWEEP_ID)
        if tied_to is None and sweep_id is not None and not study.get_trials(deepcopy=False):
            study.set_user_attr(SWEEP_ID, tied_to := sweep_id)
    except sqlalchemy.exc.DBAPIError as error:
        raise _os_error(path, error.orig) from error
    if tied_to != sweep_id:
        spec = path.with_name(SPEC)
        raise UserError([f"{path} belongs to another sweep than {spec}, or one of them was cut; {WHAT_TO_DO}"])
    return study


def open_read_only(path: Path) -> optuna.storages.RDBStorage:
    """Open a whole study's file for reading alone, also while a driver writes: SQLite itself refuses every write.

    Raises:
        UserError: The file can't be read so; says why.
    """
    import optuna
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = f"sqlite:///file:{quote(quote(str(path)))}?mode=ro&uri=true"  # SQLAlchemy unquotes it, then SQLite
    arguments = {"connect_args": {"timeout": READ_BUSY_LIMIT_S}}
    try:
        storage = optuna.storages.RDBStorage(url, arguments, skip_table_creation=True)
        if not storage.get_all_studies():
            raise UserError([f"{path} holds no study yet; ask again when the first trial has begun"])
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__
        reason = str(first).splitlines()[0]
        how = "it may be damaged, be just begun, or a driver was killed as it wrote; the sweep's own command mends that"
        raise UserError([f"{path} can't be opened for reading alone ({reason}); {how}"]) from error
    return storage


def _as_os_error(path: Path, context: sqlalchemy.engine.ExceptionContext) -> OSError | None:
    """What SQLAlchemy raises in place of an error: otherwise Optuna would speak of invalid data in the commit."""
    error = context.original_exception
    # Other subclasses of DatabaseError are mistakes in code, not troubles of the file.
    is_the_files = type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError)
    return _os_error(path, error) if is_the_files else None


def _os_error(path: Path, error: BaseException | None) -> OSError:
    numbers = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EROFS}
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF  # SQLite's higher bits only refine it
    return OSError(numbers.get(primary, errno.EIO), str(error), str(path))


def read_records(study: optuna.Study, metric: str, mode: str) -> tuple[TrialRecord, ...]:
    """Every trial of the study, in the order of numbers. Raises ValueError if one is not of this project."""
    return tuple(record_of(trial, metric, mode) for trial in study.get_trials(deepcopy=False))


def record_of(trial: optuna.trial.FrozenTrial, metric: str, mode: str) -> TrialRecord:
    """One trial of the study as a record."""
    return record_from(trial.number, trial.state.name, trial.user_attrs, trial.params, metric, mode)
