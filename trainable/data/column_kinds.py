"""What a column looks like: prose, names, identifiers, the label in other words. Judged by its cells alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SAMPLE_ROWS = 20_000  # a column is judged by its first cells
_MOSTLY = 0.9
_WORD = re.compile(r"[^\W\d_]")
_CODE = re.compile(r"[\w.:/@#+=%?&~-]{1,200}", re.ASCII)
_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}")
_LANGUAGE = re.compile(r"[a-z]{2,3}([-_][A-Za-z]{2,4})?")
_PROSE_WORDS, _PROSE_LETTERS = 1.5, 20.0  # on average: prose has as many of one or of the other


@dataclass(frozen=True)
class ColumnKind:
    """What was seen in a column."""

    is_words: bool
    """Whether its cells are texts with letters in them, and few are blank."""
    has_gaps: bool
    """Whether its cells are texts, but some are blank or missing."""
    is_code: bool
    """Whether nearly all cells are identifiers, addresses, dates or language codes."""
    is_constant: bool
    """Whether nearly all cells are the same."""
    has_few_values: bool
    """Whether the same few cells stand in all rows."""
    is_prose: bool
    """Whether its cells are of several words rather than of one."""
    is_zero_or_one: bool
    """Whether each cell is 0 or 1."""


def kind_of(cells: Sequence[Any]) -> ColumnKind:
    """Look at the first cells of a column."""
    sample = list(cells[:SAMPLE_ROWS])
    filled = [cell for cell in sample if cell is not None and str(cell).strip()]
    texts = [cell for cell in filled if isinstance(cell, str)]
    are_texts = bool(texts) and len(texts) == len(filled)
    gaps = len(sample) - len(filled)
    distinct = len(set(texts))
    most = Counter(map(str, sample)).most_common(1)
    is_words = are_texts and any(_WORD.search(cell) for cell in texts[:1000])
    return ColumnKind(
        is_words=is_words and not gaps,
        has_gaps=gaps > 0 and (are_texts or not filled),
        is_code=are_texts and _is_code(texts),
        is_constant=len(sample) >= 10 and most[0][1] >= _MOSTLY * len(sample),
        has_few_values=are_texts and len(texts) >= 10 and distinct <= max(1, len(texts) // 10),
        is_prose=is_words and _is_prose(texts),
        is_zero_or_one=bool(filled) and not gaps and {str(cell) for cell in filled} <= {"0", "1", "0.0", "1.0"},
    )


def says_the_label(cells: Sequence[Any], labels: Sequence[Any]) -> bool:
    """Whether a column is a function of the label, such as its name: each label has one cell, and not all the same."""
    found: dict[str, Any] = {}
    rows = 0
    for cell, label in zip(cells[:SAMPLE_ROWS], labels[:SAMPLE_ROWS], strict=False):
        if found.setdefault(str(label).strip().casefold(), cell) != cell:
            return False
        rows += 1
    return len(set(map(str, found.values()))) > 1 and 2 * len(found) <= rows


def _is_code(texts: Sequence[str]) -> bool:
    """Whether nearly all texts are one unbroken word with digits or signs in it, a date, or a language's code."""
    codes = sum(
        bool(_DATE.match(text) or _LANGUAGE.fullmatch(text) or (_CODE.fullmatch(text) and not text.isalpha()))
        for text in texts
    )
    return codes >= _MOSTLY * len(texts)


def _is_prose(texts: Sequence[str]) -> bool:
    words = sum(len(text.split()) for text in texts) / len(texts)
    letters = sum(map(len, texts)) / len(texts)
    return words >= _PROSE_WORDS or letters >= _PROSE_LETTERS
