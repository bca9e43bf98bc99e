"""A pretrained model's folder: find it, check it before anything starts, name its contents. Never runs its code."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from trainable.errors import nearest

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
TOKENIZER_MARKS = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")


def model_problems(folder: Path) -> list[str]:
    """Everything that keeps a folder from being fine-tuned as a sequence classifier."""
    if not folder.is_dir():
        return [f"--model {folder}: {'is a file, not a folder' if folder.exists() else 'no such folder'}"]
    problems = []
    config: Any = None
    if not (folder / "config.json").is_file():
        problems.append(f"--model {folder}: is no model's folder, it has no config.json")
    else:
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            problems.append(f"--model {folder}: config.json is no JSON: {error}")
    if isinstance(config, dict):
        problems += _type_problems(folder, config.get("model_type"))
    weights = [name for name in WEIGHT_FILES if (folder / name).is_file()]
    if not weights:
        problems.append(f"--model {folder}: has no weights ({' or '.join(WEIGHT_FILES[::2])})")
    elif weights[0] == "model.safetensors" and not _is_safetensors(folder / weights[0]):
        problems.append(f"--model {folder}: model.safetensors is damaged or cut off")
    if not any((folder / name).is_file() for name in TOKENIZER_MARKS):
        problems.append(f"--model {folder}: has no tokenizer ({', '.join(TOKENIZER_MARKS[:3])}, ...)")
    return problems


def _type_problems(folder: Path, model_type: object) -> list[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as KNOWN

    if model_type in KNOWN:
        return []
    hint = nearest(str(model_type), KNOWN) if isinstance(model_type, str) else "config.json names no model_type"
    if hint.startswith("known:"):
        hint = "transformers knows no sequence classifier of that type"
    return [f"--model {folder}: model type {model_type!r} can't classify sequences; {hint}"]


def _is_safetensors(path: Path) -> bool:
    """Whether the header is whole and the file as long as it says."""
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size)) if size < 2**28 else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return bool(ends) and path.stat().st_size == 8 + size + max(ends)
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return False


def model_fingerprint(folder: Path) -> str:
    """SHA-256 over configuration, weights and tokenizer files, as they lie in the folder."""
    digest = hashlib.sha256()
    for name in ("config.json", *WEIGHT_FILES, *TOKENIZER_MARKS):
        path = folder / name
        if path.is_file():
            with path.open("rb") as file:
                digest.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
