"""Read and write named tensors, and whole model folders in Hugging Face's format. Nothing here is pickled."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainable.hub.model_folder import TOKENIZER_FILES, WEIGHT_FILES
from trainable.storage.folders import MANIFEST

MODEL_WEIGHTS = WEIGHT_FILES[0]
CODE_FIELDS = ("auto_map", "custom_pipelines")  # a folder names Python code here that transformers could be told to run


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write named tensors to one safetensors file.

    Raises:
        OSError: The file can't be written. The error names it.
    """
    try:
        save_file({name: t.detach().cpu().contiguous() for name, t in _untied(tensors).items()}, str(path), metadata)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read what `write_tensors` wrote."""
    return load_file(str(path))


def write_model(
    folder: Path,
    weights: Mapping[str, Tensor],
    config_json: str,
    architecture: str,
    start_folder: str,
    pad_token: str | None = None,
    max_length: int | None = None,
) -> None:
    """Write a model so that `transformers.pipeline` opens the folder.

    Args:
        folder: Where to write; it exists.
        weights: The model's weights by name.
        config_json: The model's configuration.
        architecture: The name of transformers' class.
        start_folder: The folder that the model was fine-tuned from; its tokenizer is copied.
        pad_token: What rows were padded with, where the tokenizer names no padding token.
        max_length: The tokens that rows were cut to; who lets this tokenizer cut, cuts to them.
    """
    write_tensors(folder / MODEL_WEIGHTS, weights, {"format": "pt"})
    _make_readable(folder / MODEL_WEIGHTS)
    config = json.loads(config_json)
    for name in ("_name_or_path", *CODE_FIELDS):
        config.pop(name, None)
    config["architectures"] = [architecture]
    config.pop("torch_dtype", None)
    config["dtype"] = "float32"  # transformers opens weights in what this says: others would be rounded
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name in TOKENIZER_FILES:
        if (Path(start_folder) / name).is_file():
            shutil.copyfile(Path(start_folder) / name, folder / name)
    _drop_code_fields(folder / "tokenizer_config.json")
    own = {"pad_token": pad_token, "model_max_length": max_length}
    if said := {name: value for name, value in own.items() if value is not None}:
        path = folder / "tokenizer_config.json"
        fields = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        path.write_text(json.dumps({**fields, **said}, indent=2, ensure_ascii=False) + "\n", "utf-8")


def average_models(folders: Sequence[Path], target: Path) -> None:
    """Write the model whose weights are the mean of those of several models of one kind.

    Args:
        folders: Models in Hugging Face's format; whatever is no weight is copied from the first.
        target: Where to write; it exists.
    """
    names = (MODEL_WEIGHTS, MANIFEST)
    for path in folders[0].iterdir():
        if path.name not in names:
            shutil.copyfile(path, target / path.name)
    mean = read_tensors(folders[0] / MODEL_WEIGHTS)
    for number, folder in enumerate(folders[1:], 2):
        for name, tensor in read_tensors(folder / MODEL_WEIGHTS).items():
            if tensor.is_floating_point():
                mean[name] += (tensor - mean[name]) / number
    write_tensors(target / MODEL_WEIGHTS, mean, {"format": "pt"})
    _make_readable(target / MODEL_WEIGHTS)


def _untied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each stored tensor once: safetensors refuses names that share memory, and loading ties them again."""
    seen: set[int] = set()
    kept = {}
    for name, tensor in weights.items():
        pointer = tensor.data_ptr()
        if pointer in seen and tensor.numel():
            continue
        seen.add(pointer)
        kept[name] = tensor
    return kept


def _make_readable(path: Path) -> None:
    """Give a file the mode that new files have; safetensors makes its files readable for the owner alone."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def _drop_code_fields(path: Path) -> None:
    """Remove the fields of a JSON file that name Python code: our models are of transformers' own classes."""
    if path.is_file():
        fields = json.loads(path.read_text(encoding="utf-8"))
        if named := [name for name in CODE_FIELDS if name in fields]:
            for name in named:
                del fields[name]
            path.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
