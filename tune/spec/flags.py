"""The command line of `tune.search`. Every value stays text until all of them are checked together.

The flags, what --help says of them and their defaults are read off the fields of `SweepSpec` that carry a `Flag` mark.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic.fields import FieldInfo

from trainable.data.file_checks import is_unicode
from trainable.errors import UserError, shown
from trainable.fields import choices_in_words, takes_integers, takes_numbers, takes_on_off
from trainable.storage.urls import is_url, url_problem
from tune.spec.field_types import flag_name, flag_of
from tune.spec.hints import hint_for
from tune.spec.sources import Given, given_from_flags, preset_names
from tune.spec.sweep_spec import OPTIONAL, SweepSpec, build_spec

SWITCHES = {
    "--fresh": "start over; what --out holds is moved aside, never deleted",
    "--allow-new-space": "go on with a sweep although the space was changed",
    "--plan": "say what would be done, how long it takes and what it costs, by a few steps that are measured; nothing "
    "is trained or written",
    "--json": "with --plan: print one JSON object with every number, and nothing else",
}

_FINISH_HELP = "with --stop RUN: end the search now, and make best/ and the report from the trials that are done"

_TRIAL_HELP = "with --reproduce RUN: the trial's number (default: the winner's)"
_OUTPUT_HELP = "with --reproduce RUN: the file for the script, which is printed otherwise"

ActionName = Literal["attach", "stop", "status", "reproduce"]
ACTIONS: dict[ActionName, tuple[str, str]] = {
    "attach": ("ID", "follow the log of a sweep that was submitted"),
    "stop": (
        "RUN|ID",
        "stop a sweep in order, by its run directory on this machine or its job's ID; its command goes on later",
    ),
    "status": (
        "RUN",
        "tell the state of the sweep in a run directory: exit code 0 finished, 3 running, 4 stopped, 5 failed",
    ),
    "reproduce": (
        "RUN",
        "run one trial of a sweep again, say whether it gives the same numbers (exit code 0) or not (1), and write a "
        "script of torch and transformers alone that trains the same",
    ),
}
"""Flags that act on a sweep that exists already, instead of running one: what their value is called, and their help."""


@dataclass(frozen=True)
class Action:
    """What to do with a sweep that exists already."""

    name: ActionName
    """attach, stop, status or reproduce."""
    sweep: str
    """The sweep: a run directory for status, stop and reproduce, a job's ID for attach and stop."""
    finish: bool = False
    """Whether stop is to end the search alone, and to make best/ and the report from what is done."""
    trial: int | None = None
    """The trial that reproduce runs again; None means the winner."""
    output: str | None = None
    """Where reproduce writes its script; None prints it."""


@dataclass(frozen=True)
class Request:
    """What a command line asks for: to run a sweep, or an action on one that exists."""

    spec: SweepSpec
    """What to search."""
    out: str | Path
    """The run directory; text if it is the URL of an object store."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where the settings come from that were given, by field; those from Python have none."""
    fresh: bool = False
    """Whether to move an earlier sweep in the run directory aside and start over."""
    allow_new_space: bool = False
    """Whether an earlier sweep goes on although its search space was another one."""
    plan_only: bool = False
    """Whether to say what would be done, and to do nothing."""
    as_json: bool = False
    """Whether to say it as a JSON object."""
    submit: str | None = None
    """Address of the job server that the sweep is handed to, "" for the default one; None runs it from here."""
    action: Action | None = None
    """What to do instead of running a sweep."""
    command: str | None = None
    """As it was typed; None where Python called."""


class _Parser(argparse.ArgumentParser):
    """Reports what it can't parse as a problem among the others, instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UserError([message])


def parse(
    argv: Sequence[str], problems: list[str], stored_spec: Callable[[str], str | None] = lambda out: None
) -> Request:
    """What a command line asks for.

    Args:
        argv: The words of the command line.
        problems: What is wrong with them is appended here.
        stored_spec: Gives the specification of the sweep in a run directory, so that --out alone goes on with it; None
            where there is none.
    """
    parser = make_parser()
    arguments, unexpected = _parsed(parser, argv, problems)
    problems += [f"unexpected argument {shown(word)}" for word in unexpected]
    action = _action(arguments, problems)
    if arguments.finish and (action is None or not action.finish):
        problems.append("--finish goes with --stop RUN")
    if action is None or action.name != "reproduce":
        lone = [name for name in ("trial", "output") if getattr(arguments, name) is not None]
        problems += [f"--{name} goes with --reproduce RUN" for name in lone]
    if action is not None:
        problems += _others_beside(action, argv, arguments.spec)
    if arguments.spec is not None and arguments.preset is not None:
        problems.append("give SPEC.yaml or --preset, not both; a YAML file can name its preset itself")
    flags = _given_by_flags(arguments, problems)
    if arguments.spec is None and arguments.preset is None and not {"model", "dataset"} & flags.values.keys():
        arguments.spec = stored_spec(arguments.out) if arguments.out is not None else None
        if arguments.fresh and arguments.spec is not None:
            own = f"python -m tune.search {shlex.quote(arguments.spec)} --out {shlex.quote(arguments.out)} --fresh"
            problems.append(f"--fresh starts over with settings that the command names; with the sweep's own: {own}")
    if arguments.submit is not None and action is None:
        if "address" in flags.values:
            problems.append(
                "give --submit or --address, not both: what is submitted runs on the job server's own cluster"
            )
        flags = Given({**flags.values, "address": "auto"}, {**flags.origins, "address": "--submit"})
    given = given_from_flags(arguments.spec, arguments.preset, flags, problems)
    spec = build_spec(given, problems)
    out = _run_directory(arguments.out, spec, problems)
    if arguments.plan and arguments.submit is not None:
        problems.append("--plan goes without --submit: it plans for this machine, or for the cluster at --address")
    if arguments.json and not arguments.plan:
        problems.append("--json goes with --plan")
    return Request(
        spec, out, given.origins, arguments.fresh, arguments.allow_new_space, arguments.plan, arguments.json,
        arguments.submit, action, shlex.join(["python", "-m", "tune.search", *argv]),
    )  # fmt: skip


GROUPS: dict[str, tuple[str, ...]] = {
    "what to search (the common ones)": (
        "model", "dataset", "train", "out", "num_trials", "space", "metric", "plan", "json",
    ),
    "the data": (
        "validation", "test", "encoding", "column_names", "text_columns", "label_column", "strict_labels",
        "skip_labels", "skip_blank_rows", "strict_data", "test_split", "train_rows", "validation_rows", "max_length",
    ),
    "the search": (
        "preset", "points", "repeat_configurations", "scheduler", "sampler", "seed", "mode", "precision", "confirm",
        "final", "set",
    ),
    "when the search ends": (
        "time_budget", "gpu_hours", "max_cost", "price_per_gpu_hour", "target", "until_stable",
    ),
    "machines": (
        "gpus_per_trial", "cpus_per_trial", "max_concurrent", "accelerator", "address", "max_retries", "submit",
    ),
    "the run directory": (
        "fresh", "allow_new_space", "keep_top", "checkpoint_budget", "export", "no_examples", "log_to", "status",
        "stop", "finish", "attach", "reproduce", "trial", "output",
    ),
}  # fmt: skip
"""The flags as --help shows them, by the names of their values."""

EXAMPLES = """\
examples:
  python -m tune.search                                             the demo: offline, minutes on two cores
  python -m tune.search --dataset reviews.csv --model bert-base-uncased --num-trials 20 --plan
  python -m tune.search --out runs/reviews --num-trials 40          go on with a sweep, with its own settings

The same command on the same --out goes on where it stopped. docs/data.md says which files are read.
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line; it checks no value."""
    parser = _Parser(
        prog="python -m tune.search",
        usage="python -m tune.search [SPEC.yaml] [--flag VALUE ...]",
        description="Search the hyperparameters of a fine-tuned text classifier.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("spec", nargs="?", metavar="SPEC.yaml", help="where the settings start from")
    parser.add_argument("--version", action="version", version=f"finetune-search {version('finetune-search')}")
    flags = _flags()
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names:
            group.add_argument(f"--{name.replace('_', '-')}", **flags[name])
    return parser


def _flags() -> dict[str, dict[str, Any]]:
    """What argparse is told of each flag, by the flag's name without dashes."""
    flags: dict[str, dict[str, Any]] = {
        "train": {"metavar": "FILE", "help": "the training split as one file; the same as --dataset FILE"},
        "preset": {"metavar": "NAME", "help": f"a job that is ready: {', '.join(preset_names())} (default: demo)"},
        "out": {
            "metavar": "DIR",
            "help": "the run directory, or a URL like s3://bucket/prefix (default: runs/<preset or spec name>); alone, "
            "it goes on with the sweep that is there",
        },
        "space": {
            "action": "append",
            "default": [],
            "metavar": "NAME=SPEC",
            "help": "log:1e-5..1e-4, 0.0..0.1, 2..5 (integers), 8,16,32 (choices), 0.01 (fixed); repeatable",
        },
        "points": {"metavar": "FILE.json", "help": "configurations to try first"},
        "submit": {
            "nargs": "?",
            "const": "",
            "metavar": "ADDRESS",
            "help": "run the sweep as a job of the Ray cluster whose job server is there (default: "
            "http://127.0.0.1:8265) and follow its log; Ctrl-C detaches",
        },
    }
    for name, info in _fields_with_flags().items():
        value: dict[str, Any] = {"metavar": _metavar(name, info)}
        if takes_on_off(info):
            value = {"action": "store_const", "const": "true"}
        elif getattr(flag_of(info), "repeatable", False):
            value["action"] = "append"
        flags[flag_name(name)[2:].replace("-", "_")] = {"dest": name, "help": _help(name, info), **value}
    others = sorted(SweepSpec.model_fields.keys() - _fields_with_flags().keys() - {"space", "points"})
    help_of_set = f"any other field of the spec: {', '.join(others)}"
    flags["set"] = {"action": "append", "default": [], "metavar": "KEY=VALUE", "help": help_of_set}
    for switch, text in SWITCHES.items():
        flags[switch[2:].replace("-", "_")] = {"action": "store_true", "help": text}
    flags["finish"] = {"action": "store_true", "help": _FINISH_HELP}
    flags["trial"] = {"metavar": "N", "help": _TRIAL_HELP}
    flags["output"] = {"metavar": "FILE", "help": _OUTPUT_HELP}
    for action, (metavar, text) in ACTIONS.items():
        flags[action] = {"metavar": metavar, "help": text}
    return flags


def _fields_with_flags() -> dict[str, FieldInfo]:
    return {name: field for name, field in SweepSpec.model_fields.items() if flag_of(field) is not None}


def _metavar(name: str, field: FieldInfo) -> str:
    flag = flag_of(field)
    if flag is not None and flag.metavar is not None:
        return flag.metavar
    if takes_integers(field):
        return "N"
    return "X" if takes_numbers(field) else name[0].upper()


def _help(name: str, field: FieldInfo) -> str:
    """A field's documentation as --help has it, with its choices and its default."""
    text = " ".join((field.description or "").split()).rstrip(".")
    text = text[0].lower() + text[1:] if text[1:2].islower() else text
    text, _, default = text.partition(" (default: ")  # a default that hangs on something else is told in words
    choices = choices_in_words(field)
    if choices:
        text += f": {choices}"
    if default:
        text += f" (default: {default}"
    elif field.default not in (None, False) and not field.is_required():
        text += f" (default: {field.default})"
    return text.replace("%", "%%")


def _parsed(
    parser: argparse.ArgumentParser, argv: Sequence[str], problems: list[str]
) -> tuple[argparse.Namespace, list[str]]:
    known_flags = [option for action in parser._actions for option in action.option_strings]
    try:
        return parser.parse_known_args(_known_words(argv, known_flags, problems))
    except UserError as error:
        problems += error.problems
        return parser.parse_known_args([])


def _known_words(argv: Sequence[str], flags: Sequence[str], problems: list[str]) -> list[str]:
    """The command line without unknown flags and without flags that lack their value; both are told as problems.

    argparse itself would stop at the first flag without a value, and take the value of an unknown flag for SPEC.yaml.
    """
    words: list[str] = []
    rest = list(argv)
    switches = {*SWITCHES, *(flag_name(name) for name, field in _fields_with_flags().items() if takes_on_off(field))}
    while rest:
        word = rest.pop(0)
        flag, equals, _ = word.partition("=")
        if not word.startswith("-") or word in ("-h", "--help", "--version", "--finish", *switches):
            words.append(word)
            continue
        has_value = not equals and bool(rest) and not rest[0].startswith("--")
        if flag == "--submit" and not equals:  # its value may be left out, and the next word be SPEC.yaml
            is_server = has_value and re.search(r"://|:[0-9]+/?$", rest[0]) is not None
            words.append(f"{flag}={rest.pop(0) if is_server else ''}")
            continue
        value = rest.pop(0) if has_value else None
        if flag not in flags:
            problems.append(f"unknown flag {_cut(flag)}; {hint_for(flag, _value_of(word, value), flags)}")
        elif value is None and not equals:
            problems.append(f"{flag} needs a value")
        else:
            words.append(word if value is None else f"{word}={value}")
    return words


def _value_of(word: str, value: str | None) -> str | None:
    """The value of an unknown flag, if it is short and could be one."""
    found = word.partition("=")[2] or value
    return found if found and len(found) <= 40 else None


def _cut(text: str) -> str:
    """Text from the command line as errors show it, cut where it is long."""
    return text if len(text) <= 200 else f"{text[:200]}..."


def _given_by_flags(arguments: argparse.Namespace, problems: list[str]) -> Given:
    """The settings that the flags give, with --set and --space."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name in (*_fields_with_flags(), "points"):
        if getattr(arguments, name) is not None:
            values[name], origins[name] = getattr(arguments, name), flag_name(name)
    if arguments.train is not None and "dataset" in values:
        problems.append("give --train or --dataset, not both; --validation and --test go with either")
    elif arguments.train is not None:
        values["dataset"], origins["dataset"] = arguments.train, "--train"
    for text in arguments.set:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            problems.append(f"--set {_cut(text)}: write key=value")
        elif key == "space":
            problems.append(f"--set {_cut(text)}: use --space NAME=SPEC")
        else:
            is_none = key in OPTIONAL and value.lower() in ("none", "null")
            values[key], origins[key] = (None if is_none else value), f"--set {_cut(key)}"
    for text in arguments.space:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals:
            problems.append(f"--space {_cut(text)}: write NAME=SPEC, like learning_rate=log:1e-5..1e-4")
        else:
            values.setdefault("space", {})[key] = value
            origins[f"space.{key}"] = f"--space {_cut(text)}"
    return Given(values, origins)


def _action(arguments: argparse.Namespace, problems: list[str]) -> Action | None:
    """The action that a flag asks for; the first one where several do."""
    asked = [(name, getattr(arguments, name)) for name in ACTIONS if getattr(arguments, name) is not None]
    if not asked:
        return None
    name, sweep = asked[0]
    if name != "reproduce":
        return Action(name, sweep, finish=arguments.finish and name == "stop")
    number = arguments.trial
    if number is not None and not (number.isascii() and number.isdigit()):
        problems.append(f"--trial must be a trial's number, but got {shown(number)}")
        number = None
    return Action(name, sweep, trial=None if number is None else int(number), output=arguments.output)


def _others_beside(action: Action, argv: Sequence[str], spec: str | None) -> list[str]:
    """The problem with words that mean nothing beside an action."""
    flag = flag_name(action.name)
    beside = {"status": (), "stop": ("--submit", "--finish"), "reproduce": ("--trial", "--output")}
    allowed = (flag, *beside.get(action.name, ("--submit",)))
    flags = [word.partition("=")[0] for word in argv if word.startswith("--")]
    others = [shown(spec)] * (spec is not None) + [_cut(word) for word in flags if word not in allowed]
    goes = {"status": "stands alone", "reproduce": "goes with --trial N and --output FILE alone"}.get(
        action.name, "goes with --submit ADDRESS alone"
    )
    return [f"{flag} {goes}; leave out {', '.join(others)}"] if others else []


def _run_directory(given: str | None, spec: SweepSpec, problems: list[str]) -> str | Path:
    """The run directory that --out names; the default one where it names none, or a wrong one."""
    default = Path("runs") / spec.name
    if given is None:
        return default
    out = os.path.expanduser(given)
    if not out.strip() or out.startswith("~") or "\0" in out or not is_unicode(out):
        problems.append(f"--out must be a folder, but got {shown(given)}")
        return default
    problem = url_problem(out)
    if problem is not None:
        problems.append(f"--out {problem}")
        return default
    return out if is_url(out) else Path(out)
