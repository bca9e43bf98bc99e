"""What the study says of each trial, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from trainable.errors import UserError
from trainable.metrics import merit

if TYPE_CHECKING:
    import optuna

STUDY_NAME = "sweep"  # study.db holds one study, whatever the sweep is called
EPOCH_PREFIX = "epoch "  # user attribute "epoch 3" holds the metrics of epoch 3


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    state: COMPLETE, PRUNED, FAIL or RUNNING; value: the objective at the best epoch; epochs: metrics of each epoch run
    best_epoch: 1-based; seconds: training and evaluation; failure: the reason in a line
    """

    number: int
    state: str
    config: Mapping[str, Any]
    seed: int | None
    value: float | None
    best_epoch: int | None
    epochs: tuple[Mapping[str, Any], ...]
    failure: str | None = None

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


def open_study(path: Path, mode: str) -> optuna.Study:
    """The study in a SQLite file, made where there is none yet; mode is "max" or "min".

    Raises UserError where the file holds no study.
    """
    import optuna
    from sqlalchemy.exc import DatabaseError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{quote(str(path))}", engine_kwargs={"connect_args": {"timeout": 60}}
        )
        return optuna.create_study(
            storage=storage,
            study_name=STUDY_NAME,
            direction="maximize" if mode == "max" else "minimize",
            load_if_exists=True,
        )
    except DatabaseError as error:
        raise UserError([f"{path} is damaged or no study: {error.orig}"]) from error


def read_records(study: optuna.Study, metric: str, mode: str) -> tuple[TrialRecord, ...]:
    """Every trial of the study, in the order of numbers."""
    return tuple(record_of(trial, metric, mode) for trial in study.get_trials(deepcopy=False))


def record_of(trial: optuna.trial.FrozenTrial, metric: str, mode: str) -> TrialRecord:
    """One trial of the study as a value."""
    attributes = trial.user_attrs
    epochs = sorted(
        (value for key, value in attributes.items() if key.startswith(EPOCH_PREFIX)), key=lambda e: int(e["epoch"])
    )
    best = best_epoch(epochs, metric, mode)
    return TrialRecord(
        number=trial.number,
        state=trial.state.name,
        config=attributes.get("config", trial.params),
        seed=attributes.get("seed"),
        value=best[metric] if best is not None else None,
        best_epoch=best["epoch"] if best is not None else None,
        epochs=tuple(epochs),
        failure=attributes.get("failure"),
    )


def best_epoch(epochs: Sequence[Mapping[str, Any]], metric: str, mode: str) -> Mapping[str, Any] | None:
    """The epoch of the greatest merit, the earliest of equals; None without epochs."""
    return max(epochs, key=lambda epoch: merit(epoch, metric, mode), default=None)
