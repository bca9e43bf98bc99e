"""The answer of a sweep in plain words: what won, what it scores, against what, at what cost, and what is wrong."""

from __future__ import annotations

from trainable.metrics import METRICS
from tune.report.charts.style import winner_of
from tune.report.results import SweepReport
from tune.report.text import clock, compact

LEAST_TOLD_POINTS = 0.05  # by which a score was too good
BADLY_CALIBRATED = 0.05  # of the expected calibration error


def answer(report: SweepReport) -> list[str]:
    """The answer, a sentence or two each: what won, its score, what that is compared with, what it cost."""
    return [text for text in (_what_won(report), *_score(report), *_compared(report), _cost(report)) if text]


def troubles(report: SweepReport) -> list[str]:
    """What is wrong with the result, a sentence each; none where nothing is that we look for."""
    found = [f"{text}." for text in report.warnings]
    if report.test is None:
        found.append("There was no test split: the winner was chosen on the validation scores, so they flatter it.")
    elif report.test.never_predicted:
        names = report.test.never_predicted
        found.append(f"It never answers {', '.join(names[:5])}{f' and {len(names) - 5} more' if names[5:] else ''}.")
    optimism = report.optimism
    if optimism is not None and optimism.seed is not None and optimism.total >= LEAST_TOLD_POINTS:
        found.append(f"The score that the search found it with was too good by about {optimism.total:.1f} points.")
    if report.answers is not None and (error := report.answers.calibration.error) >= BADLY_CALIBRATED:
        found.append(
            f"Its probabilities are off by {100 * error:.0f} points on average: do not take them at their word."
        )
    if collapsed := [row.number for row in report.searched if row.collapsed]:
        found.append(f"{_times(len(collapsed), 'trial')} of the search collapsed to one class.")
    return found


def _what_won(report: SweepReport) -> str:
    named = report.best.config.named()
    words = [f"{name.replace('_', ' ')} {'none' if value is None else compact(value)}" for name, value in named.items()]
    return (
        f"Of {_times(len(report.searched), 'trial')}, trial {winner_of(report)} won: it fine-tunes {report.model} on "
        f"{report.dataset} with {', '.join(words)}."
    )


def _score(report: SweepReport) -> list[str]:
    metric, title, test = report.metric, METRICS[report.metric].heading(report.f1_average), report.test
    if test is None:
        rows, score = report.rows.get("validation", 0), report.best.validation[metric]
        found = [f"Its {title} on the {rows:,} validation texts by which it was chosen is {score:.4f}."]
    else:
        ends = test.interval.of(metric) if test.interval is not None else None
        level = "" if test.interval is None else f"{100 * test.interval.level:g} % interval"
        between = "" if ends is None else f"; on others such as these, {ends[0]:.4f} to {ends[1]:.4f} ({level})"
        found = [
            f"On {test.rows:,} test texts that no decision has seen, its {title} is {test.scores[metric]:.4f}{between}."
        ]
    if (recipe := report.recipe) is not None:
        span = "" if recipe.interval is None else f" ({recipe.interval[0]:.4f} to {recipe.interval[1]:.4f})"
        found.append(
            f"Training the same configuration again gives {recipe.mean:.4f}{span} on {recipe.on}, the mean of "
            f"{_times(recipe.seeds, 'fresh seed')}."
        )
    return found


def _compared(report: SweepReport) -> list[str]:
    found = []
    default = report.default
    if default is not None and default.is_winner:
        found.append("The winner is the untuned default: the search has found nothing better.")
    elif default is not None:
        low, high = default.interval or (None, None)
        ends = "" if low is None else f" ({low:+.4f} to {high:+.4f})"
        better = default.probability_better
        sure = "" if better is None else f"; it is better with probability {better:.2f}"
        found.append(
            f"Against the untuned default (trial {default.trial}) that is {default.difference:+.4f}{ends} on "
            f"{default.on}{sure}."
        )
    metric, split = METRICS[report.metric], "validation" if report.test is None else "test"
    guess = metric.majority_score(report.majority.validation if report.test is None else report.majority.test)
    if guess is not None:
        found.append(f"Always answering the most frequent class would give {guess:.4f} on {split}.")
    return found


def _cost(report: SweepReport) -> str:
    again = [row for row in report.trials if row.confirms is not None]
    workers = len({(span.host, span.slot) for span in report.timeline})
    where = f" on {_times(workers, 'worker')}" if workers else ""
    fresh = f", {clock(sum(row.seconds for row in again))} of it for {_times(len(again), 'fresh run')}" if again else ""
    early = "".join(f" {why[0].upper()}{why[1:]}." for why in report.why_it_ended)
    return f"This took {clock(report.wall_s)}{where}: {clock(report.train_s)} of training and evaluation{fresh}.{early}"


def _times(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
