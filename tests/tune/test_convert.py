"""`python -m tune.convert`: the model's own weights become safetensors, and nothing else is opened."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tests.hub import Hub
from tests.trainable.test_hub import child_environment
from tests.tune.test_end_to_end import ROOT
from trainable.hub.model_checks import model_problems
from tune.convert import main


@pytest.fixture
def pickled(tiny_model: Path, tmp_path: Path) -> Path:
    """A model whose weights are pickled, with another model's beside them, as DeBERTa-v3 has them on the hub."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "a model"))
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(tmp_path / "right.safetensors")
    torch.save(tensors, folder / "pytorch_model.bin")
    torch.save({name: tensor + 1 for name, tensor in tensors.items()}, folder / "pytorch_model.generator.bin")
    return folder


def same_as_before(folder: Path) -> bool:
    right, made = load_file(folder.parent / "right.safetensors"), load_file(folder / "model.safetensors")
    return right.keys() == made.keys() and all(torch.equal(right[name], made[name]) for name in right)


def test_only_the_models_own_weights_are_taken(pickled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(pickled)]) == 0
    assert same_as_before(pickled)
    assert model_problems(pickled) == []
    assert "next: python -m tune.search --model" in capsys.readouterr().out


def test_shards_are_those_of_the_index(pickled: Path) -> None:
    tensors = torch.load(pickled / "pytorch_model.bin", weights_only=True)
    (pickled / "pytorch_model.bin").unlink()
    places = {}
    for number, name in enumerate(tensors):
        places[name] = f"pytorch_model-0000{number % 2 + 1}-of-00002.bin"
    for file in set(places.values()):
        torch.save({name: tensors[name] for name in places if places[name] == file}, pickled / file)
    (pickled / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    assert main([str(pickled)]) == 0
    assert same_as_before(pickled)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("this code must not run",))


def test_a_pickle_with_code_is_refused_and_not_run(pickled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pickled / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil()}))
    assert main([str(pickled)]) == 2
    said = capsys.readouterr()
    assert "holds something else than tensors, or is damaged" in said.err
    assert "must not run" not in said.out
    assert not [*pickled.glob("model.safetensors*")]


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ({"weight_map": {"a": "../other.bin"}}, "which is no file beside it"),
        ({"weight_map": {"a": "gone.bin"}}, "names gone.bin, which is not there"),
        ({}, "is damaged or cut off"),
    ],
)
def test_a_wrong_index_is_told(pickled: Path, index: object, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    (pickled / "pytorch_model.bin").unlink()
    (pickled / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert main([str(pickled)]) == 2
    assert says in capsys.readouterr().err


def test_nothing_to_convert_is_told(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none")]) == 2
    assert main([str(tiny_model)]) == 2
    assert main([str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "no such folder" in said
    assert "has model.safetensors already" in said
    assert "has no pickled weights (pytorch_model.bin or pytorch_model.bin.index.json)" in said


def test_a_name_is_fetched_from_the_hub_without_what_lies_beside_it(pickled: Path, tmp_path: Path) -> None:
    with Hub({("model", "someone/electra"): pickled}) as hub:
        environment = child_environment(HF_HOME=str(tmp_path / "home"), HF_ENDPOINT=hub.url, PYTHONPATH=str(ROOT))
        done, unknown = (
            subprocess.run(
                [sys.executable, "-m", "tune.convert", name, str(tmp_path / "new")],
                env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
            )
            for name in ("someone/electra", "someone/else")
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "new" / "model.safetensors").is_file()
    assert not (tmp_path / "new" / "pytorch_model.generator.bin").exists()
    AutoTokenizer.from_pretrained(tmp_path / "new")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr.startswith("someone/else: can't be fetched from the hub: ")
