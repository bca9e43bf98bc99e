"""Laws of columns: they are the lists that they were made of, whatever is taken of them."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from trainable.data.columns import CHUNK_ROWS, Column, ColumnBuilder, Places

CELLS: list[Any] = ["", "NA", "🙂", "\ud800", 0, -1, 2**70, 1.5, True, False, None, "word " * 9]


@pytest.mark.parametrize("seed", range(20))
def test_rows_come_back_as_columns(seed: int) -> None:
    rng = random.Random(seed)
    kinds: list[list[Any]] = [CELLS[:3], [1, 2, 2**62], [1.0, 0.5, None], [True, False], CELLS]
    count = rng.choice([0, 1, 5, CHUNK_ROWS, CHUNK_ROWS + 1])
    wanted = [[rng.choice(kind) for _ in range(count)] for kind in kinds]
    rows = ColumnBuilder(len(kinds))
    for i, cells in enumerate(zip(*wanted, strict=True)):
        rows.add(2 * i, cells)
    columns = rows.columns()
    assert [repr(list(column)) for column in columns] == [repr(cells) for cells in wanted], "types are kept"
    assert list(rows.numbers) == list(range(0, 2 * count, 2))


@pytest.mark.parametrize("seed", range(20))
def test_what_is_taken_of_a_column_is_what_is_taken_of_its_list(seed: int) -> None:
    rng = random.Random(seed)
    cells = [str(rng.random()) for _ in range(rng.randrange(1, 300))]
    cuts = sorted(rng.randrange(len(cells) + 1) for _ in range(4))
    pieces = [cells[a:b] for a, b in zip([0, *cuts], [*cuts, len(cells)], strict=True)]
    column = Column(piece if rng.random() < 0.3 else pa.array(piece, pa.string()) for piece in pieces)
    for _ in range(3):
        assert column == cells
        assert column != [*cells, "more"]
        assert len(column) == len(cells)
        assert column[-1] == cells[-1]
        assert list(column[1:20:3]) == cells[1:20:3]
        with pytest.raises(IndexError):
            column[len(cells)]
        rows = [rng.randrange(len(cells)) for _ in range(rng.randrange(1, 300))]
        column, cells = column.take(rows), [cells[i] for i in rows]


def test_places() -> None:
    places = Places("line", [3, 5, 9])
    assert places == ["line 3", "line 5", "line 9"]
    assert places[1:] == ["line 5", "line 9"]
    assert places.take([2, 0]) == ["line 9", "line 3"]
