"""Search hyperparameters: plan, launch, continue or extend a sweep.

python -m tune.search                                   the demo, offline, a few minutes on two cores
python -m tune.search --preset mrpc                     bert-base-uncased on the hub's glue/mrpc
python -m tune.search --dataset FOLDER --model M        your own data: train, validation, test as .csv, ...
python -m tune.search SPEC.yaml --num-trials 40         the same command again goes on where it stopped
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from trainable.errors import FinetuneSearchError, SweepFailed, SweepInterrupted, UserError, nearest
from trainable.files import is_unicode
from tune.spec import (
    FIELDS,
    OPTIONAL,
    Given,
    SweepSpec,
    build_spec,
    given_from_file,
    given_from_preset,
    merge,
    preset_names,
)

if TYPE_CHECKING:
    from tune.prepare import Prepared

FLAGS = (
    "model", "dataset", "text_columns", "label_column", "num_trials", "metric", "mode", "gpus_per_trial",
    "cpus_per_trial", "max_concurrent", "scheduler", "sampler", "precision", "address", "train_rows", "seed",
)  # fmt: skip


def run(spec: SweepSpec | Mapping[str, Any] | str | None = None, out: str | Path | None = None) -> dict[str, Any]:
    """Run, continue or extend a sweep and return its report, as report.json holds it.

    spec: a SweepSpec, a mapping of its fields (with `preset` to start from one), a YAML file's path, a preset's name,
        or None for the demo
    out: the run directory, by default runs/<name>

    Raises UserError with every problem of the input before anything starts, SweepFailed where no trial finished.
    """
    problems: list[str] = []
    if not isinstance(spec, SweepSpec):
        spec = build_spec(_given(spec, problems), problems)
    return _run(spec, Path(out) if out is not None else Path("runs") / spec.name, problems)


def _run(spec: SweepSpec, out: Path, problems: list[str]) -> dict[str, Any]:
    from tune.prepare import prepare

    began = time.monotonic()
    prepared = prepare(spec, out, problems)
    from tune.cluster import connected

    finished = prepared.finished_report()
    if finished is not None:
        print(f"nothing left to do: all {spec.num_trials} trials are finished; --num-trials N goes on to N")
        print("\n".join(prepared.conclusion(finished)))
        return finished
    try:
        with connected(spec) as nodes:
            return _sweep(prepared, nodes, began)
    except KeyboardInterrupt:
        raise SweepInterrupted(f"stopped; the same command goes on from {out}") from None


def _sweep(prepared: Prepared, nodes: Sequence[Any], began: float) -> dict[str, Any]:
    from tune.confirmation import score_on_test
    from tune.plan import make_plan
    from tune.progress import Progress
    from tune.report import build_report, write_report
    from tune.searcher import TrialBook
    from tune.sweep import choose_precision, run_trials

    spec, run_dir = prepared.spec, prepared.run_dir
    problems: list[str] = []
    plan = make_plan(spec, nodes, problems)
    if problems:
        raise UserError(problems)
    with run_dir.locked():
        job = prepared.job(plan)
        stored = prepared.stored_precision()
        book = TrialBook(spec, run_dir)
        with Progress(spec, run_dir.log_file, book.finished) as progress:
            for line in prepared.introduction(plan):
                progress.say(line)
            if stored is None:
                precision, why = choose_precision(spec, plan, job)
                progress.say(f"precision {precision} ({why})")
            else:
                precision = stored
            job = dataclasses.replace(job, precision=precision)  # type: ignore[arg-type]
            prepared.write_spec(precision)
            if book.finished:
                progress.say(f"{book.finished} of {spec.num_trials} trials are finished already")
            run_trials(spec, plan, job, run_dir, book, progress)
            records, winner = book.records(), book.leader
            if winner is None:
                reasons = "".join(
                    f"\n  trial {r.number}: {r.failure}; log: {run_dir.failure(r.number)}" for r in records[:5]
                )
                raise SweepFailed(f"no trial finished: all {len(records)} failed{reasons}")
            test = prepared.known_test_scores(winner)
            if test is None:
                test = score_on_test(plan, job, str(run_dir.model(winner.number)), prepared.tokenize_test())
            report = build_report(prepared, precision, records, winner, test, time.monotonic() - began)
            write_report(run_dir, report)
            for line in prepared.conclusion(report):
                progress.say(line)
    return report


# The command line


class _Parser(argparse.ArgumentParser):
    """Reports what it can't parse as a problem among the others, instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UserError([message])


def make_parser() -> argparse.ArgumentParser:
    """The command line; every flag's value stays text, so that all of them can be checked together."""
    parser = _Parser(
        prog="python -m tune.search",
        description="Search the hyperparameters of a fine-tuned text classifier.",
        epilog="Without arguments: the demo, offline. The same command on the same --out goes on where it stopped.",
        allow_abbrev=False,
    )
    parser.add_argument("spec", nargs="?", metavar="SPEC.yaml", help="where the settings start from")
    parser.add_argument("--preset", metavar="NAME", help=f"or a preset: {', '.join(preset_names())} (default: demo)")
    parser.add_argument("--out", metavar="DIR", help="the run directory (default: runs/<preset or spec name>)")
    parser.add_argument(
        "--space",
        action="append",
        default=[],
        metavar="NAME=SPEC",
        help="log:1e-5..1e-4, 0.0..0.1, 2..5 (integers), 8,16,32 (choices), 0.01 (fixed); repeatable",
    )
    parser.add_argument("--points", metavar="FILE.json", help="configurations to try first")
    for name in FLAGS:
        parser.add_argument(_flag(name), dest=name, metavar=_metavar(name), help=FIELDS[name][1].replace("%", "%%"))
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"any other field of the spec: {', '.join(sorted(set(FIELDS) - set(FLAGS)))}",
    )
    return parser


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _metavar(name: str) -> str:
    return {"text_columns": "A[,B]", "label_column": "Y"}.get(name, name.rpartition("_")[2].upper())


def parse(argv: Sequence[str], problems: list[str]) -> tuple[SweepSpec, Path]:
    """The spec and the run directory that a command line asks for; what is wrong is appended to `problems`."""
    parser = make_parser()
    flags = [option for action in parser._actions for option in action.option_strings]
    try:
        arguments, unexpected = parser.parse_known_args(_known_words(argv, flags, problems))
    except UserError as error:
        problems += error.problems
        arguments, unexpected = parser.parse_known_args([])
    problems += [f"unexpected argument {word!r}" for word in unexpected]
    given: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name in (*FLAGS, "points"):
        if getattr(arguments, name) is not None:
            given[name], origins[name] = getattr(arguments, name), _flag(name)
    for text in arguments.set:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            problems.append(f"--set {text}: write key=value")
        elif key == "space":
            problems.append(f"--set {text}: use --space NAME=SPEC")
        else:
            none = key in OPTIONAL and value.lower() in ("none", "null")
            given[key], origins[key] = (None if none else value), f"--set {key}:"
    for text in arguments.space:
        key, equals, value = text.partition("=")
        if not equals:
            problems.append(f"--space {text}: write NAME=SPEC, like learning_rate=log:1e-5..1e-4")
        else:
            given.setdefault("space", {})[key.strip()] = value
            origins[f"space.{key.strip()}"] = f"--space {text}"
    if arguments.spec is not None and arguments.preset is not None:
        problems.append("give SPEC.yaml or --preset, not both; a YAML file can name its preset itself")
    spec = build_spec(_under(arguments.spec, arguments.preset, Given(given, origins), problems), problems)
    if arguments.out is None:
        return spec, Path("runs") / spec.name
    out = os.path.expanduser(arguments.out)
    if not out.strip() or out.startswith("~") or not is_unicode(out):
        problems.append(f"--out must be a folder, but got {arguments.out!r}")
        return spec, Path("runs") / spec.name
    return spec, Path(out)


def _known_words(argv: Sequence[str], flags: Sequence[str], problems: list[str]) -> list[str]:
    """The command line less unknown flags with their values and flags that lack theirs, which are told.

    argparse stops at the first flag without a value, and takes an unknown flag's value for SPEC.yaml.
    """
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        flag, equals, _ = word.partition("=")
        if not word.startswith("-") or word in ("-h", "--help"):
            words.append(word)
            continue
        has_value = not equals and bool(rest) and not rest[0].startswith("--")
        value = rest.pop(0) if has_value else None
        if flag not in flags:
            problems.append(f"unknown flag {flag}; {nearest(flag, flags)}")
        elif value is None and not equals:
            problems.append(f"{flag} needs a value")
        else:
            words.append(word if value is None else f"{word}={value}")
    return words


def _under(file: str | None, preset: str | None, above: Given, problems: list[str]) -> Given:
    if file is not None:
        return merge(given_from_file(Path(file), problems), above)
    if preset is None and "dataset" in above.values:
        return above
    return merge(given_from_preset(preset if preset is not None else "demo", problems), above)


def _given(spec: Mapping[str, Any] | str | None, problems: list[str]) -> Given:
    if isinstance(spec, Mapping):
        values = {key: value for key, value in spec.items() if key != "preset"}
        return _under(None, spec.get("preset"), Given(values, {}), problems)
    if spec is None or spec in preset_names():
        return _under(None, spec, Given({}, {}), problems)
    return _under(str(spec), None, Given({}, {}), problems)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    out = Path()
    try:
        problems: list[str] = []
        spec, out = parse(sys.argv[1:] if argv is None else argv, problems)
        _run(spec, out, problems)
    except UserError as error:
        print(f"{error}\nNothing was started. See --help.", file=sys.stderr)
        return error.exit_code
    except FinetuneSearchError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception:
        traceback.print_exc()
        print(f"This is a mistake of ours, not yours. What is finished is kept in {out}", end="", file=sys.stderr)
        log = out / "log.txt"
        if log.is_file():
            with log.open("a", encoding="utf-8") as file:
                traceback.print_exc(file=file)
            print(f"; log: {log}", end="", file=sys.stderr)
        print(file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
