"""Numbers that may come as text: flags are text, and YAML reads 1e-5 as text."""

from __future__ import annotations

import re

from trainable.errors import shown
from trainable.fields import LARGEST_INTEGER


def parse_number(given: object) -> int | float:
    """A number, or the number that a text means.

    Raises:
        ValueError: It is neither, or an integer beyond 63 bits.
    """
    number = given
    if isinstance(given, str):
        text = given.strip()
        number = int(text) if re.fullmatch(r"[+-]?\d{1,4000}", text) else float(text)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise ValueError(f"{shown(given)} is no number")  # noqa: TRY004 - what is wrong is a value, whatever its type
    if isinstance(number, int) and abs(number) > LARGEST_INTEGER:
        raise ValueError(f"{shown(given)} is too large")
    return number


def parse_value(given: object) -> int | float | None:
    """A number as `parse_number` reads it, or None for "none", "null" and None itself.

    Raises:
        ValueError: It is none of these.
    """
    if given is None or (isinstance(given, str) and given.strip().lower() in ("none", "null")):
        return None
    return parse_number(given)
