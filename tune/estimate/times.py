"""The measured seconds of a sweep's parts, and the file in the user's cache that remembers them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast, get_args

from trainable.config import Precision
from trainable.storage.folders import write_text

NUMBERS_KEPT = ("fp32_ratio", "rehearsal_s", "start_s", "eval_s")
VERSIONS_OF = ("finetune-search", "torch", "transformers", "ray")


@dataclass(frozen=True)
class Times:
    """What a few steps showed."""

    precision: Precision
    """What was measured in."""
    why_precision: str
    """Why it was chosen, in words."""
    fp32_ratio: float
    """A step in float32 takes so many times as long."""
    rehearsal_s: float
    """How long the choice of the precision took."""
    start_s: float = 0.0
    """How long workers took until they could train."""
    eval_s: float = 0.0
    """An evaluation of the validation split."""
    train_epoch_s: Mapping[int, float] = field(default_factory=dict)
    """By batch size: training of an epoch."""
    device: str = ""
    """What computed."""
    side_by_side: int = 0
    """How many workers computed at the same time."""
    measured_at: float = 0.0
    """When, seconds since 1970."""
    steps: int = 0
    """How many steps this very command has computed; 0 where all was known."""


def cache_file(of: Mapping[str, Any]) -> Path:
    """Where the seconds are kept of a sweep with this model, data, machine and so on.

    Args:
        of: All that they hang on.
    """
    known = {**of, "versions": {name: version(name) for name in VERSIONS_OF}}
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(caches) / "finetune-search" / "times" / f"{digest[:32]}.json"


def read_times(file: Path) -> Times | None:
    """What was measured before; None where nothing was, or the file is no such."""
    try:
        loaded = json.loads(file.read_text(encoding="utf-8"))
        ratio, rehearsal_s, start_s, eval_s = (float(loaded[name]) for name in NUMBERS_KEPT)
        epochs = {int(size): float(seconds) for size, seconds in loaded["train_epoch_s"].items()}
        precision = loaded["precision"]
        if precision not in get_args(Precision) or min([ratio, rehearsal_s, start_s, eval_s, *epochs.values()]) < 0:
            return None
        return Times(
            cast(Precision, precision),
            str(loaded["why_precision"]),
            ratio,
            rehearsal_s,
            start_s,
            eval_s,
            train_epoch_s=epochs,
            device=str(loaded["device"]),
            side_by_side=int(loaded["side_by_side"]),
            measured_at=float(loaded["measured_at"]),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def keep_times(file: Path, times: Times) -> None:
    """Remember what was measured; nothing happens where the cache can't be written to."""
    kept = replace(times, steps=0, measured_at=time.time())
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(asdict(kept), indent=1))
