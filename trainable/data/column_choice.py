"""Choose the columns: which one is the label, and which one or two hold the texts.

A table is read without a question only where there is one way to read it. docs/data.md tells the rules to users.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from trainable.data.column_kinds import ColumnKind, kind_of, says_the_label
from trainable.data.tables import Table
from trainable.errors import listed, nearest, shown

LABEL_NAMES = (
    "label", "labels", "label_ids", "class", "target", "category", "y", "gold_label", "sentiment", "stars", "rating",
    "polarity", "intent", "emotion", "topic", "is_duplicate", "is_spam", "spam", "stance",
)  # fmt: skip
TEXT_NAMES = (
    "text", "texts", "sentence", "review", "review_text", "tweet", "comment", "comment_text", "content", "body",
    "message", "utterance", "post", "document", "article", "question", "query", "abstract", "description", "text_a",
)  # fmt: skip
PAIRS = (
    ("premise", "hypothesis"), ("question", "passage"), ("question", "sentence"), ("question", "context"),
    ("query", "document"), ("query", "passage"), ("question", "answer"), ("claim", "evidence"), ("headline", "body"),
    ("context", "response"), ("text", "hypothesis"), ("query", "title"),
)  # fmt: skip
NO_TEXT_NAMES = (
    "idx", "id", "index", "guid", "uid", "uuid", "user", "username", "author", "source", "date", "time", "timestamp",
    "created_at", "url", "link", "lang", "language", "split", "annotator", "annotator_id", "filename", "file", "path",
)  # fmt: skip
_SHOWN_COLUMNS, _SHOWN_LETTERS = 12, 40


@dataclass(frozen=True)
class ChosenColumns:
    """The columns that are used. A table may have more."""

    texts: tuple[str, ...]
    """One or two names, in the order in which the model sees the texts."""
    label: str

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.texts, self.label)


def choose_columns(
    table: Table, texts: tuple[str, ...] | None, label: str | None, notes: list[str], problems: list[str]
) -> ChosenColumns | None:
    """Take the columns that the user names, and guess the others.

    Args:
        table: The training split, or the first split that could be read.
        texts: The text columns that the user names; None means guess.
        label: The label column that the user names; None means guess.
        notes: Get a sentence for what was not taken as text for a reason that the user should know.
        problems: Sentences are appended here.

    Returns:
        The columns, or None where `problems` says why. `table` need not have those that the user named.
    """
    kinds = {name: kind_of(cells) for name, cells in table.columns.items()} if texts is None or label is None else {}
    if label is None:
        label = _choose_label(table, kinds, texts or (), problems)
    if texts is None and label in table.columns:
        texts = _choose_texts(table, label, kinds, notes, problems)
        if texts is None:
            return None
    if label is None or texts is None:
        has_columns(table, [*(texts or ()), *([label] if label else [])], problems)
        return None
    if not 1 <= len(texts) <= 2 or len(set(texts)) != len(texts) or label in texts:
        given = f"{','.join(texts)} (label: {label})"
        problems.append(f"--text-columns takes one or two columns other than the label's, but got {given}")
        return None
    return ChosenColumns(texts, label)


def has_columns(table: Table, wanted: Sequence[str], problems: list[str]) -> bool:
    """Whether a table has these columns; a problem is appended for each that it has not."""
    missing = [name for name in wanted if name not in table.columns]
    for name in missing:
        if name in table.left_out:
            problems.append(f"{table.path}: column {shown(name)} holds {table.left_out[name]}, not text or integers")
        else:
            problems.append(f"{table.path}: no column {shown(name)}; {nearest(name, table.columns)}")
    return not missing


# The label


def _choose_label(
    table: Table, kinds: Mapping[str, ColumnKind], texts: Sequence[str], problems: list[str]
) -> str | None:
    """The one column that is called like a label: by its whole name, else by a word of it."""
    names = [name for name in table.columns if name not in texts] or list(table.columns)
    named = [name for name in names if name.lower() in LABEL_NAMES]
    if not named:
        named = [name for name in names if _words_of(name) & set(LABEL_NAMES) and _may_be_label(table.columns[name])]
    if len(named) > 1:  # a column of one class is no label
        named = [name for name in named if not kinds[name].is_constant] or named
    if len(named) == 1:
        return named[0]
    ask = f"{table.path}: which column is the label? Name it with --label-column"
    ones = [name for name in names if kinds[name].is_zero_or_one]
    if not named and len(ones) > 1:
        problems.append(
            f"{table.path}: the columns {listed(ones)} hold 0 and 1, as multi-label or one-hot data does; one label "
            f"column with one class for each row is supported. Name it with --label-column; {_there_are(table)}"
        )
    elif named:
        problems.append(f"{ask}; {_with_cells(table, named)}")
    else:
        problems.append(f"{ask}; {_there_are(table)}")
    return None


def _words_of(name: str) -> set[str]:
    """The words of a column's name: airline_sentiment and airlineSentiment have two."""
    return set(re.split(r"[\W_\d]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()))


def _may_be_label(cells: Sequence[Any]) -> bool:
    """Whether the first cells are few different texts or integers, none of them blank."""
    sample = list(cells[:1000])
    fine = all(isinstance(cell, str | int) and str(cell).strip() for cell in sample)
    fractions = all(re.fullmatch(r"-?\d*\.\d+", str(cell).strip()) for cell in sample)
    return fine and not fractions and len(set(sample)) <= max(2, len(sample) // 2)


# The texts


def _choose_texts(
    table: Table, label: str, kinds: Mapping[str, ColumnKind], notes: list[str], problems: list[str]
) -> tuple[str, ...] | None:
    """The one text column or the pair, where there is one way to read the table; else the question is a problem."""
    words = [name for name, kind in kinds.items() if name != label and kind.is_words]
    leaks = [name for name in words if says_the_label(table.columns[name], table.columns[label])]
    if len(leaks) == len(words):  # a column that is called text is one, if there is no other
        leaks = [name for name in leaks if name.lower() not in TEXT_NAMES]
    if leaks:
        they = "says the label in other words and is" if len(leaks) == 1 else "say the label in other words and are"
        notes.append(f"{table.path}: {listed(leaks)} {they} not used: the score would be that of a leak")
    words = [name for name in words if name not in leaks and name.lower() not in NO_TEXT_NAMES]
    texts = [name for name in words if name.lower() in TEXT_NAMES or not kinds[name].is_code]
    texts = [name for name in texts if not kinds[name].is_constant] or texts
    found = _pair(texts) or _clear_text(texts, kinds)
    if found is None and not texts:
        # Columns that would be texts but for their blank cells are taken, so that each such cell is told.
        gaps = [n for n, kind in kinds.items() if n != label and kind.has_gaps and n.lower() not in NO_TEXT_NAMES]
        found = _pair(gaps) or ((gaps[0],) if len(gaps) == 1 else None)
    if found is None:
        which = "which columns are the texts? Name one, or the two of a pair, with --text-columns A[,B]"
        problems.append(f"{table.path}: {which}; {_with_cells(table, texts) if texts else _there_are(table)}")
        return None
    partner = _pair([*found, *(n for n, kind in kinds.items() if n not in (label, *found) and kind.has_gaps)])
    if len(found) == 1 and partner is not None and found[0] in partner:
        return partner  # its cells are blank here and there, which is told line by line
    unused = [name for name in texts if name not in found and kinds[name].is_prose]
    if unused:
        notes.append(f"{table.path}: {listed(unused)} {'is' if len(unused) == 1 else 'are'} not used as text")
    return found


def _pair(names: Sequence[str]) -> tuple[str, str] | None:
    """The two columns whose names say that they are a pair, if there is one such pair."""
    by_name = {name.lower(): name for name in names}
    known = [(by_name[a], by_name[b]) for a, b in PAIRS if a in by_name and b in by_name]
    pairs = known or [(a, b) for a, b in combinations(names, 2) if _differ_in_number(a, b)]
    pairs = [(a, b) for a, b in pairs if not any(_differ_in_number(b, c, ("2", "3"), ("b", "c")) for c in names)]
    # sentence1 and sentence2, where sentence1_parse and sentence2_parse are beside them.
    plain = [(a, b) for a, b in pairs if all(c.startswith(a) and d.startswith(b) for c, d in pairs)]
    return (plain or pairs)[0] if len(pairs) == 1 or plain else None


_ONE_AND_TWO = (("1", "2"), ("a", "b"), ("0", "1"), ("first", "second"), ("left", "right"))


def _differ_in_number(one: str, other: str, *numbers: tuple[str, str]) -> bool:
    """Whether two names differ in one part alone, which is 1 and 2 or a and b, as in text_a, text_b.

    `numbers` are other parts in which they may differ.
    """
    parts = [re.findall(r"\d+|[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z]\b)", "_", name)) for name in (one, other)]
    if len(parts[0]) != len(parts[1]) or len(parts[0]) < 2:
        return False
    unlike = [(a.lower(), b.lower()) for a, b in zip(*parts, strict=True) if a != b]
    return len(unlike) == 1 and unlike[0] in (numbers or _ONE_AND_TWO)


def _clear_text(texts: Sequence[str], kinds: Mapping[str, ColumnKind]) -> tuple[str] | None:
    """The one column that is clearly the text."""
    if len(texts) == 1:
        return (texts[0],)
    prose = [name for name in texts if kinds[name].is_prose and not kinds[name].has_few_values]
    named = [name for name in texts if name.lower() in TEXT_NAMES]
    if len(named) == 1 and all(name == named[0] for name in prose):
        return (named[0],)
    return (prose[0],) if len(prose) == 1 and not named else None


# The questions


def _there_are(table: Table) -> str:
    there = f"there are {listed(list(table.columns))}" if table.columns else "there are none"
    nested = [
        f"{shown(name)} holds {words}"
        for name, words in table.left_out.items()
        if "object" in words or name.lower() in (*LABEL_NAMES, *TEXT_NAMES)
    ]
    nested += [f"{shown(name)} holds lists" for name, cells in table.columns.items() if isinstance(cells[0], list)]
    return "; ".join([there, *nested[:5]])


def _with_cells(table: Table, names: Iterable[str]) -> str:
    """Columns with two cells each, a line for each column."""
    names = list(names)
    lines = [f"{shown(name)}: {', '.join(map(_cut, table.columns[name][:2]))}" for name in names[:_SHOWN_COLUMNS]]
    more = [f"and {len(names) - _SHOWN_COLUMNS} more"] if len(names) > _SHOWN_COLUMNS else []
    return "there are" + "".join(f"\n       {line}" for line in [*lines, *more])


def _cut(cell: object) -> str:
    text = cell if isinstance(cell, str) else str(cell)
    return shown(text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}...")
