"""The optimizers that a trial can train with, by name. So far the names alone: their code is in `train/loop.py`."""

OPTIMIZERS: dict[str, object] = {"adamw": None}
