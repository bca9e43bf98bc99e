"""Publish a finished sweep's best model on the Hugging Face hub.

python -m tune.publish RUN user/name --dry-run    show what would go out; needs no network
python -m tune.publish RUN user/name              show it, ask, and upload it into a private repository
python -m tune.publish RUN user/name --public
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trainable.errors import UserError, shown
from trainable.redaction import plain
from tune.process.command import exit_code_of
from tune.process.surroundings import get_ready

CARD_LINES = 20  # of the card's page that are shown


@dataclass(frozen=True)
class Publication:
    """What goes out: nothing but the files that are listed here."""

    repo: str
    files: Mapping[str, Path | bytes]
    """Paths or contents, by their names in the repository."""
    card: str
    """README.md, which is among the files."""

    def lines(self) -> list[str]:
        """What goes out, as the user sees it."""
        sizes = {
            name: file.stat().st_size if isinstance(file, Path) else len(file) for name, file in self.files.items()
        }
        page = self.card.split("---\n", 2)[-1].strip().splitlines()
        more = [f"  ... ({len(page) - CARD_LINES} more lines)"] if len(page) > CARD_LINES else []
        files = [f"  {size:>13,} bytes  {name}" for name, size in sizes.items()]
        return [
            f"to {self.repo}:",
            *files,
            "README.md begins with:",
            *(f"  {line}" for line in page[:CARD_LINES]),
            *more,
        ]


def make_publication(run: str | Path, repo: str) -> Publication:
    """List what goes out.

    Args:
        run: The run directory, or its URL.
        repo: NAMESPACE/NAME on the hub.

    Raises:
        UserError: The name can't be one, or the run directory holds no whole result.
    """
    from trainable.hub.model_folder import TOKENIZER_FILES
    from tune.report.model_card import public_card
    from tune.report.results import read_report
    from tune.run_dir.finished_run import AGAIN, open_finished
    from tune.run_dir.layout import METRICS_OF_BEST, MODEL_ONNX, WEIGHTS

    problems = [] if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repo) else [f"{shown(repo)} is no name like user/name"]
    try:
        run_dir = open_finished(run)
    except UserError as error:
        raise UserError([*problems, *error.problems]) from error
    report = read_report(run_dir)
    if report is None:
        problems.append(f"{run_dir.name}: has no report yet; {AGAIN} goes on")
    if problems or report is None:
        raise UserError(problems)
    card = public_card(report, run_dir.read_spec(), repo)
    names = ("config.json", WEIGHTS, *TOKENIZER_FILES, METRICS_OF_BEST, MODEL_ONNX)
    files = {name: run_dir.best / name for name in names if (run_dir.best / name).is_file()}
    return Publication(repo, {"README.md": card.encode(), **files}, card)


def publish(publication: Publication, private: bool, is_sure: bool) -> int:
    """Show what goes out and where, ask, and upload it.

    Args:
        publication: What goes out.
        private: Whether only its owners see a new repository.
        is_sure: Whether nobody is asked.

    Returns:
        The exit code: 0 once it is on the hub, 1 if the user said no.

    Raises:
        UserError: There is no account, it has no right to that name, or the hub refuses the upload.
    """
    from trainable.hub.download import HubError
    from trainable.hub.upload import find_account, find_visibility, upload

    try:
        account = find_account()
        namespace = publication.repo.partition("/")[0]
        if namespace not in (account.name, *account.organizations):
            known = ", ".join((account.name, *account.organizations))
            raise UserError([f"{publication.repo}: the account {account.name} has no right to it; it has: {known}"])
        there = find_visibility(publication.repo)
        kind = "private" if (private if there is None else there) else "public"
        state = "a new repository" if there is None else "a new commit in the repository that exists"
        print(plain(f"account {account.name}; {state}, {kind}"), flush=True)
        if not is_sure and input("Upload? [y/N] ").strip().lower() not in ("y", "yes"):
            print("Nothing was uploaded.")
            return 1
        print(plain(upload(publication.repo, publication.files, private, "Publish the winner of a search")))
    except HubError as error:
        raise UserError([str(error)]) from error
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tune.publish", description="Publish a finished sweep's best model on the hub.",
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("run", metavar="RUN", help="the run directory, or its URL")
    parser.add_argument("repo", metavar="USER/NAME", help="the repository; it is made if there is none")
    parser.add_argument("--public", action="store_true", help="let everybody see a new repository (default: private)")
    parser.add_argument("--yes", action="store_true", help="upload without asking")
    parser.add_argument("--dry-run", action="store_true", help="show what would go out, and end; needs no network")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    if argv is None:
        get_ready(partial(print, file=sys.stderr))
    given = make_parser().parse_args(argv)
    return exit_code_of(lambda: _publish(given))


def _publish(given: argparse.Namespace) -> int:
    if not (given.dry_run or given.yes or sys.stdin.isatty()):
        raise UserError(["there is no terminal on which to ask; --yes uploads without asking, --dry-run only shows"])
    publication = make_publication(given.run, given.repo)
    print(plain("\n".join(publication.lines())), flush=True)
    if given.dry_run:
        print("Nothing was uploaded.")
        return 0
    return publish(publication, private=not given.public, is_sure=given.yes)


if __name__ == "__main__":
    sys.exit(main())
