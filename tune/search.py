"""Search hyperparameters: plan, launch, continue or extend a sweep.

python -m tune.search                                   the demo, offline, a few minutes on two cores
python -m tune.search --preset mrpc                     bert-base-uncased on the hub's glue/mrpc
python -m tune.search --dataset FOLDER --model M        your own data: train, validation, test as .csv, ...
python -m tune.search SPEC.yaml --num-trials 40         the same command again goes on where it stopped
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.errors import FinetuneSearchError, SweepFailed, SweepInterrupted, UserError
from trainable.plain import plain
from trainable.storage import sweep_asides
from tune.flags import given_from_python, parse
from tune.spec import Given, SweepSpec, build_spec, spec_as_yaml_values

if TYPE_CHECKING:
    from tune.prepare import Prepared


def run(spec: SweepSpec | Mapping[str, Any] | str | None = None, out: str | Path | None = None) -> dict[str, Any]:
    """Run, continue or extend a sweep and return its report, as report.json holds it.

    spec: a SweepSpec, a mapping of its fields (with `preset` to start from one), a YAML file's path, a preset's name,
        or None for the demo
    out: the run directory, by default runs/<name>

    Raises UserError with every problem of the input before anything starts, SweepFailed where no trial finished.
    """
    problems: list[str] = []
    given = Given(spec_as_yaml_values(spec), {}) if isinstance(spec, SweepSpec) else given_from_python(spec, problems)
    spec = build_spec(given, problems)
    return _run(spec, Path(out) if out is not None else Path("runs") / spec.name, problems)


def _run(spec: SweepSpec, out: Path, problems: list[str]) -> dict[str, Any]:
    from tune.prepare import prepare

    began = time.monotonic()
    prepared = prepare(spec, out, problems)
    from tune.cluster import connected

    finished = prepared.finished_report()
    if finished is not None:
        print(f"nothing left to do: all {spec.num_trials} trials are finished; --num-trials N goes on to N")
        print(plain("\n".join(prepared.conclusion(finished))))
        return finished
    with contextlib.suppress(KeyboardInterrupt), connected(spec) as nodes:
        return _sweep(prepared, nodes, began)
    # Out here the interrupt is over, and with it go its frames, which hold Tune's controller and its workers' places.
    gc.collect()
    raise SweepInterrupted(f"stopped; the same command goes on from {out}")


def _sweep(prepared: Prepared, nodes: Sequence[Any], began: float) -> dict[str, Any]:
    from tune.confirmation import get_ready_to_score, score_on_test
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
        sweep_asides(run_dir.root)
        stored = prepared.stored_precision()
        prepared.write_spec(stored)
        job = prepared.job(plan)
        book = TrialBook(spec, run_dir)
        with Progress(spec, run_dir.log_file, book.records()) as progress:
            for line in prepared.introduction(plan):
                progress.say(line)
            if job.train.truncated:
                progress.say(f"note: {job.train.truncated} training rows were cut to {prepared.max_length} tokens")
            if stored is None:
                precision, why = choose_precision(spec, plan, prepared.shape)
                progress.say(f"precision {precision} ({why})")
            else:
                precision = stored
            job = dataclasses.replace(job, precision=precision)  # type: ignore[arg-type]
            prepared.write_spec(precision)
            if book.finished:
                progress.say(f"going on: {book.finished} trials are finished, {book.remaining} are left")
            run_trials(spec, plan, job, run_dir, book, progress, meanwhile=lambda: get_ready_to_score(plan))
            progress.end_table()
            records, winner = book.records(), book.leader
            if winner is None:
                failed = [record for record in records if record.failure]
                reasons = [f"\n  trial {r.number}: {r.failure}; log: {run_dir.failure(r.number)}" for r in failed[:5]]
                raise SweepFailed(f"no trial finished: {len(failed)} of {len(records)} failed{''.join(reasons)}")
            test = prepared.known_test_scores(winner)
            if test is None:
                test = score_on_test(plan, job, str(run_dir.model(winner.number)), prepared.tokenize_test())
            report = build_report(prepared, precision, records, winner, test, time.monotonic() - began)
            write_report(run_dir, report)
            for line in prepared.conclusion(report):
                progress.say(line)
    return report


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
        trace = plain(traceback.format_exc())
        print(
            f"{trace}This is a mistake of ours, not yours. What is finished is kept in {out}", end="", file=sys.stderr
        )
        log = out / "log.txt"
        if log.is_file():
            with log.open("a", encoding="utf-8") as file:
                file.write(trace)
            print(f"; log: {log}", end="", file=sys.stderr)
        print(file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
