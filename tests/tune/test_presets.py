"""The presets that are shipped: GLUE's columns, splits and metrics, and the job that mrpc takes over."""

from __future__ import annotations

import pytest

from tests.hub import GLUE
from tune.prepare.inputs import BUILTIN_DATASETS
from tune.spec.sources import given_from_preset, preset_names
from tune.spec.space import Choice, Float, Int
from tune.spec.sweep_spec import SweepSpec, build_spec


def preset(name: str) -> SweepSpec:
    problems: list[str] = []
    spec = build_spec(given_from_preset(name, problems), problems)
    assert problems == []
    return spec


def test_the_presets_are_the_demo_and_glues_classification_tasks() -> None:
    assert preset_names() == sorted(["demo", *GLUE])


@pytest.mark.parametrize("name", GLUE)
def test_a_glue_preset_says_what_glue_says(name: str) -> None:
    spec = preset(name)
    assert (spec.name, spec.dataset, spec.model) == (name, f"glue/{name}", "bert-base-uncased")
    assert (spec.text_columns, spec.label_column) == (tuple(GLUE[name][0]), "label")
    assert (spec.metric, spec.mode) == ("f1", "max")
    # GLUE itself has F1 for the two paraphrase tasks alone, of the class that says "the same".
    assert spec.f1 == ("binary" if name in ("mrpc", "qqp") else "macro")
    half = "_matched" if name == "mnli" else ""
    assert (spec.train_split, spec.validation_split, spec.test_split) == ("train", f"validation{half}", f"test{half}")


def test_mrpc_is_the_seed_notebooks_job() -> None:
    spec = preset("mrpc")
    assert spec.space == {
        "learning_rate": Float(1e-5, 1e-4, log=True),
        "batch_size": Choice((8, 16, 32)),
        "epochs": Int(2, 5),
    }
    assert [point.named() for point in spec.points] == [{"learning_rate": 5e-5, "batch_size": 8, "epochs": 3}]


def test_the_demo_needs_no_hub() -> None:
    spec = preset("demo")
    assert (spec.model, spec.f1) == ("builtin:minilm", "binary")
    assert spec.dataset in BUILTIN_DATASETS
