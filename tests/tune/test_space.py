"""Laws of the search space: it is read as it is written, and every domain proposes what its field takes."""

from __future__ import annotations

import itertools

import optuna
import pytest

from trainable.config import config_problems
from trainable.optimizers import OPTIMIZERS
from trainable.schedules import SCHEDULES
from tune.spec.numbers import parse_number, parse_value
from tune.spec.space import (
    Choice,
    Domain,
    Fixed,
    Float,
    Int,
    fixed_values,
    largest,
    parse_domain,
)
from tune.sweep.proposals import distributions

ONE_OPTIMIZER = f"`optimizer` must be one of {', '.join(OPTIMIZERS)}"
ONE_SCHEDULE = f"`schedule` must be one of {', '.join(SCHEDULES)}"
READ: list[tuple[str, object, Domain]] = [
    ("learning_rate", "log:1e-5..1e-4", Float(1e-5, 1e-4, log=True)),
    ("learning_rate", " log: 1e-5 .. 1e-4 ", Float(1e-5, 1e-4, log=True)),
    ("learning_rate", 1e-5, Fixed(1e-5)),
    ("learning_rate", "1e-5", Fixed(1e-5)),
    ("learning_rate", ["1e-5", 3e-5], Choice((1e-5, 3e-5))),
    ("learning_rate", 1, Fixed(1.0)),
    ("weight_decay", "0.0..0.1", Float(0.0, 0.1)),
    ("weight_decay", "0..1", Float(0.0, 1.0)),
    ("weight_decay", "0,0.01", Choice((0.0, 0.01))),
    ("epochs", "2..5", Int(2, 5)),
    ("epochs", "2.0..5.0", Int(2, 5)),
    ("epochs", "log:1..1e2", Int(1, 100, log=True)),
    ("epochs", 3, Fixed(3)),
    ("epochs", 3.0, Fixed(3)),
    ("epochs", "3", Fixed(3)),
    ("batch_size", "8,16,32", Choice((8, 16, 32))),
    ("batch_size", [8, "16"], Choice((8, 16))),
    ("batch_size", [8], Fixed(8)),
    ("dropout", "none,0.1", Choice((None, 0.1))),
    ("dropout", None, Fixed(None)),
    ("dropout", "None", Fixed(None)),
    ("dropout", [None], Fixed(None)),
    ("dropout", "log:0.01..0.5", Float(0.01, 0.5, log=True)),
    ("micro_batch_size", "null", Fixed(None)),
    ("optimizer", " adamw ", Fixed("adamw")),
    ("optimizer", ["adamw"], Fixed("adamw")),
    ("schedule", "linear", Fixed("linear")),
]


def contains(domain: Domain, value: object) -> bool:
    """Whether a sampler could propose `value`."""
    match domain:
        case Float(low, high) | Int(low, high):
            return value is not None and low <= value <= high  # type: ignore[operator]
        case Choice(values):
            return value in values
        case Fixed(only):
            return value == only


@pytest.mark.parametrize(("name", "given", "domain"), READ, ids=[f"{n}={g}" for n, g, _ in READ])
def test_reading(name: str, given: object, domain: Domain) -> None:
    read = parse_domain(name, given)
    assert repr(read) == repr(domain)
    assert parse_domain(name, str(read)) == read, "a domain's text gives the domain"


@pytest.mark.parametrize(("name", "given", "domain"), READ, ids=[f"{n}={g}" for n, g, _ in READ])
def test_every_proposal_is_a_value_of_the_field(name: str, given: object, domain: Domain) -> None:
    searched = distributions({name: domain}, {})
    if isinstance(domain, Fixed):
        assert searched == {}
        assert fixed_values({name: domain}) == {name: domain.value}
        return
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(5):
        value = study.ask(searched).params[name]
        assert config_problems({name: value}) == []
        assert contains(domain, value)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("epochs", "5..2", "`low < high` must hold, but got (low=5, high=2)"),
        ("epochs", "2..2", "`low < high` must hold, but got (low=2, high=2)"),
        ("epochs", "1..nan", "`low < high` must hold, but got (low=1, high=nan)"),
        ("epochs", "1..inf", "`epochs` takes integers, but got 1.0..inf"),
        ("epochs", "-inf..3", "`epochs` takes integers, but got -inf..3.0"),
        ("epochs", "1.5..3", "`epochs` takes integers, but got 1.5..3.0"),
        ("epochs", 10**400, f"can't read {10**400}; write log:1e-5..1e-4, 0.0..0.1, 2..5, 8,16,32 or one value"),
        ("epochs", [], "can't read []; write log:1e-5..1e-4, 0.0..0.1, 2..5, 8,16,32 or one value"),
        ("epochs", [[2]], "can't read [[2]]; write log:1e-5..1e-4, 0.0..0.1, 2..5, 8,16,32 or one value"),
        ("epochs", True, "can't read True; write log:1e-5..1e-4, 0.0..0.1, 2..5, 8,16,32 or one value"),
        ("epochs", "2,,3", "can't read '2,,3'; write log:1e-5..1e-4, 0.0..0.1, 2..5, 8,16,32 or one value"),
        ("epochs", "1,none", "`epochs` must be an integer >= 1, but got None"),
        ("epochs", "2,2.5", "`epochs` must be an integer >= 1, but got 2.5"),
        ("epochs", [2, 2.0], "a choice stands twice in 2,2.0"),
        ("learning_rate", "log:-1..1", "`low > 0` must hold for a logarithmic range, but got (low=-1, high=1)"),
        ("learning_rate", 0, "`learning_rate` must be a number > 0, but got 0"),
        ("learning_rate", "nan", "`learning_rate` must be a number > 0, but got nan"),
        ("warmup_fraction", 1.0, "`warmup_fraction` must be a number >= 0 and < 1, but got 1.0"),
        ("optimizer", "adamw2", f"{ONE_OPTIMIZER}, but got 'adamw2'; did you mean 'adamw'?"),
        ("schedule", "linear,lineal", f"{ONE_SCHEDULE}, but got 'lineal'; did you mean 'linear'?"),
        ("schedule", "none", f"{ONE_SCHEDULE}, but got 'none'"),
        ("optimizer", 1, f"{ONE_OPTIMIZER}, but got 1"),
        ("epoch", 1, "'epoch' is no field of a trial's configuration; did you mean 'epochs'?"),
    ],
)
def test_refused(name: str, given: object, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_domain(name, given)
    assert str(caught.value) == words


def test_no_text_escapes_as_another_error() -> None:
    pieces = ["log:", "1", "-1", "..", ",", "e", "1e-5", "1e999", ".", " ", "none", "nan", "inf", "9" * 5000, "٣", "_"]
    for name, words in itertools.product(("epochs", "dropout"), itertools.product(pieces, repeat=3)):
        text = "".join(words)
        try:
            domain = parse_domain(name, text)
        except ValueError:
            continue
        assert parse_domain(name, str(domain)) == domain, text


@pytest.mark.parametrize("given", ["9007199254740993", " 9007199254740993 ", 9007199254740993])
def test_integers_stay_exact(given: object) -> None:
    assert parse_number(given) == 9007199254740993
    assert isinstance(parse_number(given), int)


def test_none_is_a_value_but_no_number() -> None:
    assert parse_value("none") is parse_value(None) is parse_value(" Null ") is None
    for given in ("none", None, True, [1], "", "x", 2**63, str(-(2**63))):
        with pytest.raises(ValueError):
            parse_number(given)


def test_largest() -> None:
    space: dict[str, Domain] = {
        "batch_size": Choice((8, 64, 32)),
        "epochs": Int(2, 5),
        "learning_rate": Float(1e-5, 1e-4),
        "dropout": Fixed(None),
    }
    assert [largest(space, name, 7) for name in (*space, "weight_decay")] == [64, 5, 1e-4, 7, 7]


DOMAINS: dict[str, tuple[Domain, ...]] = {
    "learning_rate": (Float(1e-5, 1e-4, log=True), Float(1e-5, 1e-4), Choice((1e-5, 3e-5)), Fixed(1e-5)),
    "batch_size": (Int(8, 32, log=True), Int(8, 32), Choice((8, 16)), Fixed(8)),
    "dropout": (Float(0.01, 0.5, log=True), Float(0.0, 0.5), Choice((None, 0.1)), Fixed(None)),
}


@pytest.mark.parametrize("name", DOMAINS)
def test_any_point_can_be_tried_in_any_domain(name: str) -> None:
    """Optuna accepts the distributions and the point's values; what it can't hold is left out of them."""
    values = {"learning_rate": [1e-9, 2e-5, 1.0], "batch_size": [1, 8, 512], "dropout": [None, 0.0, 0.1, 0.9]}[name]
    for domain, value in itertools.product(DOMAINS[name], values):
        searched = distributions({name: domain}, {name: value})
        study = optuna.create_study()
        if name in searched:
            assert searched[name]._contains(searched[name].to_internal_repr(value))
            study.enqueue_trial({name: value})
            assert study.ask(searched).params == {name: value}
        else:
            outside = isinstance(domain, Fixed) or not contains(domain, value)
            assert outside, "what the domain holds is searched"
