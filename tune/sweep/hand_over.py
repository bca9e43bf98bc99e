"""The model that a sweep hands over: the chosen run's, or the average of the winner's fresh runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainable.metrics import merit
from trainable.model.weights import average_models
from trainable.storage.folders import write_folder
from tune.report.results import SplitScores
from tune.run_dir.layout import TEST_PREDICTIONS, RunDir
from tune.run_dir.records import TrialRecord
from tune.spec.sweep_spec import SweepSpec
from tune.sweep.confirmation import Chosen

LEAST_AVERAGED = 2


@dataclass(frozen=True)
class Model:
    """A model on disk, and whose it is."""

    run: TrialRecord
    """The trial that left it; of an average, the run that would have been handed over alone."""
    folder: Path
    """In Hugging Face's format."""
    test_predictions: Path
    """Where its predictions of the test split are written."""
    averaged: tuple[int, ...] = ()
    """The trials whose weights are averaged in it; none where it is one trial's."""
    of_average: dict[str, float] | None = None
    """The scores of an average on the validation split."""

    @property
    def scores(self) -> dict[str, float]:
        """Its scores on the validation split, by name."""
        best = self.run.best
        return self.of_average or (dict(best.scores) if best is not None else {})


def model_to_hand_over(
    choice: Chosen,
    spec: SweepSpec,
    run_dir: RunDir,
    score: Callable[[Path], SplitScores],
    say: Callable[[str], None],
) -> Model:
    """Settle which model is handed over.

    With `--final soup` the weights of the winner's fresh runs are averaged (Wortsman et al., "Model soups", 2022), and
    the average is handed over where it is better on validation than the run that would be handed over alone.

    Args:
        choice: The winner and its runs.
        spec: The sweep's.
        run_dir: Its run directory.
        score: Scores a model on the validation split.
        say: Shows a text to the user.
    """
    run = choice.run
    folder = run_dir.fetch_model(run.number, run.model_sha256) or run_dir.model(run.number)
    alone = Model(run, folder, run_dir.test_predictions(run.number))
    if spec.final != "soup" or run.best is None:
        return alone
    found = [run_dir.fetch_model(each.number, each.model_sha256) for each in choice.runs]
    folders = [folder for folder in found if folder is not None]
    if len(folders) < LEAST_AVERAGED or len(folders) < len(choice.runs):
        say("note: --final soup needs the models of two fresh runs or more; one run is handed over")
        return alone
    soup = run_dir.soup(run.number)
    write_folder(soup, lambda aside: average_models(folders, aside))
    run_dir.storage.publish(soup)
    scored = score(soup)
    better = merit(scored.scores, spec.metric, spec.mode) > run.best.merit(spec.metric, spec.mode)
    word = "handed over" if better else "not handed over"
    say(
        f"the average of {len(folders)} runs has {spec.metric} {scored.scores[spec.metric]:.4f} on validation, and run "
        f"{run.number} alone {run.value:.4f}: the average is {word}"
    )
    if not better:
        run_dir.storage.remove(soup)
        return alone
    numbers = tuple(each.number for each in choice.runs)
    return Model(run, soup, run_dir.trial(run.number) / f"soup_{TEST_PREDICTIONS}", numbers, scored.scores)
