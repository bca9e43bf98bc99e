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
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from trainable.errors import FinetuneSearchError, RayDied, SweepFailed, SweepInterrupted, SweepStopped, UserError
from trainable.redaction import plain
from trainable.storage.folders import sweep_asides
from trainable.storage.trouble import storage_told
from trainable.storage.urls import is_url, url_problem
from tune.process.restart import continuing_command, reporting_command, restart_or_exit
from tune.process.signals import Signals, ask_to_finish, finish_asked, heed_signals
from tune.process.surroundings import get_ready
from tune.process.watch import Watch
from tune.report.sweep_result import SweepResult
from tune.run_dir.layout import open_run_dir, stored_spec
from tune.spec.flags import Action, Request, parse
from tune.spec.in_memory import is_in_memory, write_tables
from tune.spec.sources import Given, given_from_python, merge
from tune.spec.sweep_spec import SweepSpec, build_spec, spec_as_yaml_values

if TYPE_CHECKING:
    from tune.cluster.nodes import Node
    from tune.prepare.identity import StoredSweep
    from tune.prepare.inputs import Inputs
    from tune.prepare.launch import Launch
    from tune.report.results import SweepReport
    from tune.run_dir.layout import RunDir


def run(
    spec: SweepSpec | Mapping[str, Any] | str | None = None,
    out: str | Path | None = None,
    *,
    fresh: bool = False,
    allow_new_space: bool = False,
    **fields: Any,
) -> SweepResult:
    """Run, continue or extend a sweep.

    Args:
        spec: A SweepSpec, a mapping of its fields (with `preset` to start from one), the path of a YAML file, the name
            of a preset, or None for the demo.
        out: The run directory, or its URL in an object store; by default runs/<name>.
        fresh: Move a run directory that exists aside, and start over.
        allow_new_space: Continue a sweep although the space was changed.
        fields: Fields of the specification, over those of `spec`: `model=..., space={...}`. `dataset` may also be a
            pandas DataFrame, a `datasets.Dataset` or `DatasetDict`, a `pyarrow.Table`, or a mapping from split names to
            them; it is written as parquet files into a folder beside the run directory.

    Returns:
        The report, as report.json holds it, with the folder of the best model.

    Raises:
        UserError: The input has problems; the error has all of them, and nothing was started.
        SweepFailed: No trial finished.
        SweepStopped: The sweep ended early; the same call continues it.
    """
    problems: list[str] = []
    given = Given(spec_as_yaml_values(spec)) if isinstance(spec, SweepSpec) else given_from_python(spec, problems)
    preset = fields.pop("preset", None)
    above = {name: os.fspath(value) if isinstance(value, Path) else value for name, value in fields.items()}
    if spec is None and preset is not None:
        given = given_from_python({"preset": preset}, problems)
    elif spec is None and "dataset" in above:
        given = Given({})  # nothing of the demo
    tables = above.get("dataset") if is_in_memory(above.get("dataset")) else None
    if tables is not None:
        above["dataset"] = "sweep"  # the folder's name follows from the run directory's
    given = merge(given, Given(above))
    spec = build_spec(given, problems)
    folder: str | Path = Path("runs") / spec.name
    if out is not None:
        if (problem := url_problem(out)) is not None:
            problems.append(f"out {problem}")
        else:
            folder = out
    if tables is not None:
        spec = _with_tables(spec, tables, folder, problems)
    return SweepResult(_run(Request(spec, folder, given.origins, fresh, allow_new_space), problems), folder)


def _with_tables(spec: SweepSpec, tables: Any, out: str | Path, problems: list[str]) -> SweepSpec:
    """The specification with the folder into which the tables were written."""
    if is_url(out):
        problems.append("dataset: tables in memory need a run directory on a disk; write them to files for a URL")
        return spec
    data = Path(f"{os.path.normpath(out)}-data")
    write_tables(tables, data, problems)
    return spec.model_copy(update={"dataset": str(data)})


def _run(
    request: Request, problems: list[str], give_up: Callable[[RayDied], None] = lambda error: None
) -> dict[str, Any]:
    """Check the request, connect to Ray, plan, and search. `give_up` is called where Ray is dead and Tune hangs."""
    began = time.monotonic()
    run_dir = open_run_dir(request.out)
    run_dir.refuse_if_locked()
    from tune.prepare.check import check_request

    inputs, stored = check_request(request, run_dir, problems)
    if request.fresh and not request.plan_only:
        with storage_told(run_dir.name):
            run_dir.move_aside()
    from tune.cluster.alive import what_died
    from tune.cluster.connect import connected
    from tune.report.finished import finished_report
    from tune.report.text import no_trial_is_left
    from tune.report.words import no_trial_finished, nothing_left_to_do
    from tune.run_dir.records import every_trial_failed
    from tune.sweep.onnx_model import export_finished

    report = finished_report(run_dir, stored.records, inputs.spec, inputs.spec.no_examples)
    if report is not None:
        if not request.plan_only:
            with storage_told(run_dir.name):
                report = export_finished(report, inputs, stored, run_dir, lambda line: print(plain(line), flush=True))
        lines = nothing_left_to_do(report, inputs.spec, run_dir.name)
        print(json.dumps({"finished": True, "note": lines[0]}) if request.as_json else plain("\n".join(lines)))
        return report.as_json()
    if every_trial_failed(stored.records, inputs.spec.num_trials):
        raise SweepFailed(f"{no_trial_finished(stored.records, run_dir)}\n{no_trial_is_left(inputs.spec.num_trials)}")
    kept = f"what is finished is kept in {run_dir.name if is_url(request.out) else request.out}"
    watch = Watch(what_died, lambda reason: give_up(RayDied(f"{reason}; {kept}")))
    if request.spec.address is None:  # the time in which Ray starts is enough for it
        from trainable.model.classifier import import_code_of

        Thread(target=import_code_of, args=[str(inputs.model.path)], daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt), storage_told(run_dir.name), connected(inputs.spec) as nodes, watch:
        say = partial(print, file=sys.stderr) if request.as_json else print
        launch = _plan(inputs, stored, run_dir, nodes, say)
        if not request.plan_only:
            return _search(inputs, stored, run_dir, launch, began, request.command).as_json()
        return _show_plan(inputs, stored, run_dir, launch, began, request.as_json, say)
    # The interrupt is handled and its frames are gone. They held Tune's controller, which holds places in the cluster.
    gc.collect()
    if watch.reason is not None:
        raise RayDied(f"{watch.reason}; {kept}")
    raise SweepInterrupted(f"stopped; {kept}")


def _show_plan(
    inputs: Inputs,
    stored: StoredSweep,
    run_dir: RunDir,
    launch: Launch,
    began: float,
    as_json: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Print what would be done, how long it takes and what it costs."""
    from tune.estimate.planned import plan_sweep
    from tune.estimate.words import plan_lines

    planned = plan_sweep(inputs, stored, run_dir, launch, began, say)
    found = planned.as_json()
    print(json.dumps(found, indent=1) if as_json else plain("\n".join(plan_lines(planned))))
    return found


def _plan(
    inputs: Inputs, stored: StoredSweep, run_dir: RunDir, nodes: Sequence[Node], say: Callable[[str], None]
) -> Launch:
    """Plan for the nodes and check them; measure a trial's fraction of a GPU where the spec says `auto`."""
    from tune.prepare.launch import measure_gpus, plan_launch, sweep_files

    files = sweep_files(inputs, run_dir)
    launch = plan_launch(inputs.spec, files, nodes)
    if inputs.spec.gpus_per_trial != "auto":
        return launch
    measured = measure_gpus(inputs, run_dir, stored, launch, say)
    return plan_launch(inputs.spec, files, launch.nodes_now(), measured, launch.facts)


def _search(
    inputs: Inputs, stored: StoredSweep, run_dir: RunDir, launch: Launch, began: float, command: str | None
) -> SweepReport:
    """Run the trials that remain, choose the winner, score it on the test split, and write the result."""
    from tune.prepare.identity import spec_document
    from tune.prepare.launch import make_job, rehearse_for_precision
    from tune.report.advice import validation_note
    from tune.report.files import write_best, write_report
    from tune.report.progress import Progress
    from tune.report.score_logs import ScoreLogs
    from tune.report.tensorboard import TensorBoardLog, draw_winner, write_plan
    from tune.report.tracker_log import tracker_logs
    from tune.report.words import conclusion, launch_lines, no_trial_finished
    from tune.sweep.final_score import get_ready_to_score
    from tune.sweep.onnx_model import with_onnx
    from tune.sweep.result import Outcome, make_result
    from tune.sweep.run_trials import run_trials
    from tune.sweep.trial_book import TrialBook

    spec, plan, sweep_id = inputs.spec, launch.plan, stored.sweep_id
    with run_dir.locked():
        sweep_asides(run_dir.root)
        run_dir.write_spec(spec_document(inputs, sweep_id, stored.precision))
        sizes = {name: len(split) for name, split in inputs.data.splits.items()}
        share = sizes.get("test", 0) / sizes["validation"]
        book = TrialBook(spec, run_dir, began, share)
        with (
            Progress(spec, run_dir.log_file, book.records(), test_share=share) as progress,
            tracker_logs(spec, sweep_id, run_dir, book.records(), progress.say) as trackers,
        ):
            lines = launch_lines(inputs, launch, run_dir.name)
            progress.say_each(lines)
            write_plan(run_dir, spec.space, spec.points, [plain(line) for line in lines])
            job = make_job(inputs, plan, run_dir, sweep_id)
            precision = rehearse_for_precision(inputs, job, stored, launch, progress.say).name
            job = replace(job, precision=precision)
            if job.pad_token is not None:
                progress.say(f"note: the tokenizer pads with its end token, {job.pad_token}")
            if job.train.truncated:
                progress.say(f"note: {job.train.truncated} training rows were cut to {inputs.max_length} tokens")
            if costly := validation_note(len(job.train.ids), len(job.validation.ids), len(job.validation)):
                progress.say(costly)
            run_dir.publish_progress()  # whoever reads a spec with a precision expects a study beside it
            run_dir.write_spec(spec_document(inputs, sweep_id, precision))
            if book.finished:
                progress.say(f"going on: {book.finished} trials are finished, {book.remaining} are left")
            if book.models_gone:
                gone = ", ".join(map(str, book.models_gone))
                progress.say(
                    f"note: --keep-top {spec.keep_top} keeps fewer: trials {gone} rank there, but their models "
                    "were removed while fewer were kept"
                )
            heed_signals()
            with book.meter.noted():
                logs = ScoreLogs([TensorBoardLog(run_dir), *trackers], job.label_names)
                run_trials(spec, plan, job, run_dir, book, progress, logs, meanwhile=lambda: get_ready_to_score(plan))
            heed_signals()
            progress.end_table()
            if finish_asked() and book.budget.ended_by is None:
                progress.say(f"finishing now, as asked: {book.finished} of {spec.num_trials} trials are done")
            records, choice = book.records(), book.choose()
            if choice is None:
                raise SweepFailed(no_trial_finished(records, run_dir, book.budget.ended_by, spec))
            used = book.meter.usage
            outcome = Outcome(
                records, choice, used.wall_s, plan, command,
                gpu_hours=used.gpu_s / 3600, budget_ended_by=book.budget.ended_by,
            )  # fmt: skip
            report, model = make_result(inputs, sweep_id, plan, job, run_dir, outcome, progress.say)
            draw_winner(run_dir, model.run.number, job)
            with with_onnx(report, inputs, job.validation, run_dir, model.folder, progress.say) as (report, onnx):
                write_best(run_dir, report, model.folder, model.test_predictions, onnx)
            book.keep_only_what_was_asked_for()
            write_report(run_dir, report)
            for tracker in trackers:
                tracker.result(report)
            progress.say_each(conclusion(report, run_dir.name))
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    may_restart = argv is None  # else this process is another program's, which must not be run again
    out: str | Path = Path()
    if argv is None:
        get_ready(partial(print, file=sys.stderr) if "--json" in words else print)
    with Signals() as signals:
        try:
            problems: list[str] = []
            request = parse(words, problems, stored_spec)
            if request.action is not None and not _is_finished_here(request.action, problems):
                return _act(request.action, request.submit, problems)
            if request.action is not None:
                ask_to_finish()
                request = parse(["--out", request.action.sweep], problems, stored_spec)
            if request.submit is not None:
                from tune.cluster.jobs import submit

                return submit(request, words, problems)
            out = request.out
            restarts = may_restart and request.spec.address is None
            _run(request, problems, give_up=lambda error: restart_or_exit(error, words, restarts))
        except UserError as error:
            print(f"{error}\nNothing was started. See --help.", file=sys.stderr)
            return error.exit_code
        except SweepStopped as error:
            if isinstance(error, RayDied) and may_restart:
                restart_or_exit(error, words, request.spec.address is None)
            print(error, file=sys.stderr)
            print(f"Go on with: {continuing_command(words)}", file=sys.stderr)
            print(f"Report and best/ of what is there: {reporting_command(out)}", file=sys.stderr)
            return error.exit_code if signals.received is None else 128 + signals.received
        except FinetuneSearchError as error:
            print(error, file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            return 128 + (signals.received or signal.SIGINT)
        except Exception:
            from tune.report.our_mistake import tell_our_mistake

            tell_our_mistake(out)
            return 1
    return 0


def _is_finished_here(action: Action, problems: list[str]) -> bool:
    """Whether `--stop RUN --finish` names a sweep that no process runs: this one makes its result then."""
    if problems or not action.finish or stored_spec(action.sweep) is None:
        return False
    return open_run_dir(os.path.expanduser(action.sweep), reading=True).owner() is None


def _act(action: Action, server: str | None, problems: list[str]) -> int:
    """Do what --status, --attach or --stop asks for; returns the exit code."""
    if problems:
        raise UserError(problems)
    try:
        if action.name == "status":
            from tune.report.status_words import show

            return show(action.sweep)
        if action.name == "reproduce":
            from tune.sweep.reproduce import reproduce

            output = None if action.output is None else Path(os.path.expanduser(action.output))
            stream = sys.stderr if output is None else sys.stdout  # what is printed of a script is the script alone
            return reproduce(
                action.sweep, action.trial, output, lambda line: print(plain(line), file=stream, flush=True)
            )
        from tune.cluster import jobs
        from tune.sweep.stop_run import stop_run

        if action.name == "stop" and stored_spec(action.sweep) is not None:
            return stop_run(action.sweep, action.finish)
        if action.finish:
            told = "--finish takes a sweep's run directory, on the machine that runs it: for a job, the cluster's head"
            raise UserError([f"--stop {action.sweep}: no sweep is there. {told}"])
        return (jobs.attach if action.name == "attach" else jobs.stop)(action.sweep, server)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
