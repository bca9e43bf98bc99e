"""The command line: every flag's value stays text until all of them are checked together."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from trainable.config import TrialConfig
from trainable.data.file_checks import is_unicode
from trainable.errors import UserError, nearest, shown
from trainable.storage.urls import is_url, url_problem
from tune.spec.sweep_spec import (
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

FLAGS = (
    "model", "dataset", "text_columns", "label_column", "num_trials", "metric", "mode", "gpus_per_trial",
    "cpus_per_trial", "max_concurrent", "max_retries", "keep_top", "checkpoint_budget_gb", "scheduler", "sampler",
    "precision", "accelerator", "address", "train_rows", "seed",
)  # fmt: skip
OUT = "the run directory, or a URL like s3://bucket/prefix (default: runs/<preset or spec name>)"
SWITCHES = {
    "--fresh": "start over; what --out holds is moved aside, never deleted",
    "--allow-new-space": "go on with a sweep although the space was changed",
    "--plan": "say what would be done (trials, slots, shares, disk, nodes) and end; nothing is trained or written",
}
ERRANDS = {
    "attach": ("ID", "follow the log of a sweep that was submitted"),
    "stop": ("ID", "stop it in order; its command goes on with it later"),
    "status": ("RUN", "tell the state of the sweep in a run directory: exit code 0 finished, 3 running, 4 stopped"),
}


@dataclass(frozen=True)
class Request:
    """What a command line asks for: a sweep, where, and what to do with one that is there already.

    submit: the job server that the sweep is handed to, "" for the default one; None runs it from here
    errand: one of ERRANDS with its ID or RUN, instead of a sweep
    """

    spec: SweepSpec
    out: str | Path
    fresh: bool = False
    allow_new_space: bool = False
    plan_only: bool = False
    submit: str | None = None
    errand: tuple[str, str] | None = None


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
    parser.add_argument("--out", metavar="DIR", help=OUT)
    parser.add_argument(
        "--space",
        action="append",
        default=[],
        metavar="NAME=SPEC",
        help="log:1e-5..1e-4, 0.0..0.1, 2..5 (integers), 8,16,32 (choices), 0.01 (fixed); repeatable",
    )
    parser.add_argument("--points", metavar="FILE.json", help="configurations to try first")
    for name in FLAGS:
        default = getattr(SweepSpec, name, None) if name != "mode" else None  # it hangs on the metric
        shown = FIELDS[name][1] + (f" (default: {default})" if default is not None else "")
        parser.add_argument(_flag(name), dest=name, metavar=_metavar(name), help=shown.replace("%", "%%"))
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"any other field of the spec: {', '.join(sorted(set(FIELDS) - set(FLAGS)))}",
    )
    for switch, shown in SWITCHES.items():
        parser.add_argument(switch, action="store_true", help=shown)
    parser.add_argument(
        "--submit",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="run the sweep as a job of the Ray cluster whose job server is there (default: http://127.0.0.1:8265) and "
        "follow its log; Ctrl-C detaches",
    )
    for name, (metavar, shown) in ERRANDS.items():
        parser.add_argument(_flag(name), metavar=metavar, help=shown)
    return parser


def _cut(text: str) -> str:
    """What was typed, cut where it is long."""
    return text if len(text) <= 200 else f"{text[:200]}..."


def _flag(name: str) -> str:
    return "--" + name.removesuffix("_gb").replace("_", "-")


def _metavar(name: str) -> str:
    words = {"text_columns": "A[,B]", "label_column": "Y", "gpus_per_trial": "X", "cpus_per_trial": "X"}
    words |= {"checkpoint_budget_gb": "GB", "keep_top": "K"}
    counts = ("num_trials", "max_concurrent", "max_retries", "train_rows", "seed")
    return "N" if name in counts else words.get(name, name[0].upper())


def parse(argv: Sequence[str], problems: list[str]) -> Request:
    """What a command line asks for; what is wrong is appended to `problems`."""
    parser = make_parser()
    flags = [option for action in parser._actions for option in action.option_strings]
    try:
        arguments, unexpected = parser.parse_known_args(_known_words(argv, flags, problems))
    except UserError as error:
        problems += error.problems
        arguments, unexpected = parser.parse_known_args([])
    problems += [f"unexpected argument {shown(word)}" for word in unexpected]
    errand = next(((name, getattr(arguments, name)) for name in ERRANDS if getattr(arguments, name) is not None), None)
    if errand is not None:
        problems += _beside_errand(argv, arguments.spec, _flag(errand[0]))
    given: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name in (*FLAGS, "points"):
        if getattr(arguments, name) is not None:
            given[name], origins[name] = getattr(arguments, name), _flag(name)
    for text in arguments.set:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            problems.append(f"--set {_cut(text)}: write key=value")
        elif key == "space":
            problems.append(f"--set {_cut(text)}: use --space NAME=SPEC")
        else:
            none = key in OPTIONAL and value.lower() in ("none", "null")
            given[key], origins[key] = (None if none else value), f"--set {_cut(key)}"
    for text in arguments.space:
        key, equals, value = text.partition("=")
        if not equals:
            problems.append(f"--space {_cut(text)}: write NAME=SPEC, like learning_rate=log:1e-5..1e-4")
        else:
            given.setdefault("space", {})[key.strip()] = value
            origins[f"space.{key.strip()}"] = f"--space {_cut(text)}"
    if arguments.spec is not None and arguments.preset is not None:
        problems.append("give SPEC.yaml or --preset, not both; a YAML file can name its preset itself")
    if arguments.submit is not None and errand is None:
        if "address" in given:
            problems.append(
                "give --submit or --address, not both: what is submitted runs on the job server's own cluster"
            )
        given["address"], origins["address"] = "auto", "--submit"
    spec = build_spec(_under(arguments.spec, arguments.preset, Given(given, origins), problems), problems)
    out = os.path.expanduser(arguments.out) if arguments.out is not None else str(Path("runs") / spec.name)
    if not out.strip() or out.startswith("~") or "\0" in out or not is_unicode(out):
        problems.append(f"--out must be a folder, but got {shown(arguments.out)}")
        out = str(Path("runs") / spec.name)
    if (problem := url_problem(out)) is not None:
        problems.append(f"--out {problem}")
        out = str(Path("runs") / spec.name)
    if arguments.plan and arguments.submit is not None:
        problems.append("--plan goes without --submit: it plans for this machine, or for the cluster at --address")
    where = out if is_url(out) else Path(out)
    return Request(spec, where, arguments.fresh, arguments.allow_new_space, arguments.plan, arguments.submit, errand)


def _beside_errand(argv: Sequence[str], spec: str | None, flag: str) -> list[str]:
    """What stands beside --attach, --stop or --status and has no meaning there."""
    allowed = (flag,) if flag == "--status" else (flag, "--submit")
    flags = [word.partition("=")[0] for word in argv if word.startswith("--")]
    others = [shown(spec)] * (spec is not None) + [_cut(word) for word in flags if word not in allowed]
    goes = "stands alone" if flag == "--status" else "goes with --submit ADDRESS alone"
    return [f"{flag} {goes}; leave out {', '.join(others)}"] if others else []


def _known_words(argv: Sequence[str], flags: Sequence[str], problems: list[str]) -> list[str]:
    """The command line less unknown flags with their values and flags that lack theirs, which are told.

    argparse stops at the first flag without a value, and takes an unknown flag's value for SPEC.yaml.
    """
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        flag, equals, _ = word.partition("=")
        if not word.startswith("-") or word in ("-h", "--help", *SWITCHES):
            words.append(word)
            continue
        has_value = not equals and bool(rest) and not rest[0].startswith("--")
        if flag == "--submit" and not equals:  # what follows may be SPEC.yaml
            is_server = has_value and re.search(r"://|:[0-9]+/?$", rest[0]) is not None
            words.append(f"{flag}={rest.pop(0) if is_server else ''}")
            continue
        value = rest.pop(0) if has_value else None
        if flag not in flags:
            searched = flag.lstrip("-").replace("-", "_")
            is_searched = searched in TrialConfig.model_fields
            hint = f"did you mean --space {searched}=...?" if is_searched else nearest(flag, flags)
            problems.append(f"unknown flag {_cut(flag)}; {hint}")
        elif value is None and not equals:
            problems.append(f"{flag} needs a value")
        else:
            words.append(word if value is None else f"{word}={value}")
    return words


def _under(file: str | None, preset: str | None, above: Given, problems: list[str]) -> Given:
    """`above` over the file or the preset; over the demo where neither these nor a data set is named."""
    if file is not None:
        return merge(given_from_file(Path(file), problems), above)
    if preset is None and "dataset" in above.values:
        return above
    return merge(given_from_preset(preset if preset is not None else "demo", problems), above)


def given_from_python(spec: Mapping[str, Any] | str | None, problems: list[str]) -> Given:
    """What `tune.search.run` was given: fields, a YAML file's path, a preset's name, or None for the demo."""
    if isinstance(spec, Mapping):
        values = {key: value for key, value in spec.items() if key != "preset"}
        return _under(None, spec.get("preset"), Given(values, {}), problems)
    if spec is None or spec in preset_names():
        return _under(None, spec, Given({}, {}), problems)
    return _under(str(spec), None, Given({}, {}), problems)
