"""Do the changes that make training fast change what is learned? The same trials in both forms, seed by seed.

    python -m benchmarks.paired [SEEDS [EPOCHS [ROWS]]]

The plain form trains in float32 with transformers' own eager attention, torch's dropout, the whole embedding, every
token of the last layer, and whole batches at once. The fast form trains as a sweep on this machine does, in bfloat16.
Within a pair the initial head, the batches and their order are the same, but dropout draws different numbers. Two
processes run side by side with one thread each. The output is the mean difference of every score over the seeds, with
its standard error.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import sys
from collections.abc import Callable
from typing import Any

SCORES = ("train_loss", "loss", "accuracy", "f1", "train_s")


def main(seeds: int, epochs: int, rows: int) -> None:
    """Train all pairs and print the differences as JSON."""
    context = multiprocessing.get_context("spawn")
    # Each trial gets a new process, because the plain form patches modules.
    with context.Pool(2, maxtasksperchild=1) as pool:
        tasks = [(seed, plain, epochs, rows) for seed in range(seeds) for plain in (True, False)]
        results = pool.starmap(train, tasks, chunksize=1)
    plain, fast = results[::2], results[1::2]
    summary: dict[str, Any] = {"seeds": seeds, "epochs": epochs, "rows": rows}
    for name in SCORES:
        differences = [b[name] - a[name] for a, b in zip(plain, fast, strict=True)]
        summary[name] = {
            "plain": statistics.mean(result[name] for result in plain),
            "fast": statistics.mean(result[name] for result in fast),
            "difference": statistics.mean(differences),
            "standard_error": statistics.stdev(differences) / seeds**0.5,
        }
    print(json.dumps(summary, indent=1))


def train(seed: int, plain: bool, epochs: int, rows: int) -> dict[str, float]:
    """Train one trial and return the scores of its last epoch."""
    from benchmarks.workload import make_job
    from trainable.config import TrialConfig
    from trainable.train import run

    if plain:
        make_plain()
    trial = run.FineTuningRun(make_job(rows, "fp32" if plain else "bf16"))
    trial.reset(TrialConfig(learning_rate=1e-4, batch_size=8, epochs=epochs, warmup_fraction=0.1), seed)
    while not trial.done:
        trial.next_epoch()
    last = trial.history[-1].as_json()
    return {name: float(last[name]) for name in SCORES}


def make_plain() -> None:
    """Turn off in this process everything that makes training fast."""
    from trainable.model import classifier as model
    from trainable.train import run

    plain_forms: dict[str, Callable[..., object]] = {
        "attention_for": lambda model_type: "eager",
        "install": lambda module: None,
        "can_slice": lambda module, pad_id: False,
        "compute_first_token_only": lambda module: False,
    }
    for name, plain_form in plain_forms.items():
        getattr(model, name)  # a name that has moved away would be replaced in vain
        setattr(model, name, plain_form)
    run.CPU_TOKENS = 10**9  # type: ignore[attr-defined]


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*given, *(10, 3, 400)[len(given) :])
