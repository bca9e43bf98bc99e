"""What somebody means who writes a flag of another tool, or mistypes one of ours."""

from __future__ import annotations

from collections.abc import Sequence

from trainable.config import TrialConfig
from trainable.errors import nearest

_SPACE = {
    "per_device_train_batch_size": "batch_size", "train_batch_size": "batch_size", "bs": "batch_size",
    "batchsize": "batch_size", "num_train_epochs": "epochs", "num_epochs": "epochs", "n_epochs": "epochs",
    "epoch": "epochs", "max_epochs": "epochs", "lr": "learning_rate", "learning_rates": "learning_rate",
    "wd": "weight_decay", "warmup_ratio": "warmup_fraction", "warmup": "warmup_fraction",
    "warmup_proportion": "warmup_fraction", "clip_grad_norm": "max_grad_norm", "gradient_clip_val": "max_grad_norm",
    "hidden_dropout_prob": "dropout", "label_smoothing_factor": "label_smoothing",
}  # fmt: skip
"""Names that other tools give a hyperparameter, and ours."""

_FLAGS = {
    "n_trials": "--num-trials", "trials": "--num-trials", "num_samples": "--num-trials", "max_trials": "--num-trials",
    "direction": "--mode", "greater_is_better": "--mode", "metric_for_best_model": "--metric", "objective": "--metric",
    "max_seq_length": "--max-length", "max_seq_len": "--max-length", "max_len": "--max-length",
    "model_name_or_path": "--model", "model_name": "--model", "pretrained_model": "--model", "tokenizer": "--model",
    "dataset_name": "--dataset", "data": "--dataset", "data_dir": "--dataset", "train_file": "--train",
    "validation_file": "--validation", "eval_file": "--validation", "dev": "--validation", "val": "--validation",
    "test_file": "--test", "output_dir": "--out", "output": "--out", "logging_dir": "--out", "study_name": "--out",
    "storage": "--out", "text_column": "--text-columns", "label": "--label-column", "max_train_samples": "--train-rows",
    "max_eval_samples": "--validation-rows", "pruner": "--scheduler", "search_alg": "--sampler", "fp16": "--precision",
    "bf16": "--precision", "num_workers": "--max-concurrent", "n_jobs": "--max-concurrent", "random_seed": "--seed",
    "resources_per_trial": "--gpus-per-trial", "ray_address": "--address", "dry_run": "--plan",
    "overwrite_output_dir": "--fresh", "save_total_limit": "--keep-top", "config": "SPEC.yaml",
    "timeout": "--time-budget", "time_limit": "--time-budget", "max_time": "--time-budget",
    "max_runtime": "--time-budget", "walltime": "--time-budget", "budget": "--time-budget or --max-cost",
    "early_stopping": "--until-stable", "goal": "--target",
    "stop_finish": "--stop RUN --finish",
}  # fmt: skip
"""Names that other tools give a setting, and our flags."""

_WORDS = {
    "resume": "the same command with the same --out goes on by itself",
    "resume_from_checkpoint": "the same command with the same --out goes on by itself",
    "continue": "the same command with the same --out goes on by itself",
    "do_train": "leave it out: every sweep trains, and evaluates after each epoch",
    "do_eval": "leave it out: every sweep trains, and evaluates after each epoch",
    "eval_strategy": "leave it out: every sweep evaluates after each epoch",
    "evaluation_strategy": "leave it out: every sweep evaluates after each epoch",
    "load_best_model_at_end": "leave it out: best/ holds the best epoch's weights",
    "warmup_steps": "did you mean --space warmup_fraction=...? It is a fraction of all steps",
    "gradient_accumulation_steps": "leave it out: memory decides how a batch is computed; --space micro_batch_size=... "
    "sets it",
    "gpu": "leave it out: GPUs are found; --gpus-per-trial X shares them",
    "device": "leave it out: GPUs are found; CUDA_VISIBLE_DEVICES= trains on the CPU",
}
"""What has no flag here, and why."""


def hint_for(flag: str, value: str | None, flags: Sequence[str]) -> str:
    """Say what was meant by an unknown flag: the flag of ours that does it, else the nearest one by its letters."""
    name = flag.lstrip("-").replace("-", "_").lower()
    if (field := _SPACE.get(name, name)) in TrialConfig.model_fields:
        return f"did you mean --space {field}={value or '...'}?"
    if name in _WORDS:
        return _WORDS[name]
    if name in _FLAGS:
        return f"did you mean {_FLAGS[name]}?"
    return nearest(flag, flags)
