"""What the study says of each trial, as frozen values."""

from __future__ import annotations

import errno
import math
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from trainable.errors import UserError
from trainable.metrics import METRICS, merit
from tune.run_dir.layout import WHAT_TO_DO

if TYPE_CHECKING:
    import optuna
    import sqlalchemy

STUDY_NAME = "sweep"  # study.db holds one study, whatever the sweep is called
SWEEP_ID = "sweep"  # the study's attribute that ties it to spec.yaml
MODEL_SHA256 = "model_sha256"  # a trial's attribute
REPORTED = (*METRICS, "train_loss", "schedule_percent")  # what every epoch must tell
EPOCH_PREFIX = "epoch "  # user attribute "epoch 3" holds the metrics of epoch 3


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    state: COMPLETE, PRUNED, FAIL or RUNNING; value: the objective at the best epoch; epochs: metrics of each epoch run
    best_epoch: 1-based; seconds: training and evaluation; failure: the reason in a line
    model_sha256: of the weights that the trial left; None where it left none
    """

    number: int
    state: str
    config: Mapping[str, Any]
    seed: int | None
    value: float | None
    best_epoch: int | None
    epochs: tuple[Mapping[str, Any], ...]
    failure: str | None = None
    model_sha256: str | None = None

    @property
    def seconds(self) -> float:
        """Training and evaluation, seconds."""
        return float(sum(epoch["train_s"] + epoch["eval_s"] for epoch in self.epochs))

    @property
    def best(self) -> Mapping[str, Any] | None:
        """Metrics of the best epoch."""
        return next((epoch for epoch in self.epochs if epoch["epoch"] == self.best_epoch), None)

    @property
    def collapsed(self) -> bool:
        """Whether the best epoch gives every row the same class."""
        return self.best is not None and bool(self.best["collapsed"])


def open_study(path: Path, mode: str, sweep_id: str | None) -> optuna.Study:
    """The study in a SQLite file, made where there is none yet; mode is "max" or "min".

    sweep_id: what the study is tied to; it is noted in a study without trials; None where it can't be known

    Here and from then on a read or write that fails raises OSError that names the file. Raises UserError where the
    study is tied to another sweep.
    """
    import optuna
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = f"sqlite:///{quote(str(path))}"
    try:
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
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
        spec = path.with_name("spec.yaml")
        raise UserError([f"{path} belongs to another sweep than {spec}, or one of them was cut; {WHAT_TO_DO}"])
    return study


def _as_os_error(path: Path, context: sqlalchemy.engine.ExceptionContext) -> OSError | None:
    """What SQLAlchemy raises instead: Optuna would speak of invalid data in the commit."""
    error = context.original_exception
    ours = type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError)  # their other children are mistakes of code
    return _os_error(path, error) if ours else None


def _os_error(path: Path, error: BaseException | None) -> OSError:
    numbers = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EROFS}
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says more exactly where
    return OSError(numbers.get(code, errno.EIO), str(error), str(path))


def study_problem(path: Path) -> str | None:
    """Why SQLite does not take a file for a whole data base, or None. What a killed writer left open is rolled back."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=60)) as connection:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return str(error)
    return None if verdict == "ok" else str(verdict).replace("\n", " ")


def holds_study(path: Path) -> bool:
    """Whether there is a study in a whole data base; one that is being made may have no tables yet."""
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=60)) as connection:
        found = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'studies'").fetchone()[0]
        return bool(found and connection.execute("SELECT count(*) FROM studies").fetchone()[0])


def read_records(study: optuna.Study, metric: str, mode: str) -> tuple[TrialRecord, ...]:
    """Every trial of the study, in the order of numbers."""
    return tuple(record_of(trial, metric, mode) for trial in study.get_trials(deepcopy=False))


def record_of(trial: optuna.trial.FrozenTrial, metric: str, mode: str) -> TrialRecord:
    """One trial of the study as a value."""
    return record_from(trial.number, trial.state.name, trial.user_attrs, trial.params, metric, mode)


def record_from(
    number: int, state: str, attributes: Mapping[str, Any], params: Mapping[str, Any], metric: str, mode: str
) -> TrialRecord:
    """A trial as a value, from what the study has of it: its state's name, its user attributes and parameters."""
    epochs = sorted(
        (value for key, value in attributes.items() if key.startswith(EPOCH_PREFIX)), key=lambda e: int(e["epoch"])
    )
    best = best_epoch(epochs, metric, mode)
    return TrialRecord(
        number=number,
        state=state,
        config=attributes.get("config", params),
        seed=attributes.get("seed"),
        value=best[metric] if best is not None else None,
        best_epoch=best["epoch"] if best is not None else None,
        epochs=tuple(epochs),
        model_sha256=attributes.get(MODEL_SHA256),
        # A driver may have died between the reason and the end, and the trial gone well when it was run again.
        failure=attributes.get("failure") if state == "FAIL" else None,
    )


def result_problem(result: Mapping[str, Any]) -> str | None:
    """Why a reported epoch can't be taken: the trial's own failure, or a metric that is no finite number."""
    if "failure" in result:
        return str(result["failure"])
    for name in REPORTED:
        value = result.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            said = f"is {value!r}" if name in result else "is missing"
            return f"{name} of epoch {result.get('epoch', '?')} {said}; it must be a finite number"
    return None


def best_epoch(epochs: Sequence[Mapping[str, Any]], metric: str, mode: str) -> Mapping[str, Any] | None:
    """The epoch of the greatest merit, the earliest of equals; None without epochs."""
    return max(epochs, key=lambda epoch: merit(epoch, metric, mode), default=None)
