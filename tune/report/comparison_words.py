"""A comparison of sweeps as a table on the terminal, and as a page."""

from __future__ import annotations

from trainable.redaction import one_line
from tune.report.comparison import ComparedRun, PairedDifference, SideBySide
from tune.report.templating import rendered
from tune.report.text import clock, short

TITLES_OF_RUNS = ("run", "model", "trials", "training", "validation", "test", "95 %", "trained again", "95 %")


def table(comparison: SideBySide) -> list[str]:
    """The runs as lines of a table, what each searched, and the differences in sentences."""
    rows = [TITLES_OF_RUNS, *(tuple(map(one_line, cells(run))) for run in comparison.runs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(TITLES_OF_RUNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for run in comparison.runs:
        lines += ["", f"{run.run}: {short(run.config)}", f"  searched {space(run)}, on {run.dataset}"]
        if run.unfinished is not None:
            lines.append(f"  WARNING: {run.unfinished}")
    lines += ["", *map(sentence, comparison.pairs), *(f"note: {note}" for note in comparison.notes)]
    return [one_line(line) for line in lines]


def cells(run: ComparedRun) -> tuple[str, ...]:
    """The row of a run, under TITLES_OF_RUNS."""
    metric, test, recipe = run.metric, run.test, run.recipe
    ends = None if test is None or test.interval is None else test.interval.of(metric)
    return (
        run.run,
        run.model,
        f"{run.trials} + {run.fresh_runs}" if run.fresh_runs else str(run.trials),
        clock(run.train_s),
        f"{metric} {run.validation[metric]:.4f}",
        "no test split" if test is None else f"{test.scores[metric]:.4f}",
        _between(ends),
        "" if recipe is None else f"{recipe.mean:.4f} ({recipe.seeds} seeds)",
        "" if recipe is None else _between(recipe.interval),
    )


def _between(ends: list[float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"


def space(run: ComparedRun) -> str:
    """What a run searched, in a line."""
    return " ".join(f"{name}={domain}" for name, domain in run.space.items())


def sentence(pair: PairedDifference) -> str:
    """A difference in words."""
    low, high = pair.interval
    if max(pair.first_seeds, pair.second_seeds) < 2:
        of = "of these two models alone"
    else:
        of = f"{_models(pair.first_seeds)} against {_models(pair.second_seeds)}"
    return (
        f"{pair.first} minus {pair.second}: {pair.metric} {pair.difference:+.4f} ({low:+.4f} to {high:+.4f}) "
        f"on the same {pair.rows} test rows, {of}; the first is better with probability {pair.probability_better:.2f}"
    )


def _models(seeds: int) -> str:
    return "one model" if not seeds else f"{seeds} fresh seed{'' if seeds == 1 else 's'}"


def comparison_page(comparison: SideBySide) -> str:
    """The page, which needs nothing else."""
    rows = [(run, cells(run), space(run)) for run in comparison.runs]
    return rendered("comparison.html.j2", rows=rows, headings=TITLES_OF_RUNS, comparison=comparison, sentence=sentence)
