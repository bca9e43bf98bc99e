"""Which data set a user asks for, and how it is to be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainable.data.splits import SPLITS
from trainable.data.unpacking import UTF_8


@dataclass(frozen=True)
class DataRequest:
    """Which data set to load, and how to read it."""

    dataset: str
    """A local folder, a file, or a hub name (`glue/mrpc`, `namespace/name`, `namespace/name/config`)."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files that are a split, by the split's name: validation, test."""
    encoding: str = UTF_8
    """Of the files that are text."""
    column_names: tuple[str, ...] | None = None
    """Of CSV and TSV files without a header; None means that their first line is the header."""
    text_columns: tuple[str, ...] | None = None
    """One or two names; None means guess."""
    label_column: str | None = None
    """None means guess."""
    split_names: tuple[str, ...] = SPLITS
    """What the data set calls train, validation and test."""
    validation_fraction: float = 0.15
    """The fraction of train that is cut off as validation if that split is missing, in (0, 0.5]."""
    test_fraction: float = 0.15
    """The same for test."""
    train_rows: int | None = None
    """Use so many training rows, chosen by a seeded shuffle; None means all."""
    validation_rows: int | None = None
    """Use so many validation rows, chosen by seed so that each class has its share; None means all."""
    strict_labels: bool = False
    """Whether labels that differ only in blanks around them or in case are different classes."""
    skip_labels: tuple[str, ...] = ()
    """Rows with one of these labels are left out."""
    skip_blank_rows: bool = False
    """Whether rows in which a text or the label is blank are left out."""
    positive_label: str | None = None
    """The class that binary F1 counts; None means the last one in order."""
    seed: int = 0
    """Of cuts and of the shuffle."""
