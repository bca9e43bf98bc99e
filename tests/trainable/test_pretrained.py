"""Laws of a model's folder: whole ones pass, every lack is told, the fingerprint is that of the contents."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from trainable.hub.model_checks import model_problems
from trainable.hub.model_folder import model_fingerprint

REASON = "is damaged or cut off"


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "a model"))


def split_weights(folder: Path) -> None:
    """The weights as two files and their index, as large models come."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, chosen in parts.items():
        save_file({name: tensors[name] for name in chosen}, folder / file)
    places = {name: file for file, chosen in parts.items() for name in chosen}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def torch_weights(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def old_torch_weights(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    (folder / "model.safetensors").unlink()


def one_tokenizer_file(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "vocab.txt").unlink()
        (folder / "tokenizer.json").rename(folder / name)

    return change


@pytest.mark.parametrize(
    "change",
    [lambda folder: None, split_weights]
    + [one_tokenizer_file(name) for name in ("tokenizer.json", "spm.model", "spiece.model", "vocab.json")],
)
def test_a_whole_model_passes(change: Callable[[Path], None], folder: Path) -> None:
    change(folder)
    assert model_problems(folder) == []


@pytest.mark.parametrize("change", [torch_weights, old_torch_weights])
def test_pickled_weights_are_refused_with_the_command_that_converts_them(
    change: Callable[[Path], None], folder: Path
) -> None:
    change(folder)
    (problem,) = model_problems(folder)
    assert problem.startswith(f"--model {folder}: has only pickled weights (pytorch_model.bin), which may run code")
    assert shlex.split(problem.splitlines()[1])[1:] == ["-m", "tune.convert", str(folder)]
    (folder / "pytorch_model.bin").rename(folder / "pytorch_model.bin.index.json")
    (problem,) = model_problems(folder)
    assert "has only pickled weights (pytorch_model.bin.index.json)" in problem


@pytest.mark.parametrize(
    "named", ["pytorch_model-1-of-1.bin", "../model.safetensors", "/tmp/model.safetensors", "a/../model.safetensors"]
)
def test_an_index_that_names_anything_but_safetensors_beside_it(named: str, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    index = "model.safetensors.index.json"
    (folder / index).write_text(json.dumps({"weight_map": {"a": named}}))
    assert model_problems(folder) == [
        f"--model {folder}: {index} names {named!r}, which is no safetensors file beside it"
    ]


def test_an_adapter_is_no_model(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/else"}')
    assert model_problems(folder) == [
        f"--model {folder}: holds an adapter (adapter_config.json); merge it into its model first"
    ]


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 100, -1])
def test_weights_that_are_cut_off_anywhere(keep: int, folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert model_problems(folder) == [f"--model {folder}: model.safetensors {REASON}"]


@pytest.mark.parametrize(
    "header", [b"[1]", b"{}", b'{"a": 1}', b'{"a": {"data_offsets": []}}', b"\xff", b"[" * 100_000]
)
def test_weights_with_another_header(header: bytes, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert model_problems(folder) == [f"--model {folder}: model.safetensors {REASON}"]


def test_weights_with_more_than_they_name(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"more")
    assert model_problems(folder) == [f"--model {folder}: model.safetensors {REASON}"]


def test_every_part_of_the_weights_is_checked(folder: Path) -> None:
    split_weights(folder)
    (folder / "model-00001-of-00002.safetensors").unlink()
    second = folder / "model-00002-of-00002.safetensors"
    second.write_bytes(second.read_bytes()[:-1])
    index = "model.safetensors.index.json"
    assert model_problems(folder) == [
        f"--model {folder}: {index} names model-00001-of-00002.safetensors, which is not there",
        f"--model {folder}: model-00002-of-00002.safetensors {REASON}",
    ]


@pytest.mark.parametrize(
    "index",
    ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": [1]}', "[" * 100_000],
)
def test_an_index_that_is_none(index: str, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(index)
    assert model_problems(folder) == [f"--model {folder}: model.safetensors.index.json {REASON}"]


@pytest.mark.parametrize("model_type", [None, 3, True, ["bert"], {"a": 1}, "", "t6", "vit"])
def test_a_type_that_can_not_classify(model_type: object, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (problem,) = model_problems(folder)
    assert problem.startswith(f"--model {folder}: model type {model_type!r} can't classify sequences; ")
    assert len(problem) - len(str(folder)) < 150


def test_every_lack_is_told(tmp_path: Path) -> None:
    assert model_problems(tmp_path / "none") == [f"--model {tmp_path}/none: no such folder"]
    (tmp_path / "file").write_text("")
    assert model_problems(tmp_path / "file") == [f"--model {tmp_path}/file: is a file, not a folder"]
    (tmp_path / "empty").mkdir()
    assert model_problems(tmp_path / "empty") == [
        f"--model {tmp_path}/empty: is no model's folder, it has no config.json",
        f"--model {tmp_path}/empty: has no weights (model.safetensors)",
        f"--model {tmp_path}/empty: has no tokenizer (tokenizer.json, vocab.txt, vocab.json, ...)",
    ]


def test_the_fingerprint_is_that_of_the_contents(folder: Path, tmp_path: Path) -> None:
    first = model_fingerprint(folder)
    assert model_fingerprint(Path(shutil.copytree(folder, tmp_path / "elsewhere"))) == first
    (folder / "README.md").write_text("not read by the model")
    assert model_fingerprint(folder) == first
    seen = {first}
    for name in ("config.json", "tokenizer.json", "vocab.txt", "model.safetensors"):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(before + b" ")
        seen.add(model_fingerprint(folder))
        (folder / name).unlink()
        seen.add(model_fingerprint(folder))
        (folder / name).write_bytes(before)
    assert len(seen) == 9
    assert model_fingerprint(folder) == first


def test_the_fingerprint_covers_every_part_of_the_weights(folder: Path) -> None:
    split_weights(folder)
    first = model_fingerprint(folder)
    part = folder / "model-00002-of-00002.safetensors"
    part.write_bytes(part.read_bytes()[:-1] + b"\x01")
    assert model_fingerprint(folder) != first
