"""Search hyperparameters: plan, launch, continue or extend a sweep.

python -m tune.search                                   the demo, offline, a few minutes on two cores
python -m tune.search --preset mrpc                     bert-base-uncased on the hub's glue/mrpc
python -m tune.search --dataset FOLDER --model M        your own data: train, validation, test as .csv, ...
python -m tune.search SPEC.yaml --num-trials 40         the same command again goes on where it stopped
python -m tune.search SPEC.yaml --out /S/run --submit   on a Ray cluster; --attach, --stop, --status RUN
"""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from trainable.errors import FinetuneSearchError, RayDied, SweepFailed, SweepInterrupted, SweepStopped, UserError
from trainable.redaction import plain
from trainable.storage.folders import sweep_asides
from trainable.storage.trouble import storage_told
from trainable.storage.urls import is_url, url_problem
from tune.process.restart import continuing_command, restart
from tune.process.signals import Signals, end_at_once, heed_signals
from tune.process.watch import Watch
from tune.run_dir.layout import LOG, open_run_dir
from tune.spec.flags import Action, Request, parse
from tune.spec.sources import Given, given_from_python
from tune.spec.sweep_spec import SweepSpec, build_spec, spec_as_yaml_values

if TYPE_CHECKING:
    from tune.prepare.identity import StoredSweep
    from tune.prepare.inputs import Inputs
    from tune.prepare.launch import Launch
    from tune.run_dir.layout import RunDir


def run(
    spec: SweepSpec | Mapping[str, Any] | str | None = None,
    out: str | Path | None = None,
    *,
    fresh: bool = False,
    allow_new_space: bool = False,
) -> dict[str, Any]:
    """Run, continue or extend a sweep and return its report, as report.json holds it.

    spec: a SweepSpec, a mapping of its fields (with `preset` to start from one), a YAML file's path, a preset's name,
        or None for the demo
    out: the run directory, by default runs/<name>
    fresh: move a run directory that exists aside and start over
    allow_new_space: go on although the space was changed

    Raises UserError with every problem of the input before anything starts, SweepFailed where no trial finished,
    SweepStopped where it ended before its time and the same call goes on.
    """
    problems: list[str] = []
    given = Given(spec_as_yaml_values(spec)) if isinstance(spec, SweepSpec) else given_from_python(spec, problems)
    spec = build_spec(given, problems)
    if out is not None and (problem := url_problem(out)) is not None:
        problems.append(f"out {problem}")
    folder = Path("runs") / spec.name if out is None or problems else out
    return _run(Request(spec, folder, fresh, allow_new_space), problems)


def _run(
    request: Request, problems: list[str], give_up: Callable[[RayDied], None] = lambda error: None
) -> dict[str, Any]:
    began = time.monotonic()
    run_dir = open_run_dir(request.out)
    out = run_dir.name if is_url(request.out) else request.out  # as it was given, but for a URL's options
    run_dir.refuse_if_locked()
    from tune.prepare.check import check_request

    inputs, stored = check_request(request, run_dir, problems)
    if request.fresh and not request.plan_only:
        with storage_told(run_dir.name):
            run_dir.move_aside()
    from tune.cluster.alive import what_died
    from tune.cluster.connect import connected
    from tune.report.finished import finished_report
    from tune.report.words import conclusion, plan_lines

    spec = inputs.spec
    finished = finished_report(run_dir, stored.records, spec.num_trials)
    if finished is not None:
        print(f"nothing left to do: all {spec.num_trials} trials are finished; --num-trials N goes on to N")
        print(plain("\n".join(conclusion(finished, run_dir.name))))
        return finished.as_json()

    def ray_died(reason: str) -> RayDied:
        return RayDied(f"{reason}; what is finished is kept in {out}")

    watch = Watch(what_died, lambda reason: give_up(ray_died(reason)))
    with contextlib.suppress(KeyboardInterrupt), storage_told(run_dir.name), connected(spec) as nodes, watch:
        from tune.prepare.launch import measure_gpus, plan_launch, sweep_files

        launch = plan_launch(spec, files := sweep_files(inputs, run_dir), nodes)
        if spec.gpus_per_trial == "auto":
            measured = measure_gpus(inputs, run_dir, stored, launch, print)
            launch = plan_launch(spec, files, launch.nodes_now(), measured, launch.facts)
        if not request.plan_only:
            return _sweep(inputs, stored, run_dir, launch, began)
        print(plain("\n".join(plan_lines(inputs, launch, run_dir))))
        return {}
    # Out here the interrupt is over, and with it go its frames, which hold Tune's controller and its workers' places.
    gc.collect()
    if watch.reason is not None:
        raise ray_died(watch.reason)
    raise SweepInterrupted(f"stopped; what is finished is kept in {out}")


def _sweep(inputs: Inputs, stored: StoredSweep, run_dir: RunDir, launch: Launch, began: float) -> dict[str, Any]:
    from tune.prepare.identity import spec_document
    from tune.prepare.launch import make_job
    from tune.prepare.precision import Precision, choose_precision
    from tune.report.files import write_best, write_report
    from tune.report.finished import known_test_scores
    from tune.report.progress import Progress
    from tune.report.results import build_report, read_report
    from tune.report.words import conclusion, introduction
    from tune.sweep.final_score import get_ready_to_score, score_on_test
    from tune.sweep.run_trials import run_trials
    from tune.sweep.searcher import TrialBook

    spec, plan = inputs.spec, launch.plan
    with run_dir.locked():
        sweep_asides(run_dir.root)
        run_dir.write_spec(spec_document(inputs, stored.sweep_id, stored.precision))
        book = TrialBook(spec, run_dir)
        with Progress(spec, run_dir.log_file, book.records()) as progress:
            for line in introduction(inputs, plan, run_dir.name):
                progress.say(line)
            if launch.measured is not None:
                progress.say(f"{plan.gpus_per_trial:g} GPU a trial ({launch.measured.why})")
            if stored.precision is None:
                measured_in = launch.measured.precision if launch.measured else None
                chosen = measured_in or choose_precision(spec.precision, plan, inputs.shape, progress.say)
                progress.say(f"precision {chosen.name} ({chosen.why})")
            else:
                chosen = Precision(stored.precision, "as before")
            job = make_job(inputs, plan, run_dir, stored.sweep_id, chosen.name)
            if job.train.truncated:
                progress.say(f"note: {job.train.truncated} training rows were cut to {inputs.max_length} tokens")
            run_dir.publish_progress()  # a spec with a precision promises a study
            run_dir.write_spec(spec_document(inputs, stored.sweep_id, chosen.name))
            if book.finished:
                progress.say(f"going on: {book.finished} trials are finished, {book.remaining} are left")
            heed_signals()
            run_trials(spec, plan, job, run_dir, book, progress, meanwhile=lambda: get_ready_to_score(plan))
            heed_signals()
            progress.end_table()
            records, winner = book.records(), book.leader
            if winner is None:
                failed = [record for record in records if record.failure]
                logs = [run_dir.storage.name_of(run_dir.failure(record.number)) for record in failed]
                told = zip(failed[:5], logs, strict=False)
                reasons = [f"\n  trial {record.number}: {record.failure}; log: {log}" for record, log in told]
                raise SweepFailed(f"no trial finished: {len(failed)} of {len(records)} failed{''.join(reasons)}")
            test = known_test_scores(run_dir, winner)
            if test is None:
                folder = run_dir.model(winner.number)
                run_dir.storage.fetch(folder)
                test = score_on_test(plan, job, str(folder), inputs.tokenize("test"), progress.say)
            earlier = read_report(run_dir)  # of a part of this sweep that ended before it was extended
            wall_s = time.monotonic() - began + (earlier.wall_s if earlier else 0.0)
            report = build_report(inputs, stored.sweep_id, chosen.name, records, winner, test, wall_s)
            write_best(run_dir, report)
            book.keep_only_what_was_asked_for()
            write_report(run_dir, report)
            for line in conclusion(report, run_dir.name):
                progress.say(line)
    return report.as_json()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    out: str | Path = Path()
    with Signals() as signals:
        try:
            problems: list[str] = []
            request = parse(words, problems)
            if request.action is not None:
                return _act(request.action, request.submit, problems)
            if request.submit is not None:
                from tune.cluster.jobs import submit

                return submit(request, words, problems)
            out = request.out
            _run(request, problems, give_up=lambda error: _restart_or_exit(request, words, error))
        except UserError as error:
            print(f"{error}\nNothing was started. See --help.", file=sys.stderr)
            return error.exit_code
        except SweepStopped as error:
            if isinstance(error, RayDied):
                _restart_or_exit(request, words, error)
            print(error, file=sys.stderr)
            print(f"Go on with: {continuing_command(words)}", file=sys.stderr)
            return error.exit_code if signals.received is None else 128 + signals.received
        except FinetuneSearchError as error:
            print(error, file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            return 128 + (signals.received or signal.SIGINT)
        except Exception:
            _tell_our_mistake(out)
            return 1
    return 0


def _act(action: Action, server: str | None, problems: list[str]) -> int:
    """Do what --status, --attach or --stop asks for; returns the exit code."""
    if problems:
        raise UserError(problems)
    try:
        if action.name == "status":
            from tune.report.status_words import show

            return show(action.sweep)
        from tune.cluster import jobs

        return (jobs.attach if action.name == "attach" else jobs.stop)(action.sweep, server)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _restart_or_exit(request: Request, words: Sequence[str], error: RayDied) -> NoReturn:
    """What is left where Ray died: a private one is started anew, for a cluster that is the user's to do.

    Without any cleaning up, for which Ray's libraries may wait for ever, or end the process.
    """
    print(error, file=sys.stderr, flush=True)
    if request.spec.address is None:
        restart()
    print(f"Go on with: {continuing_command(words)}", file=sys.stderr, flush=True)
    end_at_once(RayDied.exit_code)


def _tell_our_mistake(out: str | Path) -> None:
    trace = plain(traceback.format_exc())
    print(f"{trace}This is a mistake of ours, not yours. What is finished is kept in {out}", end="", file=sys.stderr)
    log = Path(out) / LOG
    with contextlib.suppress(OSError):
        if log.is_file():
            with log.open("a", encoding="utf-8") as file:
                file.write(trace)
            print(f"; log: {log}", end="", file=sys.stderr)
    print(file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
