"""What every optimizer must do, whichever it is: a new one in trainable/optimizers/ is tested without a change."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import trainable.optimizers
from tests.trainable.runs import make_job
from trainable.config import TrialConfig
from trainable.model.weights import read_tensors, write_tensors
from trainable.optimizers import OPTIMIZERS, find_optimizers
from trainable.train.run import FineTuningRun
from trainable.train.state import restore_optimizer

ROOT = Path(__file__).parent.parent.parent
SETTINGS = TrialConfig(learning_rate=0.02, weight_decay=0.3, warmup_fraction=0.2)
STEPS = 20
UNUSED = [3, 7]  # rows of the table that no batch uses

every_optimizer = pytest.mark.parametrize("name", list(OPTIMIZERS))


class Net(nn.Module):
    """A table of rows, a normalisation and a head: each kind of tensor that an encoder has."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.table = nn.Embedding(9, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.norm(self.table(ids)))
        return logits


def rates(steps: int = STEPS) -> list[float]:
    return [SETTINGS.learning_rate_at(step, STEPS) for step in range(steps)]


def train(net: Net, optimizer: torch.optim.Optimizer, first: int = 0, last: int = STEPS) -> None:
    used = torch.tensor([i for i in range(9) if i not in UNUSED])
    for step in range(first, last):
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[-1]["lr"] = rates()[step]
        ids = used[torch.arange(4) + step % 3]
        nn.functional.cross_entropy(net(ids), ids % 2).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def weights(net: Net) -> list[torch.Tensor]:
    return [p.detach().clone() for p in net.parameters()]


@every_optimizer
def test_it_is_known_by_its_own_name_and_described_in_a_line(name: str) -> None:
    entry = OPTIMIZERS[name]
    assert entry.name == name
    assert name.isidentifier()
    assert 10 < len(entry.description) < 90
    assert "\n" not in entry.description


@every_optimizer
def test_two_runs_are_bit_equal(name: str) -> None:
    found = []
    for _ in range(2):
        net = Net()
        train(net, OPTIMIZERS[name].make(net.parameters(), SETTINGS))
        found.append(weights(net))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert not torch.equal(found[0][0], Net().table.weight), "nothing was trained"


@every_optimizer
@pytest.mark.parametrize("after", [1, 7, STEPS - 1])
def test_a_state_that_was_saved_and_loaded_goes_on_bit_equal(name: str, after: int, tmp_path: Path) -> None:
    whole = Net()
    train(whole, OPTIMIZERS[name].make(whole.parameters(), SETTINGS))

    first = Net()
    optimizer = OPTIMIZERS[name].make(first.parameters(), SETTINGS)
    train(first, optimizer, last=after)
    state = optimizer.state_dict()["state"]
    flat = {f"{i}.{key}": value for i, values in state.items() for key, value in values.items()}
    assert all(isinstance(value, torch.Tensor) for value in flat.values()), "a state on disk holds tensors only"
    write_tensors(tmp_path / "optimizer", flat)

    second = Net()
    second.load_state_dict(first.state_dict())
    again = OPTIMIZERS[name].make(second.parameters(), SETTINGS)
    read = read_tensors(tmp_path / "optimizer")
    restore_optimizer(again, {i: {key: read[f"{i}.{key}"] for key in values} for i, values in state.items()})
    train(second, again, first=after)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))


@every_optimizer
def test_a_row_without_gradient_gets_exactly_the_decay_that_it_claims(name: str) -> None:
    net = Net()
    before = net.table.weight.detach().clone()
    train(net, OPTIMIZERS[name].make(net.parameters(), SETTINGS))
    claimed = OPTIMIZERS[name].missed_decay(SETTINGS, rates())
    torch.testing.assert_close(net.table.weight.detach()[UNUSED], before[UNUSED] * claimed, rtol=1e-6, atol=0)
    assert OPTIMIZERS[name].missed_decay(SETTINGS, []) == 1.0


@every_optimizer
def test_the_decay_of_two_parts_is_that_of_both(name: str) -> None:
    """A trial that goes on from a state has missed the decay of all its steps."""
    decay = OPTIMIZERS[name].missed_decay
    assert decay(SETTINGS, rates()) == pytest.approx(decay(SETTINGS, rates()[:7]) * decay(SETTINGS, rates()[7:]))


@every_optimizer
def test_it_keeps_as_many_tensors_for_each_weight_as_it_says(name: str) -> None:
    net = Net()
    optimizer = OPTIMIZERS[name].make(net.parameters(), SETTINGS)
    train(net, optimizer, last=2)
    for parameter in net.parameters():
        kept = [value for value in optimizer.state[parameter].values() if value.shape == parameter.shape]
        assert len(kept) == OPTIMIZERS[name].moments


@every_optimizer
def test_a_step_at_rate_zero_changes_nothing(name: str) -> None:
    """A schedule with warm-up begins with one."""
    net = Net()
    before = weights(net)
    optimizer = OPTIMIZERS[name].make(net.parameters(), SETTINGS)
    assert rates()[0] == 0.0
    train(net, optimizer, last=1)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(net), strict=True))


@every_optimizer
def test_biases_and_normalisation_weights_are_not_decayed(name: str) -> None:
    optimizer = OPTIMIZERS[name].make(Net().parameters(), SETTINGS)
    decay = {p.dim(): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {2: SETTINGS.weight_decay, 1: 0.0}


TOY = """
from trainable.optimizers.base import OptimizerEntry, decay_groups

def make(parameters, settings):
    import torch
    return torch.optim.SGD(decay_groups(parameters, 0.0), lr=settings.learning_rate, momentum=0.9)

OPTIMIZER = OptimizerEntry("toy", "an optimizer that a test added", make, 1, lambda settings, rates: 1.0)
"""


def test_one_new_file_adds_an_optimizer_that_trains_and_goes_on(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy_of_a_test.py").write_text(TOY)
    monkeypatch.setattr(trainable.optimizers, "__path__", [*trainable.optimizers.__path__, str(tmp_path)])
    found = find_optimizers()
    assert found.keys() == {*OPTIMIZERS, "toy"}
    monkeypatch.setitem(OPTIMIZERS, "toy", found["toy"])
    config = TrialConfig(learning_rate=0.005, batch_size=8, epochs=2).model_copy(update={"optimizer": "toy"})
    job = make_job(tiny_model)
    straight = FineTuningRun(job)
    straight.reset(config, 1)
    straight.next_epoch()
    straight.save_state(tmp_path / "state")
    straight.next_epoch()
    straight.write_best(tmp_path / "straight")
    assert isinstance(straight.optimizer, torch.optim.SGD)

    monkeypatch.setattr(TrialConfig, "from_values", lambda values: config)  # its names were read before the toy came
    resumed = FineTuningRun(job)
    resumed.reset(config, 1)
    assert resumed.load_state(tmp_path / "state")
    resumed.next_epoch()
    resumed.write_best(tmp_path / "resumed")
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "resumed"))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("room", "field", "toy"), [("optimizers", "optimizer", TOY), ("schedules", "schedule", None)])
def test_a_configuration_may_name_what_one_new_file_adds(
    room: str, field: str, toy: str | None, tmp_path: Path
) -> None:
    """In a copy of the package that has one more file, and no other change."""
    from tests.contracts.test_schedules import TOY as TOY_SCHEDULE

    shutil.copytree(ROOT / "trainable", tmp_path / "trainable", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "trainable" / room / "toy_of_a_test.py").write_text(toy or TOY_SCHEDULE)
    script = (
        f"import sys; from trainable.config import TrialConfig; assert {str(tmp_path)!r} in sys.path\n"
        f"assert TrialConfig.from_values({{'{field}': 'toy'}}).named() == {{'{field}': 'toy'}}\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path)


def test_the_table_is_light() -> None:
    """`--help` reads it."""
    script = "import sys, trainable.optimizers; assert not {'optuna', 'ray', 'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
