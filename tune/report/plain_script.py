"""A trial as a script of torch and transformers alone, which people read, change and paste into their own projects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainable.data.formats import SUFFIXES, FileOptions
from trainable.data.sources import hub_name, is_folder, open_source
from trainable.data.splits import Split
from trainable.errors import UserError
from trainable.job import Job
from tune.prepare.inputs import BUILTIN_DATASETS, Inputs
from tune.report.plain_readers import PLAIN_READERS, PlainReader
from tune.report.templating import rendered
from tune.run_dir.records import TrialRecord

TRAINED_ON = ("train", "validation")
LABEL_ID = "label_id"


@dataclass(frozen=True)
class PlainScript:
    """A script, and what must lie beside it."""

    text: str
    """The script."""
    files: Mapping[Path, str] = field(default_factory=dict)
    """The rows as JSON lines, by file, where the sweep's own files can't be read in a few plain lines."""
    notes: tuple[str, ...] = ()
    """What its user must know, a sentence each."""


@dataclass(frozen=True)
class _PlainData:
    """Where a script finds its rows, and how it reads them."""

    reader: PlainReader
    train: str
    validation: str
    text_columns: list[str]
    label_column: str
    class_ids: dict[str, int]
    files: Mapping[Path, str] = field(default_factory=dict)


def plain_script(
    inputs: Inputs, job: Job, record: TrialRecord, run: str, output: Path | None, on_gpu: bool
) -> PlainScript:
    """Write a trial's training as a script.

    Args:
        inputs: The sweep's checked input.
        job: What all of its trials share.
        record: The trial.
        run: What the user calls the run directory.
        output: The script's file; None where it has none. Rows that need a file of their own are put beside it.
        on_gpu: Whether the trial was trained on a GPU.

    Raises:
        UserError: The trial's optimizer or schedule has no plain counterpart.
    """
    config = record.config
    if (config.optimizer, config.schedule) != ("adamw", "linear"):
        told = f"optimizer {config.optimizer} and schedule {config.schedule}"
        raise UserError([f"trial {record.number}: no plain script has its {told}; one of adamw and linear has"])
    data = _plain_data(inputs)
    notes: list[str] = []
    if data is None:
        data = _rows_as_files(inputs, output or Path("trial.py"))
        files = " and ".join(path.name for path in data.files)
        notes.append(f"it reads {files}: the sweep cut splits, or left out or changed rows, as it read its data")
    if output is None and data.files:
        notes.append("--output FILE writes these files beside the script")
    text = rendered(
        "plain_script.py.j2",
        trial=record.number,
        run=run,
        epochs=record.epochs,
        notes=[f"The data: {note}." for note in notes[:1]],
        f1_average=inputs.f1_average,
        reader=data.reader,
        model=_model_name(inputs),
        train=data.train,
        validation=data.validation,
        text_columns=data.text_columns,
        label_column=data.label_column,
        class_ids=data.class_ids,
        class_names=list(inputs.data.label_names),
        seed=record.seed,
        config=config,
        max_length=min(inputs.max_length, int(inputs.tokenizer.model_max_length)),
        smoothing=f", label_smoothing={config.label_smoothing}" if config.label_smoothing else "",
        precision=job.precision,
        batching=job.batching,
        pad_token=job.pad_token,
        on_gpu=on_gpu,
        best_epoch=record.best_epoch,
        folder=f"trial-{record.number}-model",
    )
    return PlainScript(text, data.files, tuple(notes))


def _model_name(inputs: Inputs) -> str:
    """The model as transformers finds it: its name on the hub, or its folder."""
    name = inputs.spec.model
    return str(inputs.model.path) if name.startswith("builtin:") or is_folder(name) else name


def _plain_data(inputs: Inputs) -> _PlainData | None:
    """The data as a plain reader finds it; None where such a reader would not find the very same rows."""
    import datasets

    datasets.disable_progress_bars()
    found = _places(inputs)
    if found is None:
        return None
    reader, places = found
    class_ids: dict[str, int] = {}
    for name, place in places.items():
        try:
            rows = reader.read(place)
            if not _same_rows(rows, inputs.data.splits[name], inputs, class_ids):
                return None
        except Exception:  # whatever a plain reader stumbles over, the strict one has read
            return None
    columns, label = list(inputs.data.text_columns), inputs.data.label_column
    ids = dict(sorted(class_ids.items(), key=lambda item: (item[1], item[0])))
    return _PlainData(reader, places["train"], places["validation"], columns, label, ids)


def _places(inputs: Inputs) -> tuple[PlainReader, dict[str, str]] | None:
    """The files of the splits, or their names on the hub, and the one reader that reads them."""
    spec, splits = inputs.spec, inputs.data.splits
    if any(name in inputs.data.cut for name in TRAINED_ON) or spec.encoding.replace("-", "").lower() != "utf8":
        return None
    names = (spec.train_split, spec.validation_split, spec.test_split)
    dataset = str(BUILTIN_DATASETS.get(spec.dataset, spec.dataset))
    if not is_folder(dataset):
        repository, config = hub_name(dataset)
        of_splits = dict(zip(TRAINED_ON, names, strict=False))
        return PLAIN_READERS["hub"], {name: f"{repository}:{config or ''}:{of_splits[name]}" for name in TRAINED_ON}
    files = {name: path for name, path in (("validation", spec.validation), ("test", spec.test)) if path is not None}
    tables = open_source(dataset, names, [], files, FileOptions(spec.encoding, spec.column_names)).tables
    paths = {name: tables[name].path.absolute() for name in TRAINED_ON if name in tables}
    endings = {path.suffix.lower() for path in paths.values()}
    if len(paths) < len(TRAINED_ON) or len(endings) > 1 or not endings <= {*SUFFIXES}:
        return None
    if not all(path.is_file() and name in splits for name, path in paths.items()):
        return None
    return PLAIN_READERS[endings.pop()], {name: str(path) for name, path in paths.items()}


def _same_rows(rows: list[dict[str, object]], split: Split, inputs: Inputs, class_ids: dict[str, int]) -> bool:
    """Whether the plain rows are those of the split; the ids of what their label column holds are noted."""
    if len(rows) != len(split):
        return False
    for name, texts in zip(inputs.data.text_columns, split.texts, strict=True):
        if any(row[name] != text for row, text in zip(rows, texts, strict=True)):
            return False
    cells = (str(row[inputs.data.label_column]) for row in rows)
    return all(
        isinstance(label, int) and class_ids.setdefault(cell, label) == label
        for cell, label in zip(cells, split.labels, strict=True)
    )


def _rows_as_files(inputs: Inputs, script: Path) -> _PlainData:
    """The rows as the trial saw them, as JSON lines beside the script."""
    columns = list(inputs.data.text_columns)
    label = inputs.data.label_column if inputs.data.label_column not in columns else LABEL_ID
    paths = {name: script.absolute().with_name(f"{script.stem}-{name}.jsonl") for name in TRAINED_ON}
    files = {}
    for name, path in paths.items():
        split = inputs.data.splits[name]
        rows = (
            {**dict(zip(columns, texts, strict=True)), label: inputs.data.label_names[int(str(of_row))]}
            for *texts, of_row in zip(*split.texts, split.labels, strict=True)
        )
        files[path] = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    class_ids = {name: i for i, name in enumerate(inputs.data.label_names)}
    train, validation = (str(paths[name]) for name in TRAINED_ON)
    return _PlainData(PLAIN_READERS[".jsonl"], train, validation, columns, label, class_ids, files)
