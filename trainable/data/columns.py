"""Columns of a table, held as Arrow holds them: a text takes its bytes and four more, where a Python list takes 60.

A file of 1 GB is then read in 2 GB of memory. Cells become Python values one block at a time, as they are asked for.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

CHUNK_ROWS = 16_384
CHUNK_BYTES = 4_000_000


class Column(Sequence[Any]):
    """Cells that do not change: str, int, float, bool, None, or whatever a list held."""

    def __init__(self, chunks: Iterable[Any], rows: npt.NDArray[np.int64] | None = None) -> None:
        """Hold chunks without copying them.

        Args:
            chunks: Arrow arrays, or lists where Arrow has no type for the cells.
            rows: Which cells of the chunks the column has, in which order; None means all of them.
        """
        self._chunks = [chunk for chunk in chunks if len(chunk)]
        self._ends = np.cumsum([len(chunk) for chunk in self._chunks], dtype=np.int64)
        self._rows = rows
        size = sum(chunk.nbytes for chunk in self._chunks if not isinstance(chunk, list))
        average = size / int(self._ends[-1]) if self._chunks else 0.0
        self._at_once = max(1, min(CHUNK_ROWS, int(CHUNK_BYTES / max(average, 1.0))))  # cells that are Python values

    def __len__(self) -> int:
        """The number of cells."""
        if self._rows is not None:
            return len(self._rows)
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, at: int) -> Any: ...
    @overload
    def __getitem__(self, at: slice) -> Column: ...
    def __getitem__(self, at: int | slice) -> Any:
        """One cell, or a column of several."""
        places = range(len(self))[at]
        return self.take(places) if isinstance(places, range) else next(iter(self.take([places])))

    def __iter__(self) -> Iterator[Any]:
        """The cells, of which one block at a time becomes Python values."""
        if self._rows is None:
            for chunk in self._chunks:
                for start in range(0, len(chunk), self._at_once):
                    yield from _values(chunk[start : start + self._at_once])
        else:
            for start in range(0, len(self._rows), self._at_once):
                yield from self._block(self._rows[start : start + self._at_once])

    def _block(self, rows: npt.NDArray[np.int64]) -> Iterable[Any]:
        """The cells at these rows; each chunk is asked once for all of its cells."""
        import pyarrow as pa

        cells: list[Any] = [None] * len(rows)
        owners = np.searchsorted(self._ends, rows, side="right")
        for owner in np.unique(owners):
            chunk = self._chunks[owner]
            places = np.flatnonzero(owners == owner)
            inside = rows[places] - (self._ends[owner] - len(chunk))
            taken = [chunk[i] for i in inside] if isinstance(chunk, list) else chunk.take(pa.array(inside)).to_pylist()
            for place, cell in zip(places, taken, strict=True):
                cells[place] = cell
        return cells

    def __eq__(self, other: object) -> bool:
        """Whether another sequence holds equal cells in the same order."""
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @property
    def chunks(self) -> list[Any]:
        """The Arrow arrays or lists that hold the cells of a column of which no rows were taken."""
        return self._chunks

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> Column:
        """The cells at these rows, in this order, without copying them."""
        chosen = np.asarray(rows, dtype=np.int64)
        return Column(self._chunks, chosen if self._rows is None else self._rows[chosen])


def _values(chunk: Any) -> list[Any]:
    return chunk if isinstance(chunk, list) else list(chunk.to_pylist())


class Places(Sequence[str]):
    """Where each row stands: "line 7", "line 9". Only the word and the numbers are held."""

    def __init__(self, word: str, numbers: Sequence[int]) -> None:
        """Place row i at `word` and `numbers[i]`."""
        self._word, self._numbers = word, numbers

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._numbers)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Places: ...
    def __getitem__(self, at: int | slice) -> str | Places:
        """The place of one row, or the places of several."""
        if isinstance(at, slice):
            return Places(self._word, self._numbers[at])
        return f"{self._word} {self._numbers[at]}"

    def __eq__(self, other: object) -> bool:
        """Whether another sequence names equal places in the same order."""
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: Sequence[int]) -> Places:
        """The places of these rows."""
        return Places(self._word, array("Q", [self._numbers[i] for i in rows]))


class Names(Sequence[str]):
    """Where each row stands, where every place has a name of its own: "pos/3_7.txt"."""

    def __init__(self, names: Sequence[str]) -> None:
        """Hold a name for each row."""
        self._names = names

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._names)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Names: ...
    def __getitem__(self, at: int | slice) -> str | Names:
        """The place of one row, or the places of several."""
        return Names(self._names[at]) if isinstance(at, slice) else self._names[at]

    def take(self, rows: Sequence[int]) -> Names:
        """The places of these rows."""
        return Names([self._names[i] for i in rows])


class JoinedPlaces(Sequence[str]):
    """The places of rows from several files: "train-00001-of-00002.parquet, row 7"."""

    def __init__(self, parts: Sequence[tuple[str, Sequence[str]]], rows: Sequence[int] | None = None) -> None:
        """Join the places of files, each with the file's name; `rows` says which of them count, None means all."""
        self._parts = parts
        self._ends = np.cumsum([len(places) for _, places in parts])
        self._rows = range(int(self._ends[-1])) if rows is None else rows

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> JoinedPlaces: ...
    def __getitem__(self, at: int | slice) -> str | JoinedPlaces:
        """The place of one row, or the places of several."""
        if isinstance(at, slice):
            return JoinedPlaces(self._parts, self._rows[at])
        row = self._rows[at]
        part = int(np.searchsorted(self._ends, row, side="right"))
        name, places = self._parts[part]
        return f"{name}, {places[row - (int(self._ends[part]) - len(places))]}"

    def take(self, rows: Sequence[int]) -> JoinedPlaces:
        """The places of these rows."""
        return JoinedPlaces(self._parts, array("Q", [self._rows[i] for i in rows]))


class ColumnBuilder:
    """Takes the rows of a text file one at a time and keeps them as columns."""

    def __init__(self, width: int) -> None:
        """Begin with `width` columns that have no cells."""
        self._chunks: list[list[Any]] = [[] for _ in range(width)]
        self._waiting: list[Sequence[Any]] = []
        self._characters = 0
        self.numbers = array("Q")
        """The line of each row."""

    def add(self, line: int, cells: Sequence[Any]) -> None:
        """Keep one row, which stands at `line`."""
        self.numbers.append(line)
        self._waiting.append(cells)
        self._characters += sum(len(cell) for cell in cells if type(cell) is str)
        if len(self._waiting) >= CHUNK_ROWS or self._characters >= CHUNK_BYTES:
            self._pack()

    def columns(self) -> list[Column]:
        """The rows that were added, column by column."""
        self._pack()
        return [Column(chunks) for chunks in self._chunks]

    def _pack(self) -> None:
        for chunks, cells in zip(self._chunks, zip(*self._waiting, strict=True), strict=False):
            chunks.append(_packed(list(cells)))
        self._waiting, self._characters = [], 0


class RecordBuilder:
    """Takes rows by column name, which need not all have the same columns, and keeps them as columns."""

    def __init__(self) -> None:
        """Begin without columns."""
        self._chunks: dict[str, list[Any]] = {}
        self._waiting: list[Mapping[str, Any]] = []
        self._characters = self._packed_rows = 0
        self.numbers = array("Q")
        """The line of each row."""

    @property
    def width(self) -> int:
        """The number of columns so far."""
        return len(self._chunks)

    def add(self, line: int, row: Mapping[str, Any]) -> None:
        """Keep one row, which stands at `line`."""
        import pyarrow as pa

        for name in row:
            if name not in self._chunks:
                self._chunks[name] = [pa.nulls(self._packed_rows)]
        self.numbers.append(line)
        self._waiting.append(row)
        self._characters += sum(len(cell) for cell in row.values() if type(cell) is str)
        if len(self._waiting) >= CHUNK_ROWS or self._characters >= CHUNK_BYTES:
            self._pack()

    def columns(self) -> dict[str, Column]:
        """The rows that were added, column by column; a cell that its row lacks is None."""
        self._pack()
        return {name: Column(chunks) for name, chunks in self._chunks.items()}

    def _pack(self) -> None:
        for name, chunks in self._chunks.items():
            chunks.append(_packed([row.get(name) for row in self._waiting]))
        self._packed_rows += len(self._waiting)
        self._waiting, self._characters = [], 0


def _packed(cells: list[Any]) -> Any:
    """The cells as an Arrow array if all have one type that Arrow gives back unchanged, else as they are."""
    import pyarrow as pa

    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    kinds = set(map(type, cells)) - {type(None)}
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind not in types:
        return cells
    try:
        return pa.array(cells, types[kind])
    except (UnicodeEncodeError, OverflowError, pa.ArrowInvalid):  # half a surrogate pair, an integer beyond 64 bits
        return cells
