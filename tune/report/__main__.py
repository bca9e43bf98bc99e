"""Make a sweep's report and best/ again, also of one that was stopped; or compare several sweeps.

python -m tune.report RUN               report.html, report.json and best/ of what is there
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial

from trainable.errors import UserError
from trainable.redaction import plain
from trainable.storage.urls import url_problem
from tune.process.command import exit_code_of
from tune.process.surroundings import get_ready


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tune.report",
        description="Make a sweep's report and best/ again, also of one that was stopped.",
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="a run directory, or its URL")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    if argv is None:
        get_ready(partial(print, file=sys.stderr))
    arguments = make_parser().parse_args(argv)
    return exit_code_of(lambda: _report_one(arguments.run, arguments.json))


def _report_one(run: str, as_json: bool) -> int:
    """Make the report of one run, and show it."""
    if (problem := url_problem(run)) is not None:
        raise UserError([f"{run}: {problem}"])
    from tune.report.words import conclusion
    from tune.sweep.interim import report_run

    made = report_run(run, partial(print, file=sys.stderr))
    if as_json:
        print(json.dumps(made.report.as_json(), indent=2))
    else:
        print(plain("\n".join(conclusion(made.report, made.run))))
    if made.test_was_read:
        reads = f"{made.report.test_reads} times" if made.report.test_reads > 1 else "once"
        told = f"the test split was read for this ({reads} so far for this run): what is chosen by it, flatters"
        print(told, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
