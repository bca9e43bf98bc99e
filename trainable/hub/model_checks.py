"""Check a model's folder before anything starts: can it be fine-tuned, and opened without running its code?"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.errors import nearest
from trainable.hub.model_folder import PICKLED_WEIGHTS, TOKENIZER_MARKS, WEIGHT_FILES, embedding_rows, model_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_LFS = b"version https://git-lfs.github.com/spec/"


def model_problems(folder: Path) -> list[str]:
    """Everything that keeps a folder from being fine-tuned as a sequence classifier, a sentence each."""
    if not os.path.isdir(folder):  # unlike Path.is_dir, it does not raise where the name is too long
        return [f"--model {folder}: {'is a file, not a folder' if os.path.exists(folder) else 'no such folder'}"]
    if unread := _unread_problems(folder):
        return unread
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
                problems += _quantized_problems(folder, config.get("quantization_config"))
            else:
                problems.append(f"--model {folder}: config.json holds no JSON object")
    if (folder / "adapter_config.json").is_file():  # transformers would open another model, the one that it names
        problems.append(f"--model {folder}: holds an adapter (adapter_config.json); merge it into its model first")
    problems += _weight_problems(folder)
    if not any((folder / name).is_file() for name in TOKENIZER_MARKS) and not _tokenizes_without_files(folder):
        problems.append(f"--model {folder}: has no tokenizer ({', '.join(TOKENIZER_MARKS[:3])}, ...)")
    return problems


def tokenizer_problems(folder: Path, tokenizer: PreTrainedTokenizerBase, has_pairs: bool | None) -> list[str]:
    """Say where a tokenizer gives the model inputs that it has no weights for: every trial would fail on them.

    Args:
        folder: The model's; `model_problems` found nothing wrong with it.
        tokenizer: Loaded from it.
        has_pairs: Whether the data's rows are pairs of texts; None where the data could not be read.
    """
    problems = []
    largest = max(tokenizer.get_vocab().values(), default=0)
    rows = embedding_rows(folder)
    if rows is not None and largest >= rows:
        problems.append(
            f"--model {folder}: its tokenizer has ids up to {largest}, but the embedding has {rows} rows: tokens were "
            "added without model.resize_token_embeddings(len(tokenizer)), or the tokenizer is another model's"
        )
    types = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("type_vocab_size")
    if has_pairs and isinstance(types, int) and types > 0:
        told = max(tokenizer("a", "b").get("token_type_ids", [0]))
        if told >= types:
            has = f"the model has {types} token type{'' if types == 1 else 's'}"
            problems.append(
                f"--model {folder}: its tokenizer marks the second text of a pair with token type {told}, but {has}: "
                "the tokenizer is another model's"
            )
    return problems


def _unread_problems(folder: Path) -> list[str]:
    """Say which files can't be read, or are pointers of git LFS in place of the files."""
    problems = []
    for path in model_files(folder):
        try:
            with path.open("rb") as file:
                if file.read(len(_LFS)) == _LFS:
                    problems.append(
                        f"--model {folder}: {path.name} is a pointer of git LFS, not the file itself; fetch the files "
                        "with: git lfs pull"
                    )
        except PermissionError:
            problems.append(f"--model {folder}: {path.name} can't be read: permission denied{_owner(path)}")
        except OSError as error:
            problems.append(f"--model {folder}: {path.name} can't be read: {error.strerror or error}")
    return problems


def _owner(path: Path) -> str:
    try:
        return f"; it is {path.owner()}'s"
    except (KeyError, OSError):  # an owner without a name
        return ""


def _quantized_problems(folder: Path, quantization: object) -> list[str]:
    """Say that weights are quantized: they can't be trained."""
    if quantization is None:
        return []
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    how = f" ({method})" if isinstance(method, str) else ""
    return [f"--model {folder}: its weights are quantized{how} and can't be fine-tuned; use the model it was made from"]


def _tokenizes_without_files(folder: Path) -> bool:
    """Whether the folder names a tokenizer that needs no vocabulary, since it reads letters, as CANINE's does."""
    import transformers

    try:
        fields = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        kind = getattr(transformers, fields["tokenizer_class"])
        return issubclass(kind, transformers.PreTrainedTokenizerBase) and not kind.vocab_files_names
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _type_problems(folder: Path, model_type: object) -> list[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as KNOWN

    if isinstance(model_type, str) and model_type in KNOWN:
        return []
    hint = nearest(str(model_type), KNOWN) if isinstance(model_type, str) else "config.json names no model_type"
    if hint.startswith("known:"):
        hint = "transformers knows no sequence classifier of that type"
    return [f"--model {folder}: model type {model_type!r} can't classify sequences; {hint}"]


def _weight_problems(folder: Path) -> list[str]:
    """What is wrong with the weights that transformers would load: the first of WEIGHT_FILES that is there."""
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
        elif kind := _integer_kind(folder / name):
            problems.append(
                f"--model {folder}: {name} holds weights of type {kind}: its weights are quantized and can't be "
                "fine-tuned; use the model it was made from"
            )
    return problems


def refusal(pickled: str | None, source: str, target: str) -> str:
    """Why a model without safetensors is not opened, as a predicate, with a command that converts its weights.

    Args:
        pickled: The name of its file of pickled weights; None if it has no weights at all.
        source: The folder or hub name that the command reads.
        target: The folder that it writes.
    """
    if pickled is None:
        return f"has no weights ({WEIGHT_FILES[0]})"
    words = [source] if source == target else [source, target]
    return (
        f"has only pickled weights ({pickled}), which may run code and are never opened here; make safetensors of "
        f"them, then use --model {target}:\n    python -m tune.convert {shlex.join(words)}"
    )


def _is_whole(path: Path) -> bool:
    """Whether a file of weights has a valid header and the length that it states. The values are not read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as tensors:
            return bool(tensors.keys())
    except (OSError, SafetensorError):
        return False


def _integer_kind(path: Path) -> str:
    """The type of weights that are small integers, in a file of weights; empty where all can be trained."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as tensors:
        for name in tensors.keys():  # noqa: SIM118
            tensor = tensors.get_slice(name)
            if name.endswith("weight") and tensor.get_dtype() in ("I8", "U8", "F8_E4M3", "F8_E5M2", "I32"):
                return str(tensor.get_dtype())
    return ""
