"""The names under which study.db holds a sweep. Older run directories have them, so none may change its meaning."""

from __future__ import annotations

STUDY_NAME = "sweep"
"""study.db holds one Optuna study of this name, whatever the sweep is called."""

# Attributes of the study

SWEEP_ID = "sweep"
"""What ties the study to spec.yaml, which has it too."""

WALL_S = "wall_s"
"""How long the sweep has taken so far, seconds, the times between its drivers left out."""

GPU_S = "gpu_s"
"""The GPUs that the sweep had by the seconds that it had them, counted like `wall_s`."""

SEARCH_ENDED = "search_ended"
"""Which budget has ended the search, and the budgets that it had: {"by": ..., "settings": {...}}."""

# Attributes of a trial

CONFIG = "config"
"""The hyperparameters that were given, by name: those that were searched, fixed or set by a point."""

POINT = "point"
"""What was given for this trial, by name: one of the user's --points, or the untuned default."""

CONFIRMS = "confirms"
"""The number of the trial whose configuration this one trains again from a fresh seed; only such trials have it."""

SEED = "seed"
"""The seed of the trial's training."""

EPOCH_PREFIX = "epoch "
"""The attribute "epoch 3" holds what the third epoch gave, as `EpochScores.as_json` writes it."""

RUNG_PREFIX = "rung at step "
"""The attribute "rung at step 57" holds what a rung within an epoch gave, as `RungScores.as_json` writes it."""

FAILURE = "failure"
"""Why the trial failed, in a line."""

RETRIES = "retries"
"""How often the trial was run again because its worker died."""

DEATHS = "deaths_without_progress"
"""How often the trial's worker died since the trial had last got further than ever before."""

DIED_AT = "died_at_step"
"""The most optimizer steps that the trial had done when its worker died."""

MEMORY_MULTIPLIER = "memory_multiplier"
"""How many times the resources of an ordinary trial it needs, since its memory ran out."""

OLD_MEMORY_MULTIPLIER = "share"
"""The name under which earlier versions wrote the memory multiplier."""

MODEL_SHA256 = "model_sha256"
"""The checksum of the weights that the trial left."""
