"""Make a sweep's report and best/ again, also of one that was stopped; or compare several sweeps.

python -m tune.report RUN               report.html, report.json and best/ of what is there
python -m tune.report RUN RUN           side by side, with differences on the same test rows: comparison.html
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from trainable.errors import UserError
from trainable.redaction import plain
from trainable.storage.folders import write_text
from trainable.storage.urls import url_problem
from tune.process.command import exit_code_of
from tune.process.surroundings import get_ready

PAGE_NAME = "comparison.html"


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tune.report",
        description="Make a sweep's report and best/ again, also of one that was stopped; or compare several sweeps.",
        allow_abbrev=False,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run directory, or its URL; several are compared")
    parser.add_argument(
        "--output", metavar="FILE", help=f"where the page of a comparison is written (default: {PAGE_NAME})"
    )
    parser.add_argument("--json", action="store_true", help="print the report, or the comparison, as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    if argv is None:
        get_ready(partial(print, file=sys.stderr))
    arguments = make_parser().parse_args(argv)
    return exit_code_of(lambda: _report(arguments))


def _report(arguments: argparse.Namespace) -> int:
    runs: list[str] = arguments.runs
    problems = [f"{run}: {problem}" for run in runs if (problem := url_problem(run)) is not None]
    if arguments.output is not None and len(runs) == 1:
        problems.append("--output goes with several RUNs; the report of one is written into its run directory")
    output = Path(arguments.output or PAGE_NAME).expanduser()
    if len(runs) > 1 and (output.is_dir() or not output.absolute().parent.is_dir()):
        problems.append(f"--output {output}: {'is a folder' if output.is_dir() else 'its folder is not there'}")
    if len(runs) > 1:
        return _compare(runs, output, arguments.json, problems)
    if problems:
        raise UserError(problems)
    return _report_one(runs[0], arguments.json)


def _report_one(run: str, as_json: bool) -> int:
    """Make the report of one run, and show it."""
    from tune.report.words import conclusion
    from tune.sweep.interim import report_run

    made = report_run(run, partial(print, file=sys.stderr))
    print(
        json.dumps(made.report.as_json(), indent=2) if as_json else plain("\n".join(conclusion(made.report, made.run)))
    )
    if made.test_was_read:
        reads = f"{made.report.test_reads} times" if made.report.test_reads > 1 else "once"
        told = f"the test split was read for this ({reads} so far for this run): what is chosen by it, flatters"
        print(told, file=sys.stderr)
    return 0


def _compare(runs: Sequence[str], output: Path, as_json: bool, problems: list[str]) -> int:
    """Write the page of several runs, and show them."""
    from tune.report.comparison import compare_runs
    from tune.report.comparison_words import comparison_page, table

    comparison = compare_runs([run for run in runs if url_problem(run) is None], problems)
    try:
        write_text(output, comparison_page(comparison))
    except OSError as error:
        raise UserError([f"--output {output}: {error.strerror or error}"]) from error
    print(comparison.model_dump_json(indent=2) if as_json else "\n".join(table(comparison)))
    print(f"page: {output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
