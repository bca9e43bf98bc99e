"""Make safetensors of a model's pickled weights, which the search never opens.

python -m tune.convert FOLDER            writes FOLDER/model.safetensors
python -m tune.convert NAME FOLDER       fetches NAME from the hub into FOLDER first

Only tensors are read: torch refuses everything else that a pickle may hold.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from trainable.errors import UserError
from trainable.hub.model_folder import PICKLED_WEIGHTS, TOKENIZER_FILES, WEIGHT_FILES

WEIGHTS, INDEX = PICKLED_WEIGHTS


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = make_parser().parse_args(argv)
    folder = Path(given.folder or given.model)
    try:
        if given.folder is not None:
            fetch(given.model, folder)
        convert(folder)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{folder / WEIGHT_FILES[0]} is written; next: python -m tune.search --model {folder} ...")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tune.convert",
        description="Make safetensors of a model's pickled weights. Only tensors are read of the pickle.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="FOLDER|NAME", help="the model's folder, or its name on the hub")
    parser.add_argument("folder", metavar="FOLDER", nargs="?", help="where a model from the hub is put")
    return parser


def fetch(name: str, folder: Path) -> None:
    """Fetch a model's configuration, tokenizer and pickled weights from the hub.

    Raises:
        UserError: The hub does not give them.
    """
    from huggingface_hub import snapshot_download

    try:
        index = [*snapshot_parts(name, folder)]
        snapshot_download(name, local_dir=folder, allow_patterns=["config.json", *TOKENIZER_FILES, *index])
    except Exception as error:  # the hub's client raises many kinds
        raise UserError([f"{name}: can't be fetched from the hub: {str(error).splitlines()[0]}"]) from error


def snapshot_parts(name: str, folder: Path) -> list[str]:
    """The files of a hub model's weights: those that its index names, else the one file."""
    from huggingface_hub import hf_hub_download, list_repo_files

    if INDEX not in list_repo_files(name):
        return [WEIGHTS]
    return weight_files(Path(hf_hub_download(name, INDEX, local_dir=folder)).parent)


def weight_files(folder: Path) -> list[str]:
    """The files that hold a folder's weights; never others that lie beside them, such as a generator's.

    Raises:
        UserError: There are none, or the index names files elsewhere.
    """
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if not (folder / INDEX).is_file():
        raise UserError([f"{folder}: has no pickled weights ({WEIGHTS} or {INDEX})"])
    try:
        places = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(places.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError([f"{folder / INDEX}: is damaged or cut off"]) from error
    if strangers := [name for name in names if name != os.path.basename(name)]:
        raise UserError([f"{folder / INDEX}: names {strangers[0]!r}, which is no file beside it"])
    return names


def convert(folder: Path) -> None:
    """Write a folder's pickled weights as model.safetensors, all or nothing.

    Raises:
        UserError: There are no pickled weights, a file is missing, or one holds anything but tensors.
    """
    import torch
    from safetensors.torch import save_file

    if not folder.is_dir():
        raise UserError([f"{folder}: no such folder"])
    if (folder / WEIGHT_FILES[0]).exists():
        raise UserError([f"{folder}: has {WEIGHT_FILES[0]} already"])
    tensors: dict[str, torch.Tensor] = {}
    for name in weight_files(folder):
        try:
            read = torch.load(folder / name, map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise UserError([f"{folder}: {INDEX} names {name}, which is not there"]) from error
        except Exception as error:  # of a damaged file torch raises many kinds
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError([f"{folder / name}: holds something else than tensors, or is damaged: {reason}"]) from error
        tensors |= {key: value for key, value in read.items() if isinstance(value, torch.Tensor)}
    aside = folder / f"{WEIGHT_FILES[0]}.part"
    try:
        # Tied tensors share memory, which safetensors refuses: each name gets its own copy.
        save_file({key: value.clone().contiguous() for key, value in tensors.items()}, aside, {"format": "pt"})
        os.replace(aside, folder / WEIGHT_FILES[0])
    finally:
        aside.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
