"""What to search: flags, a YAML file and a preset become one frozen SweepSpec, or every problem at once."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from trainable.config import TrialConfig, config_problems
from trainable.data.file_checks import FileProblems, is_unicode, unique_keys
from trainable.data.small_file import read_small
from trainable.errors import nearest, shown
from trainable.metrics import METRICS
from tune.spec.space import Choice, Domain, Float, Int, Value, parse_domain, parse_number, parse_value

PRESETS = Path(__file__).parents[1] / "presets"
DEFAULT_SPACE: dict[str, Domain] = {
    "learning_rate": Float(1e-5, 3e-4, log=True),
    "batch_size": Choice((8, 16, 32)),
    "epochs": Int(2, 5),
}


@dataclass(frozen=True)
class SweepSpec:
    """One sweep, as the user wants it. FIELDS says what each field takes.

    `None` leaves a choice to the program: a split name of None is the usual one, max_concurrent None is as many
    trials as fit, gpus_per_trial None is a fraction where there are GPUs.
    """

    name: str
    model: str
    dataset: str
    text_columns: tuple[str, ...] | None = None
    label_column: str | None = None
    positive_label: str | None = None
    train_split: str = "train"
    validation_split: str = "validation"
    test_split: str = "test"
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    train_rows: int | None = None
    max_length: int = 128
    space: Mapping[str, Domain] = field(default_factory=lambda: dict(DEFAULT_SPACE))
    points: tuple[Mapping[str, Value], ...] = ()
    num_trials: int = 12
    metric: str = "f1"
    mode: str = "max"
    f1: str = "auto"
    scheduler: str = "asha"
    reduction_factor: float = 2.0
    sampler: str = "tpe"
    precision: str = "auto"
    batching: str = "bucketed"
    seed: int = 42
    gpus_per_trial: float | Literal["auto"] | None = None
    cpus_per_trial: float | None = None
    max_concurrent: int | None = None
    accelerator: str | None = None
    address: str | None = None
    num_cpus: int | None = None
    num_gpus: int | None = None
    state_interval_s: float = 60.0
    max_retries: int = 2
    keep_top: int = 1
    checkpoint_budget_gb: float | None = None


# How a field's value is read, from YAML or from text. A reader raises ValueError with the broken rule.


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be text, but got {shown(value)}")
    if "\0" in value or not is_unicode(value):
        raise ValueError(f"must be text without NUL and in UTF-8, but got {shown(value)}")
    return value


def _name(value: Any) -> str:
    name = _text(value)
    if "/" in name or name in (".", ".."):
        raise ValueError(f"must be a plain name, but got {shown(value)}")
    return name


def _label(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise ValueError(f"must be a class, but got {shown(value)}")
    return str(value)


def _columns(value: Any) -> tuple[str, ...]:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not 1 <= len(names) <= 2 or len(set(map(repr, names))) != len(names):
        raise ValueError(f"must be one column or two (a,b), but got {shown(value)}")
    if not all(isinstance(name, str) and name.strip() and "\0" not in name and is_unicode(name) for name in names):
        raise ValueError(f"must be one column or two (a,b), but got {shown(value)}")
    return tuple(names)


def _number(rule: str, accepts: Callable[[float], bool], integer: bool = False) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        try:
            number = parse_number(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or not accepts(number) or (integer and number != int(number)):
            raise ValueError(f"must be {rule}, but got {shown(value)}")
        return int(number) if integer else float(number)

    return read


def _integer(low: int) -> Callable[[Any], Any]:
    return _number(f"an integer >= {low}", lambda n: n >= low, integer=True)


def _or_auto(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: value if value == "auto" else read(value)


def _one_of(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, but got {shown(value)}")
        return str(value)

    return read


_share = _number("a number > 0 and <= 0.5", lambda n: 0 < n <= 0.5)
_SMALLEST = 0.0001  # Ray counts resources in these

FIELDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "name": (_name, "what the run is called"),
    "model": (_text, "hub name, local folder, or builtin:minilm"),
    "dataset": (_text, "hub name (glue/mrpc), local folder with train, validation, test, or builtin:newswire"),
    "text_columns": (_columns, "one text column or a pair: a[,b]; guessed when unambiguous"),
    "label_column": (_text, "the column of the classes; guessed when unambiguous"),
    "positive_label": (_label, "of two classes, the one that binary F1 counts (default: the last in order)"),
    "train_split": (_text, "what the data set calls its training split"),
    "validation_split": (_text, "what the data set calls its validation split"),
    "test_split": (_text, "what the data set calls its test split"),
    "validation_fraction": (_share, "share of train cut off where there is no validation split"),
    "test_fraction": (_share, "share of train cut off where there is no test split"),
    "train_rows": (_integer(2), "use the first N training rows after a seeded shuffle"),
    "max_length": (_integer(4), "tokens a row is cut to"),
    "num_trials": (_integer(1), "how many trials the sweep has in all"),
    "metric": (_one_of(*METRICS), f"the objective on validation data: {', '.join(METRICS)}"),
    "mode": (_one_of("max", "min"), "max or min (default: min for loss, else max)"),
    "f1": (_one_of("auto", "binary", "macro"), "auto: binary for two classes, macro for more"),
    "scheduler": (_one_of("asha", "none"), "asha stops bad trials early; none runs all to their end"),
    "reduction_factor": (_number("a number > 1", lambda n: n > 1), "asha goes on with the best 1/N at a rung"),
    "sampler": (_one_of("tpe", "random"), "tpe or random"),
    "precision": (_one_of("auto", "bf16", "fp32"), "auto measures both before the sweep"),
    "batching": (_one_of("bucketed", "shuffled"), "rows of like length together (faster), or as they come"),
    "seed": (_integer(0), "of the sweep; each trial's own follows from it"),
    "gpus_per_trial": (
        _or_auto(_number(f"auto, 0 or a number >= {_SMALLEST}", lambda n: n == 0 or n >= _SMALLEST)),
        "share of a GPU for each trial; auto measures how much memory one takes",
    ),
    "cpus_per_trial": (_number(f"a number >= {_SMALLEST}", lambda n: n >= _SMALLEST), "cores for each trial"),
    "max_concurrent": (_integer(1), "trials side by side, at most"),
    "accelerator": (_text, "run on the cluster's nodes with this kind of GPU only, as Ray calls it (H100)"),
    "address": (_text, "an existing Ray cluster (auto or host:port); default: a private local one"),
    "num_cpus": (_integer(1), "cores the private local Ray offers (default: all)"),
    "num_gpus": (_integer(0), "GPUs the private local Ray offers, as logical numbers (default: all)"),
    "state_interval_s": (_number("a number >= 0", lambda n: n >= 0), "write a trial's state at most this often"),
    "max_retries": (_integer(0), "how often a trial whose worker died is run again"),
    "keep_top": (_integer(1), "keep the models of the best K trials; the best one's is best/"),
    "checkpoint_budget_gb": (_number("a number > 0", lambda n: n > 0), "the most disk the sweep may take, GB"),
}


# Fields that may be left to the program; for the others none is a value like any other (--set scheduler=none).
OPTIONAL = tuple(f.name for f in dataclasses.fields(SweepSpec) if f.default is None)


MAX_FILE_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_ALIASES = 100
MAX_NODES = 20_000  # values and keys, those behind aliases counted each time
_DECIMAL = re.compile(r"[+-]?(0|[1-9][0-9]*)")


class _StrictLoader(yaml.SafeLoader):
    """YAML within limits, where a key that stands twice is an error, and so is a number that reads two ways."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._aliases = self._nodes = 0
        self._sizes: dict[int, int] = {}  # nodes inside each finished node

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Build a node of the tree; raises ConstructorError where the text goes beyond a limit."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        is_alias = self.check_event(yaml.AliasEvent)
        before = self._nodes
        self._depth += 1
        self._keep(mark, self._depth <= MAX_DEPTH, f"is nested more than {MAX_DEPTH} deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias:
            self._aliases += 1
            self._keep(mark, self._aliases <= MAX_ALIASES, f"has more than {MAX_ALIASES} aliases")
            self._keep(mark, id(node) in self._sizes, "an alias stands inside of what it means")
            self._nodes += self._sizes[id(node)]
        else:
            self._nodes += 1
            self._sizes[id(node)] = self._nodes - before
        self._keep(mark, self._nodes <= MAX_NODES, f"holds more than {MAX_NODES:,} values")
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """A node's value; raises ConstructorError with the line where it can't be read, or in two ways."""
        try:
            value = super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # !!bool maybe, 9:9:9.9
            said = str(error) if isinstance(error, ValueError) else f"can't read {shown(node.value)}"
            self._keep(node.start_mark, False, said)
        if type(value) is int and isinstance(node, yaml.ScalarNode):
            self._keep(node.start_mark, value.bit_length() <= 10_000, "Exceeds the limit of 3,000 digits")
            two_ways = f"{node.value} is {value} in YAML; write {value}, or quote it where text is meant"
            self._keep(node.start_mark, _DECIMAL.fullmatch(node.value) is not None, two_ways)
        if type(value) is float and ":" in node.value:
            self._keep(node.start_mark, False, f"{node.value} is {value} in YAML; quote it where text is meant")
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping's value; raises ConstructorError where a key stands twice."""
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue  # what << brings in may be given again
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (str, int)) and key in seen:
                self._keep(key_node.start_mark, False, f"key {shown(key)} stands twice")
            if isinstance(key, (str, int)):
                seen.add(key)
        return super().construct_mapping(node, deep)

    def _keep(self, mark: Any, kept: bool, problem: str) -> None:
        if not kept:
            raise yaml.constructor.ConstructorError(None, None, problem, mark)


def read_yaml(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """The mapping in a YAML file; None where `problems` were appended."""
    try:
        text = read_small(path, MAX_FILE_BYTES)
    except ValueError as error:
        problems.append(str(error))
        return None
    try:
        loaded = yaml.load(text, _StrictLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = text.count("\n", 0, error.position) if isinstance(error, yaml.reader.ReaderError) else None
        line = mark.line if mark else line
        place = "" if line is None else f", line {line + 1}"
        what = getattr(error, "problem", None) or f"{error}".partition("\n")[0] or type(error).__name__
        problems.append(f"{path}{place}: is not YAML: {what}")
    else:
        if isinstance(loaded, dict):
            return loaded
        what = "is empty" if loaded is None else f"holds a {type(loaded).__name__}"
        problems.append(f"{path}: must hold `field: value` lines, but {what}")
    return None


def write_yaml(values: Mapping[str, Any]) -> str:
    """YAML that read_yaml reads back equal."""
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    # PyYAML leaves U+0085 as it is, and reads it as the end of a line.
    return text if "\x85" not in text else yaml.safe_dump(dict(values), sort_keys=False)


def preset_names() -> list[str]:
    """The presets that are shipped."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


@dataclass(frozen=True)
class Given:
    """Values as given, by field, with where each stands ("--metric", "my.yaml: metric").

    whole: whether every source could be read; where one could not, what is missing is no problem of its own
    """

    values: Mapping[str, Any]
    origins: Mapping[str, str]
    whole: bool = True


def given_from_preset(name: object, problems: list[str], origin: str = "--preset") -> Given:
    """What a preset says."""
    if not isinstance(name, str) or name not in preset_names():
        problems.append(f"{origin}: no preset {shown(name)}; {nearest(str(name), preset_names())}")
        return Given({}, {}, whole=False)
    return _given_from_yaml(PRESETS / f"{name}.yaml", {"name": name}, problems)


def given_from_file(path: Path, problems: list[str]) -> Given:
    """What a YAML file says, over the preset that it names, if any."""
    here = _given_from_yaml(path, {"name": path.stem}, problems)
    if "preset" not in here.values:
        return here
    below = given_from_preset(here.values["preset"], problems, path.name)
    values = {key: value for key, value in here.values.items() if key != "preset"}
    return merge(below, Given(values, here.origins))


def _given_from_yaml(path: Path, defaults: Mapping[str, Any], problems: list[str]) -> Given:
    read = read_yaml(path, problems)
    values: dict[str, Any] = {**defaults, **(read or {})}
    values.pop("resolved", None)  # a run directory's spec.yaml says there what came of it
    return Given(values, {str(key): f"{path.name}: {str(key)[:200]}" for key in values}, read is not None)


def merge(below: Given, above: Given) -> Given:
    """`above` wins field by field, and name by name inside `space`; its points and model replace those below."""
    values = {**below.values, **above.values}
    lower, upper = below.values.get("space"), above.values.get("space")
    if isinstance(lower, Mapping) and isinstance(upper, Mapping):
        values["space"] = {**lower, **upper}
    elif lower is not None and not isinstance(lower, Mapping):
        values["space"] = lower  # wrong, which is to be told
    origins = {**below.origins, **above.origins}
    if below.values.get("dataset") not in (None, values.get("dataset")):
        # Columns, split names and classes are facts of the data set that they were written for.
        for key in ("text_columns", "label_column", "positive_label", "train_split", "validation_split", "test_split"):
            if key not in above.values:
                values.pop(key, None)
    return Given(values, origins, below.whole and above.whole)


def build_spec(given: Given, found: list[str]) -> SweepSpec:
    """The spec as far as it can be read; what is wrong with each field is appended to `found`.

    A field that is wrong has its default (model and dataset: empty; of the space it is left out), so that what does
    not hang on it can be checked as well and every problem be told at once. A spec with problems is not to be run.
    """
    known = {*FIELDS, "space", "points"}
    read: dict[str, Any] = {}

    def where(key: str) -> str:
        return given.origins.get(key, key)

    for key, value in given.values.items():
        if key not in known:
            found.append(f"{where(str(key))}: no such field; {nearest(str(key), known)}")
        elif key in FIELDS and not (value is None and key in (*OPTIONAL, "model", "dataset")):
            try:
                read[key] = FIELDS[key][0](value)
            except ValueError as error:
                found.append(f"{where(key)} {error}")
    read["space"] = _read_space(given, where, found)
    read["points"] = _read_points(given.values.get("points"), where("points"), found)
    for key in ("model", "dataset"):
        if given.values.get(key) is None and given.whole:
            found.append(f"--{key} is missing: {FIELDS[key][1]}")
        read.setdefault(key, "")
    last = Path(read["dataset"]).name
    read.setdefault("name", last if last not in ("", "..") else "sweep")
    _cross_check(read, where, found)
    return SweepSpec(**read)


def _read_space(given: Given, where: Callable[[str], str], found: list[str]) -> dict[str, Domain]:
    space = dict(DEFAULT_SPACE)
    entries = given.values.get("space")
    if entries is None:
        return space
    if not isinstance(entries, Mapping):
        found.append(f"{where('space')} must be `field: domain` lines, but got {shown(entries)}")
        return {}
    for name, text in entries.items():
        origin = given.origins.get(f"space.{name}", f"{where('space')}.{name}")
        space.pop(str(name), None)
        try:
            space[str(name)] = parse_domain(str(name), text)
        except ValueError as error:
            found.append(f"{origin}: {error}")
    return space


def _read_points(points: Any, origin: str, found: list[str]) -> tuple[Mapping[str, Value], ...]:
    if points is None:
        return ()
    if isinstance(points, str):
        path = Path(os.path.expanduser(points))
        try:
            text = read_small(path, MAX_FILE_BYTES)
        except ValueError as error:
            found.append(f"{origin}: {error}")
            return ()
        try:
            points, origin = json.loads(text, object_pairs_hook=unique_keys), str(path)
        except (ValueError, RecursionError) as error:
            found.append(f"{origin}: {path} is not JSON: {error}")
            return ()
    if not isinstance(points, (list, tuple)) or not points or not all(isinstance(p, Mapping) for p in points):
        found.append(f'{origin}: must be a list of configurations, like [{{"learning_rate": 5e-5, "epochs": 3}}]')
        return ()
    read = []
    problems = FileProblems(origin)
    for number, point in enumerate(points, 1):
        typed = {str(name): _value(given) for name, given in point.items()}
        wrong = config_problems(typed)
        for problem in wrong:
            problems.add(f"configuration {number}", problem)
        if not wrong:
            read.append(TrialConfig.from_values(typed).named())
    found += problems.take()
    return tuple(read)


def _value(given: Any) -> Any:
    try:
        return parse_value(given)
    except ValueError:
        return str(given) if isinstance(given, int) and not isinstance(given, bool) else given  # one that is too large


def _cross_check(read: dict[str, Any], where: Callable[[str], str], found: list[str]) -> None:
    points = read["points"]
    if points:
        read.setdefault("num_trials", max(SweepSpec.num_trials, len(points)))
        if read["num_trials"] < len(points):
            found.append(
                f"`num_trials >= number of points` must hold, but got (num_trials={read['num_trials']}, "
                f"points={len(points)})"
            )
    metric = read.get("metric", SweepSpec.metric)
    if metric in METRICS:
        direction = METRICS[metric].direction
        read.setdefault("mode", direction)
        if read["mode"] != direction:
            found.append(f"{where('mode')} {read['mode']} would look for the worst {metric}; use {direction}")
    found += [
        f"{key} is what a private local Ray offers; with --address the cluster says what it has"
        for key in ("num_cpus", "num_gpus")
        if read.get(key) is not None and read.get("address")
    ]


def spec_as_yaml_values(spec: SweepSpec) -> dict[str, Any]:
    """The spec in the form that a YAML file has; reading it back gives an equal spec."""
    values = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)}
    values["space"] = {name: str(domain) for name, domain in spec.space.items()}
    values["points"] = [dict(point) for point in spec.points] or None
    values["text_columns"] = list(spec.text_columns) if spec.text_columns else None
    return {name: value for name, value in values.items() if value is not None}
