"""What `tune.search.run` gives back to Python."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.errors import UserError
from trainable.metrics import METRICS
from tune.run_dir.finished_run import AGAIN, open_finished

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class SweepResult(Mapping[str, Any]):
    """What a sweep gave. As a mapping it is the report, with the keys of report.json."""

    def __init__(self, report: Mapping[str, Any], out: str | Path) -> None:
        """Hold a report and the run directory that it lies in."""
        self.report = dict(report)
        self.out = out

    @classmethod
    def open(cls, run: str | Path) -> SweepResult:
        """Read the result of a sweep that has ended.

        Args:
            run: The run directory, or its URL.

        Raises:
            UserError: It holds no result, or a damaged one.
        """
        run_dir = open_finished(run)
        report = run_dir.read_report()
        if report is None:
            raise UserError([f"{run_dir.name}: holds no report yet; {AGAIN} makes it"])
        return cls(report, run)

    @property
    def best(self) -> str:
        """The folder of the best model, which `transformers.pipeline` opens; a URL where the run directory is one."""
        return f"{self.out}/best"

    @property
    def config(self) -> dict[str, Any]:
        """The winner's hyperparameters."""
        return dict(self.report["best"]["config"])

    @property
    def validation(self) -> dict[str, float]:
        """The winner's scores on the validation split, by which it was chosen."""
        return dict(self.report["best"]["validation"])

    @property
    def test(self) -> dict[str, float] | None:
        """The winner's scores on the test split, and their rows; None where no test split was wanted."""
        return None if self.report["test"] is None else dict(self.report["test"])

    def trials(self) -> DataFrame:
        """The trials as a table.

        Returns:
            A row for each trial, by its number. It has the trial's `state`, its hyperparameters
            (`config.learning_rate`, ...) and the scores of its best epoch on the validation split (`f1`, ...). `value`
            is the objective, `seconds` are those of training and evaluation, and `confirms` is the trial that it
            trains again from a fresh seed. There are `best_epoch`, `epochs_run`, `seed`, `collapsed` (into one class)
            and `failure`, too.
        """
        import pandas as pd

        rows = [_trial_row(trial) for trial in self.report["trials"]]
        plain = ["best_epoch", "epochs_run", "seed", "confirms"]
        table = pd.DataFrame(rows).set_index("number")
        return table.astype(dict.fromkeys(plain, "Int64"))  # integers, though some are missing

    def figures(self) -> dict[str, Figure]:
        """The charts of report.html by name, such as `learning_curves`; those with nothing to show are left out."""
        from tune.report.charts import figures
        from tune.report.results import SweepReport

        return figures(SweepReport.from_json(self.report))

    def best_model(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Load the best model, to be used at once or trained further.

        Returns:
            The model, in float32 on the CPU and in evaluation mode, with the class names in `model.config.id2label`;
            and its tokenizer. `transformers.pipeline("text-classification", model=model, tokenizer=tokenizer)` takes
            both.

        Raises:
            UserError: The folder of the best model is gone or damaged.
        """
        from transformers import AutoModelForSequenceClassification

        from trainable.data.tokens import load_tokenizer

        folder = str(open_finished(self.out).best)  # what lies at a URL is fetched
        model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
        return model.eval(), load_tokenizer(folder)

    def __getitem__(self, key: str) -> Any:
        return self.report[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.report)

    def __len__(self) -> int:
        return len(self.report)

    def __repr__(self) -> str:
        scores = self.test or self.validation
        metric = self.report["metric"]
        where = "test" if self.test else "validation"
        trials = len(self.report["trials"])
        return f"<SweepResult: {metric} {scores[metric]:.4f} on {where}, best of {trials} trials, model in {self.best}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return f"<p>{escape(repr(self))}</p>{self.trials()._repr_html_()}"


def _trial_row(trial: Mapping[str, Any]) -> dict[str, Any]:
    epochs = {epoch["epoch"]: epoch for epoch in trial.get("epochs", [])}
    scores = epochs.get(trial["best_epoch"], {}).get("scores", {})
    return {
        "number": trial["number"],
        "state": trial["state"],
        **{f"config.{name}": value for name, value in trial["config"].items()},
        **{name: scores.get(name, math.nan) for name in METRICS},
        **{name: trial[name] for name in ("value", "best_epoch", "epochs_run", "seconds", "seed")},
        **{name: trial.get(name) for name in ("confirms", "collapsed", "failure")},
    }
