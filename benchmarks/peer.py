"""The peer: transformers.Trainer.hyperparameter_search on Ray, tuned fairly, over the same frozen configurations.

    BENCH_DATA=FOLDER python -m benchmarks.peer OUT

Two slots of one core each, batches padded to their longest row, evaluation in batches of 64, its default fused AdamW,
no progress bars. It saves a checkpoint an epoch, since its user too wants the best model. Prints one JSON line.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.workload import CONFIGURATIONS, SLOTS, load_rows, model_folder


def main(out: Path) -> None:
    """Run the search and print its wall time, from here to its return."""
    began = time.monotonic()
    import ray
    from datasets import Dataset
    from ray import tune
    from ray.tune.search.basic_variant import BasicVariantGenerator
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    folder = str(model_folder())
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(split: Any) -> Dataset:
        encoded = tokenizer(*[list(column) for column in split.texts], truncation=True, max_length=128)
        return Dataset.from_dict({**encoded, "labels": list(split.labels)})

    train, validation = map(encode, load_rows())

    def make_model(trial: Any = None) -> Any:
        return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)

    def scores(predictions: Any) -> dict[str, float]:
        answers = predictions.predictions.argmax(-1)
        truth = predictions.label_ids
        true_positives = int(((answers == 1) & (truth == 1)).sum())
        wrong = int((answers != truth).sum())
        return {"accuracy": float((answers == truth).mean()), "f1": 2 * true_positives / (2 * true_positives + wrong)}

    trainer = Trainer(
        model_init=make_model,
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
    names = {
        "learning_rate": "learning_rate",
        "batch_size": "per_device_train_batch_size",
        "epochs": "num_train_epochs",
    }
    points = [{names[name]: value for name, value in point.items()} for point in CONFIGURATIONS]
    space = {name: [point[name] for point in points] for name in points[0]}
    ray.init(address="local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: {name: tune.choice(values) for name, values in space.items()},
        compute_objective=lambda metrics: metrics["eval_f1"],
        direction="maximize",
        backend="ray",
        n_trials=len(points),
        search_alg=BasicVariantGenerator(points_to_evaluate=points, max_concurrent=SLOTS),
        resources_per_trial={"cpu": 1, "gpu": 0},
        storage_path=str(out / "ray"),
        verbose=0,
    )
    ray.shutdown()
    run = [trial.config for trial in best.run_summary.trials]
    assert [{name: config[name] for name in space} for config in run] == points, "the peer ran other configurations"
    written = sum(file.stat().st_size for file in (out / "ray").rglob("*") if file.is_file())
    print(json.dumps({"wall_s": time.monotonic() - began, "bytes": written, "best": best.objective}))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main(Path(sys.argv[1]).resolve())
