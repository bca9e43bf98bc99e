"""Does what makes training fast change what is learned? The same trials, plain and fast, seed by seed.

    python -m benchmarks.paired [SEEDS [EPOCHS [ROWS]]]

Plain: float32, transformers' own eager attention and torch's dropout, the whole embedding, every token of the last
layer, whole batches at once. Fast: as a sweep on this machine trains, in bfloat16. Head, batches and their order are
the same within a pair; dropout draws other numbers. Two processes, one thread each. Prints the mean difference of every
score and its standard error over the seeds.
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
    """Train all pairs and print the differences."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(2, maxtasksperchild=1) as pool:  # a process of its own for each: the plain form patches modules
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
    """One trial's last epoch."""
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
    """Take from this process what makes training fast."""
    from trainable.model import classifier as model
    from trainable.train import run

    plain_forms: dict[str, Callable[..., object]] = {
        "attention_for": lambda model_type: "eager",
        "install": lambda module: None,
        "can_slice": lambda module, pad_id: False,
        "compute_first_token_only": lambda module: False,
    }
    for name, plain_form in plain_forms.items():
        setattr(model, name, plain_form)
    run.CPU_TOKENS = 10**9


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*given, *(10, 3, 400)[len(given) :])
