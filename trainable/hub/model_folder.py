"""A pretrained model's folder: find it, check it before anything starts, name its contents. Never runs its code."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
from pathlib import Path
from typing import Any

from trainable.errors import nearest

WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
WEIGHT_PARTS = ("model-*-of-*.safetensors",)
PICKLED_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZER_MARKS = (
    "tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "spm.model", "tokenizer.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
TOKENIZER_FILES = (
    *TOKENIZER_MARKS, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt",
    "bpe.codes",
)  # fmt: skip
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "longformer", "data2vec-text")


def model_problems(folder: Path) -> list[str]:
    """Everything that keeps a folder from being fine-tuned as a sequence classifier."""
    if not os.path.isdir(folder):  # says no where Path.is_dir raises: a name that is too long
        return [f"--model {folder}: {'is a file, not a folder' if os.path.exists(folder) else 'no such folder'}"]
    problems = []
    if not (folder / "config.json").is_file():
        problems.append(f"--model {folder}: is no model's folder, it has no config.json")
    else:
        try:
            config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            problems.append(f"--model {folder}: config.json is no JSON: {error}")
        else:
            if isinstance(config, dict):
                problems += _type_problems(folder, config.get("model_type"))
            else:
                problems.append(f"--model {folder}: config.json holds no JSON object")
    if (folder / "adapter_config.json").is_file():  # transformers would open the model that it names
        problems.append(f"--model {folder}: holds an adapter (adapter_config.json); merge it into its model first")
    problems += _weight_problems(folder)
    if not any((folder / name).is_file() for name in TOKENIZER_MARKS):
        problems.append(f"--model {folder}: has no tokenizer ({', '.join(TOKENIZER_MARKS[:3])}, ...)")
    return problems


def _type_problems(folder: Path, model_type: object) -> list[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as KNOWN

    if isinstance(model_type, str) and model_type in KNOWN:
        return []
    hint = nearest(str(model_type), KNOWN) if isinstance(model_type, str) else "config.json names no model_type"
    if hint.startswith("known:"):
        hint = "transformers knows no sequence classifier of that type"
    return [f"--model {folder}: model type {model_type!r} can't classify sequences; {hint}"]


def _weight_problems(folder: Path) -> list[str]:
    """What is wrong with the weights that would be loaded: the first kind of WEIGHT_FILES that is there."""
    first = next((name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if first is None:
        pickled = next((name for name in PICKLED_WEIGHTS if (folder / name).is_file()), None)
        return [f"--model {folder}: {refusal(pickled, str(folder), str(folder))}"]
    files = [first]
    if first.endswith(".index.json"):
        try:
            places = json.loads((folder / first).read_text(encoding="utf-8"))["weight_map"]
            files = sorted({str(name) for name in places.values()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return [f"--model {folder}: {first} is damaged or cut off"]
    problems = []
    for name in files:
        if not name.endswith(".safetensors") or name != os.path.basename(name):
            problems.append(f"--model {folder}: {first} names {name!r}, which is no safetensors file beside it")
        elif not (folder / name).is_file():
            problems.append(f"--model {folder}: {first} names {name}, which is not there")
        elif not _is_whole(folder / name):
            problems.append(f"--model {folder}: {name} is damaged or cut off")
    return problems


def refusal(pickled: str | None, source: str, target: str) -> str:
    """Why a model without safetensors is not opened, and how its user makes some of pickled weights; a predicate.

    pickled: its file of such weights, None where it has no weights at all
    source, target: the folder or hub name to read, and the folder to write
    """
    if pickled is None:
        return f"has no weights ({WEIGHT_FILES[0]})"
    # Tensor by tensor: a class of transformers' would leave out what is not its own, like a pooler.
    code = (
        f"import torch, safetensors.torch as s; from pathlib import Path; d = Path({target!r}); t = {{}}; "
        "[t.update(torch.load(p, 'cpu', weights_only=True)) for p in d.glob('pytorch_model*.bin')]; "
        "s.save_file({k: v.clone().contiguous() for k, v in t.items()}, d / 'model.safetensors', {'format': 'pt'})"
    )
    if source != target:
        files = ["*.json", "*.txt", "*.model", "pytorch_model*.bin"]
        fetch = f"snapshot_download({source!r}, local_dir={target!r}, allow_patterns={files})"
        code = f"from huggingface_hub import snapshot_download; {fetch}; {code}"
    return (
        f"has only pickled weights ({pickled}), which may run code and are never opened here; if you trust them, make "
        f"safetensors of them, then use --model {target}:\n    python -c {shlex.quote(code)}"
    )


def _is_whole(path: Path) -> bool:
    """Whether a file of weights has its form and its length; their values are not read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as tensors:
            return bool(tensors.keys())
    except (OSError, SafetensorError):
        return False


def model_bytes(folder: Path) -> int:
    """What the model takes on disk as it is trained, in float32; at least what its files take now."""
    from safetensors import safe_open

    count = 0
    paths = sorted({path for name in (WEIGHT_FILES[0], *WEIGHT_PARTS) for path in folder.glob(name)})
    for path in paths:
        if path.suffix != ".safetensors":
            count += path.stat().st_size // 4
            continue
        with safe_open(path, framework="numpy") as tensors:
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return 4 * count


def longest_row(folder: Path) -> int | None:
    """Tokens that the model has positions for, None where its configuration sets no limit."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        return None
    # RoBERTa and its like count positions from behind the padding token's id.
    return positions - 2 if config.get("model_type") in OFFSET_POSITIONS else positions


def encoder_widths(folder: Path) -> tuple[int, int, int]:
    """Widths of the hidden states and the feed-forward part, and attention heads; BERT-base's where none are told."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))

    def first(default: int, *names: str) -> int:
        return next((config[name] for name in names if isinstance(config.get(name), int)), default)

    hidden = first(768, "hidden_size", "dim", "d_model", "n_embd")
    heads = first(12, "num_attention_heads", "n_heads", "num_heads", "n_head")
    feed_forward = first(4 * hidden, "intermediate_size", "hidden_dim", "d_ff", "n_inner")
    return hidden, feed_forward, heads if hidden % heads == 0 else 1


def model_files(folder: Path) -> list[Path]:
    """The files that make the model what it is, as far as they are there: configuration, weights, tokenizer."""
    parts = sorted(path.name for pattern in WEIGHT_PARTS for path in folder.glob(pattern))
    paths = [folder / name for name in ("config.json", *WEIGHT_FILES, *parts, *TOKENIZER_FILES)]
    return [path for path in paths if path.is_file()]


def model_fingerprint(folder: Path) -> str:
    """SHA-256 over configuration, weights and tokenizer files, as they lie in the folder."""
    digest = hashlib.sha256()
    for path in model_files(folder):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
