"""Score a finished sweep's best model again, with `evaluate`'s metric.

python -m tune.evaluate RUN                     on the test split, as in the report
python -m tune.evaluate RUN --split validation
python -m tune.evaluate RUN --data FILE         on a file of your own with the same columns
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from trainable.data.formats import FileOptions
from trainable.data.load import TextData, load_file
from trainable.data.splits import SPLITS, Split
from trainable.data.unpacking import UTF_8
from trainable.errors import UserError
from trainable.metrics import METRICS, F1Average
from trainable.redaction import plain
from tune.process.command import exit_code_of
from tune.process.surroundings import get_ready
from tune.report.files import write_report
from tune.report.results import read_report
from tune.run_dir.finished_run import AGAIN, open_finished
from tune.run_dir.layout import RunDir, open_run_dir

if TYPE_CHECKING:
    from trainable.train.scoring import Scored
    from tune.report.results import Intervals


def evaluate_run(run: str | Path, split: str = "test", data_file: str | Path | None = None) -> dict[str, Any]:
    """Score RUN/best on a split of the sweep's data, or on a file.

    Args:
        run: The run directory, or its URL.
        split: `train`, `validation` or `test`.
        data_file: A labelled file with the same columns, which is scored instead of a split.

    Returns:
        The scores by name, `rows`, and `interval`: the 95 % intervals of accuracy and F1, as in report.json.

    Raises:
        UserError: The run directory or the file has problems; the error has all of them.
    """
    run_dir = open_finished(run)
    spec = run_dir.read_spec()
    problems: list[str] = []
    rows = _read_file(Path(data_file), spec, problems) if data_file is not None else _read_split(spec, split, problems)
    if problems or rows is None:
        raise UserError(problems)
    scored, interval = _score(run_dir, spec["resolved"], rows)
    second_opinion = glue_scores(scored.labels, scored.answers, spec["resolved"]["f1"])
    intervals = {} if interval is None else {"interval": interval.model_dump()}
    return {**scored.scores, **second_opinion, "rows": len(rows), **intervals}


def _read_split(spec: Mapping[str, Any], name: str, problems: list[str]) -> Split | None:
    from tune.prepare.inputs import load_spec_data
    from tune.spec.sources import given_from_run
    from tune.spec.sweep_spec import build_spec

    data = load_spec_data(build_spec(given_from_run(spec), problems), problems)
    if data is None:
        return None
    if data.fingerprint != spec["resolved"]["data_fingerprint"]:
        problems.append(f"{spec['dataset']}: the data has changed since the sweep; score a file with --data FILE")
        return None
    if name not in data.splits:
        problems.append(f"the sweep has no {name} split (--test-split none); score a file with --data FILE")
        return None
    return data.splits[name]


def _read_file(path: Path, spec: Mapping[str, Any], problems: list[str]) -> Split | None:
    resolved = spec["resolved"]
    known = TextData(tuple(resolved["text_columns"]), resolved["label_column"], tuple(resolved["label_names"]), {})
    options = FileOptions(spec.get("encoding", UTF_8), spec.get("column_names"))
    return load_file(path, known, problems, options=options)


def _score(run_dir: RunDir, resolved: Mapping[str, Any], rows: Split) -> tuple[Scored, Intervals | None]:
    """Run best/ over the rows on this machine, in float32. `resolved` is that part of spec.yaml."""
    from trainable.data.tokens import load_tokenizer, tokenize
    from trainable.train.scoring import score_model
    from tune.cluster.machine import usable_cores
    from tune.report.intervals import intervals_of

    try:
        tokenizer = load_tokenizer(str(run_dir.best))
    except Exception as error:  # transformers raises many kinds here; each means that the folder is unusable
        raise UserError([f"{run_dir.best}: its tokenizer is damaged; {AGAIN} makes it again"]) from error
    split = tokenize(rows.texts, rows.labels, tokenizer, int(resolved["max_length"]))
    average = cast(F1Average, resolved["f1"])
    names, pad_id = tuple(resolved["label_names"]), cast(int, tokenizer.pad_token_id)
    scored = score_model(str(run_dir.best), names, split, pad_id, average, usable_cores(), use_gpu=True)
    return scored, intervals_of(scored, split, average)


def glue_scores(labels: Sequence[int], answers: Sequence[int], f1_average: str) -> dict[str, float]:
    """Compute the scores from predictions and references with `evaluate`: a second opinion on our own formulas.

    Args:
        labels: The class of each row.
        answers: The class that the model gave it.
        f1_average: `binary` or `macro`.
    """
    os.environ.setdefault("HF_EVALUATE_OFFLINE", "1")
    import evaluate

    module = Path(__file__).parent / "glue_metric" / "glue_metric.py"
    with tempfile.TemporaryDirectory(prefix="ft-metric-") as cache:
        metric = evaluate.load(str(module), f1_average, cache_dir=cache, keep_in_memory=True)
        scores = metric.compute(references=list(labels), predictions=list(answers))
    return {name: float(value) for name, value in scores.items()}


def count_test_read(run: str | Path) -> int | None:
    """Add one to the `test_reads` of the report; returns them, or None where they can't be written."""
    run_dir = open_run_dir(run, reading=True)
    if not run_dir.storage.is_shared_folder:  # what was fetched of an object store is a copy
        return None
    with contextlib.suppress(OSError, UserError), run_dir.held():
        report = read_report(run_dir)
        if report is not None and report.test is not None:
            read = report.model_copy(update={"test_reads": report.test_reads + 1})
            write_report(run_dir, read)
            return read.test_reads
    return None


def agreement(run: str | Path, scores: Mapping[str, Any]) -> str:
    """Say whether new test scores agree with the report's; empty where there is no report."""
    run_dir = open_run_dir(run, reading=True)
    for file in (run_dir.spec_file, run_dir.report_json):
        run_dir.storage.fetch(file)
    report = read_report(run_dir)
    if report is None or report.test is None:
        return ""
    different = [
        f"{name} {told!r} in the report, {scores[name]!r} now"
        for name, told in report.test.scores.items()
        if name in scores and abs(told - scores[name]) > METRICS[name].tolerance
    ]
    return f"differs from report.json: {'; '.join(different)}" if different else "agrees with report.json"


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tune.evaluate", description="Score a finished sweep's best model again.", allow_abbrev=False
    )
    parser.add_argument("run", metavar="RUN", help="the run directory, or its URL")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--split", choices=SPLITS, help="a split of the sweep's data (default: test)")
    which.add_argument("--data", metavar="FILE", help="or a labelled file with the same columns")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; prints the scores as JSON; returns the exit code."""
    if argv is None:
        get_ready(partial(print, file=sys.stderr))
    arguments = make_parser().parse_args(argv)
    return exit_code_of(lambda: _evaluate(arguments))


def _evaluate(arguments: argparse.Namespace) -> int:
    split = arguments.split or "test"
    scores = evaluate_run(arguments.run, split, arguments.data)
    print(json.dumps(scores, indent=2))
    if arguments.data is not None or split != "test":
        return 0
    if (reads := count_test_read(arguments.run)) is not None:
        print(f"the test split was read {reads} times for this run: what is chosen by it, flatters", file=sys.stderr)
    verdict = agreement(arguments.run, scores)
    print(plain(verdict), file=sys.stderr)
    return 1 if verdict.startswith("differs") else 0


if __name__ == "__main__":
    sys.exit(main())
