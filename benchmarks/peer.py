"""The peer that we compare with: transformers.Trainer.hyperparameter_search on Ray, over the same configurations.

    BENCH_DATA=FOLDER python -m benchmarks.peer OUT

It gets fair conditions: two slots of one core each, batches padded to their longest row, evaluation in batches of 64,
its default fused AdamW, and no progress bars. It saves a checkpoint after every epoch, because its user wants the best
model, too. It prints one line of JSON.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.workload import CONFIGURATIONS, SLOTS, load_rows, model_folder

if TYPE_CHECKING:
    from transformers import Trainer
    from transformers.trainer_utils import BestRun

    from trainable.data.splits import Split

NAMES = {  # our name of a hyperparameter: the Trainer's name
    "learning_rate": "learning_rate",
    "batch_size": "per_device_train_batch_size",
    "epochs": "num_train_epochs",
}
POINTS = [{NAMES[name]: value for name, value in point.items()} for point in CONFIGURATIONS]


def main(out: Path) -> None:
    """Search, and print the wall time of imports and search."""
    began = time.monotonic()
    best = search(make_trainer(out), out)
    wall_s = time.monotonic() - began
    assert best.run_summary is not None
    run = [{name: trial.config[name] for name in NAMES.values()} for trial in best.run_summary.trials]
    assert run == POINTS, "the peer ran other configurations"
    print(json.dumps({"wall_s": wall_s}))


def make_trainer(out: Path) -> Trainer:
    """Make a Trainer for a search over sentence pairs, as its documentation does."""
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    folder = str(model_folder())
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(split: Split) -> Dataset:
        encoded = tokenizer(*[list(column) for column in split.texts], truncation=True, max_length=128)
        return Dataset.from_dict({**encoded, "labels": list(split.labels)})

    train, validation = map(encode, load_rows())
    return Trainer(
        model_init=lambda: AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2),
        args=TrainingArguments(
            output_dir=str(out / "trainer"),
            eval_strategy="epoch",
            save_strategy="epoch",
            logging_strategy="epoch",
            per_device_eval_batch_size=64,
            use_cpu=True,
            disable_tqdm=True,
            report_to="none",
            seed=42,
        ),
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=scores,
    )


def scores(predictions: Any) -> dict[str, float]:
    """Compute accuracy, and F1 of class 1."""
    answers, truth = predictions.predictions.argmax(-1), predictions.label_ids
    true_positives = int(((answers == 1) & (truth == 1)).sum())
    wrong = int((answers != truth).sum())
    return {"accuracy": float((answers == truth).mean()), "f1": 2 * true_positives / (2 * true_positives + wrong)}


def search(trainer: Trainer, out: Path) -> BestRun:
    """Run each configuration once, in order, on Ray."""
    import ray
    from ray import tune
    from ray.tune.search.basic_variant import BasicVariantGenerator
    from transformers.trainer_utils import BestRun

    space = {name: tune.choice([point[name] for point in POINTS]) for name in NAMES.values()}
    ray.init(address="local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: space,
        compute_objective=lambda metrics: metrics["eval_f1"],
        direction="maximize",
        backend="ray",
        n_trials=len(POINTS),
        search_alg=BasicVariantGenerator(points_to_evaluate=POINTS, max_concurrent=SLOTS),
        resources_per_trial={"cpu": 1, "gpu": 0},
        storage_path=str(out / "ray"),
        verbose=0,
    )
    ray.shutdown()
    assert isinstance(best, BestRun)  # with one objective it is not a list
    return best


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main(Path(sys.argv[1]).resolve())
