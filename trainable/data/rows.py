"""Which rows of the tables are used: not those without labels, nor those that the user wants left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainable.data.column_choice import ChosenColumns, has_columns
from trainable.data.column_kinds import SAMPLE_ROWS
from trainable.data.folders import ALIASES
from trainable.data.labels import NO_LABEL_MARKS, is_blank
from trainable.data.request import DataRequest
from trainable.data.sources import Source
from trainable.data.tables import Table
from trainable.errors import listed, nearest, shown


def usable_tables(
    source: Source, columns: ChosenColumns, request: DataRequest, notes: list[str], problems: list[str]
) -> dict[str, Table]:
    """The tables that have the chosen columns, without the rows that are to be left out."""
    tables = {}
    spelled = {name: _spelled_as(columns.names, table, notes) for name, table in source.tables.items()}
    for name, table in spelled.items():
        is_test = name == "test" and columns.label in spelled.get("train", table).columns
        if is_test and (why := _has_no_labels(table, columns.label, request.strict_labels)):
            notes.append(f"{table.path}: {why}, so the test split is not scored on")
        elif has_columns(table, columns.names, problems):
            tables[name] = table
    # Blank texts are no error in a data set of the hub, which its user can't correct: glue/qqp's train has two.
    blank = columns.names if request.skip_blank_rows else () if source.is_local else columns.texts
    names = source.class_names.get(columns.label, ())
    problems += _unknown_labels(list(tables.values()), columns.label, request.skip_labels, names)
    for name, table in tables.items():
        if blank:
            what = "have a blank text or label" if request.skip_blank_rows else "have a blank text"
            tables[name] = _without(table, _blank_rows(table, blank), what, notes)
        if request.skip_labels:
            rows = _rows_labelled(tables[name], columns.label, request.skip_labels, names)
            tables[name] = _without(tables[name], rows, f"have the label {', '.join(request.skip_labels)}", notes)
    problems += [f"{table.path}: has no rows" for table in tables.values() if len(table) == 0]
    return tables


def _spelled_as(names: Sequence[str], table: Table, notes: list[str]) -> Table:
    """A table whose columns have these names where they differ in case alone, as Text and text in two splits do."""
    new = {}
    for name in names:
        alike = [other for other in table.columns if other.casefold() == name.casefold()]
        if name not in table.columns and len(alike) == 1:
            new[alike[0]] = name
            notes.append(f"{table.path}: column {shown(alike[0])} is read as {shown(name)}")
    return replace(table, columns={new.get(name, name): cells for name, cells in table.columns.items()})


def _has_no_labels(table: Table, label: str, are_strict: bool) -> str:
    """Why a test split has no labels at all, as a predicate; empty if it has some."""
    marks = () if are_strict else NO_LABEL_MARKS
    if label not in table.columns:
        empty = table.left_out.get(label) == "null"
        return f"has no label in column {shown(label)}" if empty else f"has no column {shown(label)}"
    empty = all(is_blank(cell) or str(cell).strip() in marks for cell in table.columns[label])
    return f"has no label in column {shown(label)}" if empty else ""


def _blank_rows(table: Table, columns: Sequence[str]) -> set[int]:
    rows = zip(*(table.columns[name] for name in columns), strict=True)
    return {i for i, cells in enumerate(rows) if any(map(is_blank, cells))}


def _unknown_labels(tables: Sequence[Table], column: str, labels: Sequence[str], names: Sequence[str]) -> list[str]:
    """Say which labels that are to be left out no row has."""
    unknown = [label for label in labels if not any(_rows_labelled(table, column, [label], names) for table in tables)]
    known = {str(cell).strip() for table in tables for cell in table.columns[column][:1000]} | set(names)
    return [f"--skip-labels {label}: no row has this label; {nearest(label, known)}" for label in unknown]


def _rows_labelled(table: Table, column: str, labels: Sequence[str], names: Sequence[str]) -> set[int]:
    """The rows with one of these labels, which are written as the cells have them or as the class is named."""
    wanted = {label.strip() for label in labels}
    wanted |= {str(i) for i, name in enumerate(names) if name in wanted}
    return {i for i, cell in enumerate(table.columns[column]) if str(cell).strip().removesuffix(".0") in wanted}


def _without(table: Table, rows: set[int], why: str, notes: list[str]) -> Table:
    """A table without some of its rows."""
    if not rows:
        return table
    notes.append(f"{table.path}: {len(rows)} of {len(table)} rows {why} and were left out")
    kept = [i for i in range(len(table)) if i not in rows]
    columns = {name: column.take(kept) for name, column in table.columns.items()}
    return replace(table, columns=columns, places=table.places.take(kept))


def split_columns(table: Table, columns: ChosenColumns) -> list[str]:
    """Tell of a column that says of each row which split it belongs to; its file is read as a single split."""
    known = {alias for aliases in ALIASES.values() for alias in aliases}
    found = []
    for name in table.columns.keys() - set(columns.names):
        values = {str(cell).strip().lower() for cell in table.columns[name][:SAMPLE_ROWS]}
        if len(values) > 1 and values <= known:
            found.append(
                f"{table.path}: column {shown(name)} says {listed(sorted(values))}, and is not used: all rows are "
                "train, and the other splits are cut from them. For its splits, make a file of each"
            )
    return found
