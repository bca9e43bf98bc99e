"""Check a model's folder before anything starts: can it be fine-tuned, and opened without running its code?"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

from trainable.errors import nearest
from trainable.hub.model_folder import PICKLED_WEIGHTS, TOKENIZER_MARKS, WEIGHT_FILES


def model_problems(folder: Path) -> list[str]:
    """Everything that keeps a folder from being fine-tuned as a sequence classifier, a sentence each."""
    if not os.path.isdir(folder):  # unlike Path.is_dir, it does not raise where the name is too long
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
    if (folder / "adapter_config.json").is_file():  # transformers would open another model, the one that it names
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
    # The command copies tensor by tensor: a model class of transformers would drop tensors that it does not know.
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
    """Whether a file of weights has a valid header and the length that it states. The values are not read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as tensors:
            return bool(tensors.keys())
    except (OSError, SafetensorError):
        return False
