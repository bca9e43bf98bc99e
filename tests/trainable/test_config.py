"""Laws of a trial's configuration: values are checked and typed, and defaults are values like any other."""

from __future__ import annotations

import json
import pickle

import pytest

from trainable.config import TrialConfig, config_problems
from trainable.fields import rule
from trainable.optimizers import OPTIMIZERS

RULES = {
    "learning_rate": "a number > 0",
    "batch_size": "an integer >= 1",
    "epochs": "an integer >= 1",
    "warmup_fraction": "a number >= 0 and < 1",
    "weight_decay": "a number >= 0",
    "max_grad_norm": "a number > 0 or none",
    "dropout": "a number >= 0 and < 1 or none",
    "label_smoothing": "a number >= 0 and < 1",
    "micro_batch_size": "an integer >= 1 or none",
}


def test_rules_are_read_off_the_constraints() -> None:
    fields = TrialConfig.model_fields
    assert {name: rule(field) for name, field in fields.items() if name in RULES} == RULES
    assert fields.keys() - RULES.keys() == {"optimizer", "schedule"}
    assert rule(fields["optimizer"]) == f"one of {', '.join(OPTIMIZERS)}"


def test_every_field_is_documented() -> None:
    assert all(field.description for field in TrialConfig.model_fields.values())


def test_values_get_the_types_of_their_fields() -> None:
    config = TrialConfig.from_values({"learning_rate": 1, "epochs": 3.0, "dropout": None})
    assert repr(config.named()) == "{'learning_rate': 1.0, 'epochs': 3, 'dropout': None}"
    assert config.all_values() == {**TrialConfig().all_values(), "learning_rate": 1.0, "epochs": 3, "dropout": None}


def test_configurations_are_equal_by_their_values_whichever_were_given() -> None:
    given = TrialConfig.from_values(TrialConfig().all_values())
    assert given == TrialConfig()
    assert hash(given) == hash(TrialConfig())
    assert (len(given.named()), TrialConfig().named()) == (len(TrialConfig.model_fields), {})
    assert TrialConfig(epochs=4) != TrialConfig()


def test_a_configuration_goes_through_pickle_and_json() -> None:
    config = TrialConfig.from_values({"learning_rate": 1e-5, "micro_batch_size": 4})
    again = pickle.loads(pickle.dumps(config))
    assert (again, again.named()) == (config, config.named())
    assert TrialConfig.from_values(json.loads(json.dumps(config.all_values()))) == config


def test_a_configuration_written_before_there_were_optimizers_has_the_defaults() -> None:
    old = {name: value for name, value in TrialConfig().all_values().items() if name in RULES}
    assert TrialConfig.from_values(old) == TrialConfig()


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrialConfig().epochs = 4  # type: ignore[misc]


def test_all_problems_are_told_in_the_order_of_the_values() -> None:
    values = {"epochs": True, "lr": 1, "dropout": float("nan"), "learning_rate": "1e-5", "batch_size": 2**63}
    problems = [
        "`epochs` must be an integer >= 1, but got True",
        "'lr' is no field of a trial's configuration; known: " + ", ".join(sorted(TrialConfig.model_fields)),
        "`dropout` must be a number >= 0 and < 1 or none, but got nan",
        "`learning_rate` must be a number > 0, but got '1e-5'",
        f"`batch_size` must be an integer >= 1, but got {2**63}",
    ]
    assert config_problems(values) == problems
    with pytest.raises(ValueError) as caught:
        TrialConfig.from_values(values)
    assert str(caught.value) == "; ".join(problems)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("value", [True, False, "1", "", float("inf"), float("nan"), -1, [], {}, b"1", 10**400, -1e300])
def test_no_odd_value_is_taken(name: str, value: object) -> None:
    assert len(config_problems({name: value})) == 1
