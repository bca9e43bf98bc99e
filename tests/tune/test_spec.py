"""Laws of the spec: it is written and read back equal, text and YAML numbers mean the same, the nearer source wins."""

from __future__ import annotations

import json
import random
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainable.config import TrialConfig
from trainable.metrics import METRICS
from tune.spec.field_types import flag_name
from tune.spec.flags import make_parser, parse
from tune.spec.sources import Given, given_from_file, given_from_preset, merge, preset_names
from tune.spec.space import DEFAULT_SPACE, Choice, Fixed, Float, Int
from tune.spec.sweep_spec import OPTIONAL, SweepSpec, build_spec, spec_as_yaml_values, trials_of_all_configurations
from tune.spec.yaml_file import read_yaml
from tune.trackers import TRACKERS

SCALARS = SweepSpec.model_fields.keys() - {"space", "points"}
NEED = {"model": "m", "dataset": "d"}
SOME: dict[str, list[Any]] = {  # values of every field
    "confirm": ["auto", "none", "3x4"],
    "final": ["median", "best", "soup"],
    "max_retries": [0, 2],
    "keep_top": [1, 5],
    "log_to": [None, ("mlflow",), ("wandb", "trackio")],
    "time_budget": [None, "90s", "1h30m"],
    "gpu_hours": [None, 0.5, 10.0],
    "max_cost": [None],  # which goes with the price alone
    "price_per_gpu_hour": [None, 2.5, 40.0],
    "target": [None, "f1=0.92", "loss=1e-05"],
    "until_stable": [False, True],
    "export": ["none", "onnx"],
    "checkpoint_budget_gb": [None, 0.5, 100.0],
    "name": ["a", "1e5", "123", "yes", "a: b", "日本 #1", "null", "- x", "~", "2001-01-01"],
    "model": ["bert-base-uncased", "a b", "builtin:minilm", "1", "C:\\x"],
    "dataset": ["glue/mrpc", "~/data", "0x1F"],
    "text_columns": [None, ("a",), ("a", "b"), (" a ", "b,c"), ("1", "no")],
    "label_column": [None, "label", "3", "no"],
    "positive_label": [None, "1", "no", "1e5", "paraphrase"],
    "train_split": ["train", "1"],
    "validation_split": ["validation", "dev"],
    "test_split": ["test"],
    "validation_fraction": [0.15, 0.5, 1e-05],
    "test_fraction": [0.1],
    "train_rows": [None, 2, 100000],
    "max_length": [4, 128],
    "space": [
        {"learning_rate": Float(1e-5, 3e-4, log=True), "batch_size": Fixed(8), "epochs": Choice((2, 4))},
        {"learning_rate": Fixed(1e-5), "dropout": Choice((None, 0.1)), "max_grad_norm": Fixed(None)},
        {"weight_decay": Float(0.0, 1.0), "epochs": Int(1, 1000, log=True), "warmup_fraction": Fixed(0.1)},
    ],
    "points": [
        (),
        (TrialConfig(learning_rate=1e-05, epochs=3),),
        (TrialConfig(dropout=None), TrialConfig(batch_size=8)),
    ],
    "num_trials": [2, 1000],
    "metric": ["f1", "accuracy"],
    "f1": ["auto", "binary", "macro"],
    "scheduler": ["asha", "none"],
    "reduction_factor": [2.0, 3.5],
    "sampler": ["tpe", "random"],
    "precision": ["auto", "bf16", "fp16", "fp32"],
    "batching": ["bucketed", "shuffled"],
    "seed": [0, 42, 2**53 + 1],
    "validation": [None, "dev.csv"],
    "test": [None, "test.tsv"],
    "strict_labels": [False, True],
    "encoding": ["utf-8", "cp1252"],
    "column_names": [None, ("a", "b"), ("label", "n a m e", "x")],
    "skip_labels": [None, ("-",), ("-", "n/a")],
    "strict_data": [False, True],
    "skip_blank_rows": [False, True],
    "no_examples": [False, True],
    "validation_rows": [None, 200],
    "repeat_configurations": [False, True],
    "gpus_per_trial": [None, 0.0, 0.25, 2.0, "auto"],
    "accelerator": [None, "H100"],
    "cpus_per_trial": [None, 0.5, 8.0],
    "max_concurrent": [None, 3],
    "address": [None, "auto", "10.0.0.1:6379"],
    "state_interval_s": [0.0, 60.0],
}


def built(values: dict[str, Any]) -> SweepSpec:
    found: list[str] = []
    spec = build_spec(Given(values, {}), found)
    assert found == []
    return spec


def problems_of(values: dict[str, Any]) -> list[str]:
    found: list[str] = []
    build_spec(Given({**NEED, **values}, {}), found)
    return found


def yaml_file(folder: Path, values: Any, name: str = "my.yaml") -> Path:
    path = folder / name
    path.write_text(
        values if isinstance(values, str) else yaml.safe_dump(values, allow_unicode=True, sort_keys=False), "utf-8"
    )
    return path


def from_file(path: Path, above: dict[str, Any] | None = None) -> SweepSpec:
    problems: list[str] = []
    spec = build_spec(merge(given_from_file(path, problems), Given(above or {}, {})), problems)
    assert problems == []
    return spec


def parsed(*argv: str) -> SweepSpec:
    problems: list[str] = []
    spec = parse(argv, problems).spec
    assert problems == []
    return spec


def test_the_table_below_knows_every_field() -> None:
    assert SweepSpec.model_fields.keys() == {*SOME, "mode", "num_cpus", "num_gpus"}


@pytest.mark.parametrize("seed", range(60))
def test_a_spec_written_as_yaml_is_read_back_equal(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    chosen = {name: rng.choice(values) for name, values in SOME.items()}
    spec = SweepSpec(**{**chosen, "space": {**DEFAULT_SPACE, **chosen["space"]}})
    few = trials_of_all_configurations(spec) or spec.num_trials
    spec = spec.model_copy(update={"num_trials": min(few, spec.num_trials)})
    again = from_file(yaml_file(tmp_path, spec_as_yaml_values(spec)))
    assert again == spec
    assert repr(again) == repr(spec.model_copy(update={"space": again.space})), "types are those of the fields"
    assert spec_as_yaml_values(again) == spec_as_yaml_values(spec)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_parses(name: str, tmp_path: Path) -> None:
    spec = parsed("--preset", name)
    assert spec.name == name
    assert from_file(yaml_file(tmp_path, spec_as_yaml_values(spec))) == spec
    assert from_file(yaml_file(tmp_path, {"preset": name, "name": name})) == spec
    assert parsed("--preset", name, "--num-trials", "7") == spec.model_copy(update={"num_trials": 7})


def test_text_and_yaml_values_mean_the_same(tmp_path: Path) -> None:
    numbers = "validation_fraction: 1e-1\nseed: 7\nspace:\n  learning_rate: 1e-5\n  weight_decay: [1e-2, 0]\n"
    spec = from_file(
        yaml_file(tmp_path, f"model: m\ndataset: d\n{numbers}points:\n- learning_rate: 5e-5\n  epochs: 3.0\n")
    )
    assert spec.validation_fraction == 0.1
    assert spec.space["learning_rate"] == Fixed(1e-5)
    assert spec.space["weight_decay"] == Choice((0.01, 0.0))
    assert repr([point.named() for point in spec.points]) == "[{'learning_rate': 5e-05, 'epochs': 3}]"
    flags = ["--set", "validation_fraction=0.1", "--seed", "7", "--space", "learning_rate=1e-5"]
    (tmp_path / "p.json").write_text('[{"learning_rate": 5e-5, "epochs": 3}]')
    flags += ["--space", "weight_decay=1e-2,0", "--points", str(tmp_path / "p.json"), "--set", "name=my"]
    assert parsed("--model", "m", "--dataset", "d", *flags) == spec


@pytest.mark.parametrize("field", sorted(SCALARS))
def test_each_field_can_be_set_by_its_flag_or_by_set(field: str, tmp_path: Path) -> None:
    base = {**NEED, "name": "n"}
    texts = {"text_columns": "a,b", "metric": "accuracy", "mode": "max", "num_cpus": "3", "num_gpus": "2"}
    for value in SOME.get(field, [texts.get(field)]):
        if value is None or isinstance(value, tuple):
            value = texts.get(field)
        if value is None:
            continue
        flags = [f"--{key}={base[key]}" for key in NEED if key != field]
        flags += [] if field == "name" else ["--set", "name=n"]
        by_set = parsed(*flags, "--set", f"{field}={value}")
        assert by_set == built({**base, field: value})
        flag = f"--{field.replace('_', '-')}"
        if flag in make_parser()._option_string_actions and value is not False:
            values = [] if value is True else [f"{value}"]  # a switch has no value
            assert parsed(*flags, flag, *values) == by_set


def test_trackers_are_given_one_by_one_or_together() -> None:
    need = [f"--{key}={value}" for key, value in NEED.items()]
    assert parsed(*need, "--log-to", "mlflow", "--log-to", "MLflow,mlflow").log_to == ("mlflow",)
    (problem,) = problems_of({"log_to": ["mlflow", "tensorbord"]})
    assert problem == f"log_to must be one or several of {', '.join(TRACKERS)}, but got 'tensorbord'"


def test_optional_fields_can_be_set_back_to_none(tmp_path: Path) -> None:
    path = yaml_file(tmp_path, {**NEED, "train_rows": 5, "max_concurrent": 2})
    spec = parsed(str(path), "--set", "train_rows=none", "--set", "max_concurrent=null")
    assert (spec.train_rows, spec.max_concurrent) == (None, None)
    assert parsed(str(path), "--set", "scheduler=none").scheduler == "none"
    for field in sorted(SCALARS - set(OPTIONAL) - set(NEED)):
        (problem,) = problems_of({field: None})
        assert problem.startswith(f"{field} must be ")
        assert problem.endswith(", but got None")


def test_the_nearer_source_wins_field_by_field(tmp_path: Path) -> None:
    path = yaml_file(tmp_path, {"preset": "mrpc", "num_trials": 3, "seed": 1, "space": {"epochs": 2, "dropout": 0.1}})
    spec = parsed(str(path), "--seed", "2", "--space", "epochs=3")
    mrpc = parsed("--preset", "mrpc")
    assert (spec.name, spec.model, spec.num_trials, spec.seed) == ("my", mrpc.model, 3, 2)
    assert spec.space == {**mrpc.space, "epochs": Fixed(3), "dropout": Fixed(0.1)}
    assert spec.points == mrpc.points
    assert spec.text_columns == ("sentence1", "sentence2")


def test_facts_of_a_data_set_go_with_it(tmp_path: Path) -> None:
    other = parsed("--preset", "mnli", "--dataset", "mine")
    assert (other.text_columns, other.label_column, other.validation_split) == (None, None, "validation")
    assert parsed("--preset", "mnli", "--dataset", "glue/mnli").validation_split == "validation_matched"
    path = yaml_file(tmp_path, {"model": "m", "text_columns": ["a"], "validation_split": "dev"})
    mine = parsed(str(path), "--dataset", "mine")
    assert (mine.text_columns, mine.validation_split) == (("a",), "dev"), "written for whatever the flag names"


def test_without_a_data_set_it_is_the_demo() -> None:
    assert parsed() == parsed("--preset", "demo")
    assert parsed("--num-trials", "2").name == "demo"
    assert parsed("--dataset", "x/y", "--model", "m").name == "y"
    assert {parsed("--dataset", name, "--model", "m").name for name in ("..", ".", "../..", "/")} == {"sweep"}


def test_points_and_num_trials(tmp_path: Path) -> None:
    points = [{"epochs": n} for n in range(1, 21)]
    (tmp_path / "p.json").write_text(json.dumps(points))
    flags = ["--model", "m", "--dataset", "d", "--points", str(tmp_path / "p.json")]
    assert parsed(*flags).num_trials == 20
    exactly = parsed(*flags, "--num-trials", "20")
    assert [point.named() for point in exactly.points] == points
    assert parsed(*flags, "--num-trials", "25").num_trials == 25
    (tmp_path / "p.json").write_bytes(b"\xef\xbb\xbf" + b'[{"dropout": "none", "learning_rate": "1e-5"}]')
    (point,) = parsed(*flags).points
    assert point.named() == {"dropout": None, "learning_rate": 1e-5}


def test_one_problem_for_each_wrong_field_and_none_for_the_rest() -> None:
    wrong = {"seed": -1, "metric": "f2", "colour": "red", "points": [{"epochs": 0}], "space": {"lr": 1, "epochs": "a"}}
    found = problems_of(wrong)
    assert len(found) == 6
    for field in ("seed", "metric", "colour", "points", "space.lr", "space.epochs"):
        assert sum(problem.startswith(field) for problem in found) == 1


@pytest.mark.parametrize("seed", range(30))
def test_a_spec_of_wrong_values_is_refused_without_another_error(seed: int) -> None:
    rng = random.Random(seed)
    odd: list[Any] = [
        None, True, -1, 0.5, float("nan"), float("inf"), 10**400, "", " ", "x", "nan", "9" * 5000, "a,b,c", [], [1],
        [[]], {}, {"a": 1}, {1: [2]}, (), b"x", "\0", "\ud800", {"epochs": {}}, [{"epochs": []}], [{1: 1}], [None],
    ]  # fmt: skip
    values = {name: rng.choice(odd) for name in (*SweepSpec.model_fields,) if rng.random() < 0.7}
    found: list[str] = []
    spec = build_spec(Given({**values, 3: "x"}, {}), found)
    assert "3: no such field; " in "\n".join(found)
    values = spec_as_yaml_values(spec)
    json.dumps(values, allow_nan=False).encode()
    sound = {key: values[key] or "x" for key in NEED}
    again = spec_as_yaml_values(built({**values, **sound}))
    assert {**again, "space": values["space"]} == {**values, **sound}, "what is left is sound"


def test_what_is_missing_is_told_only_where_all_was_read(tmp_path: Path) -> None:
    problems: list[str] = []
    build_spec(merge(given_from_preset("no", problems), Given({}, {})), problems)
    assert len(problems) == 1
    problems = []
    build_spec(given_from_file(tmp_path / "none.yaml", problems), problems)
    assert problems == [f"{tmp_path}/none.yaml: no such file"]
    problems = []
    build_spec(given_from_file(yaml_file(tmp_path, {"seed": 1}), problems), problems)
    assert [problem.split(":")[0] for problem in problems] == ["--model is missing", "--dataset is missing"]


def test_a_wrong_space_in_a_file_is_told_under_a_right_flag(tmp_path: Path) -> None:
    problems: list[str] = []
    path = yaml_file(tmp_path, {**NEED, "space": ["epochs"]})
    parse([str(path), "--space", "epochs=2"], problems)
    assert problems == ["my.yaml: space must be `field: domain` lines, but got ['epochs']"]


@pytest.mark.parametrize(
    "text",
    [
        "a: &x 1\nb: *x\n",
        "a: {b: {c: [1, {d: 2}]}}\n",
        "\ufeffa: 1\n",
        "? a\n: 1\n",
        '"a": 1\n',
        "%YAML 1.1\n---\na: 1\n",
    ],
)
def test_yaml_that_is_right(text: str, tmp_path: Path) -> None:
    problems: list[str] = []
    read = read_yaml(yaml_file(tmp_path, text), problems)
    assert problems == []
    assert read is not None
    assert "a" in read


def test_any_bytes_are_read_or_refused(tmp_path: Path) -> None:
    rng = random.Random(0)
    whole = (Path(__file__).parents[2] / "tune" / "presets" / "mrpc.yaml").read_bytes()
    path = tmp_path / "my.yaml"
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(len(damaged))] = rng.choice(b"\0\xff:[]{}-!&*?|>'\"%@`,# \n\tax0")
        path.write_bytes(damaged)
        problems: list[str] = []
        spec = build_spec(given_from_file(path, problems), problems)
        if not problems:
            assert from_file(yaml_file(tmp_path, spec_as_yaml_values(spec), "again.yaml")) == spec


def test_help_tells_every_field_from_its_documentation() -> None:
    parser = make_parser()
    flags = {action.dest: action for action in parser._actions}
    for name, field in SweepSpec.model_fields.items():
        if name in flags:
            assert flag_name(name) in flags[name].option_strings
            words = re.findall(r"\w+", field.description or "")[1:4]
            assert name in ("space", "points") or all(word in str(flags[name].help) for word in words)
        else:
            assert name in str(flags["set"].help)
    assert str(flags["metric"].help).endswith(f": {', '.join(METRICS)} (default: f1)")
    assert "; none runs every trial to the end of its schedule" in str(flags["scheduler"].help)
    assert str(flags["mode"].help).endswith(": max, min (default: as the metric has it)")
    assert {flags[name].metavar for name in ("num_trials", "max_concurrent", "seed")} == {"N"}
    assert (flags["checkpoint_budget_gb"].metavar, flags["cpus_per_trial"].metavar) == ("GB", "X")


def test_help_takes_less_than_half_a_second_of_a_processor() -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "tune.search", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert any(seconds() < 0.5 for _ in range(10))  # others may be at work on the machine


@pytest.mark.parametrize(
    "spec", [{"metric": "f2"}, {"num_trials": 0}, {"seed": True}, {"name": "a/b"}, {"colour": "red"}]
)
def test_no_wrong_spec_can_be_made(spec: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        SweepSpec(**{"name": "n", **NEED, **spec})
    with pytest.raises(ValueError, match="frozen"):
        built(NEED).seed = 3  # type: ignore[misc]
