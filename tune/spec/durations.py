"""Durations as people write them: 90, 90s, 30m, 2h, 1h30m."""

from __future__ import annotations

import re

from trainable.errors import shown

UNITS_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}
DURATION_TEXT = "".join(rf"((\d+\.?\d*|\.\d+)\s*{unit}\s*)?" for unit in UNITS_S)  # a regular expression
LONGEST_S = 1e9  # some thirty years


def parse_duration(given: object) -> float:
    """The seconds of a duration: a number of seconds, or text such as 1h30m.

    Raises:
        ValueError: It is none, not above 0, or longer than a sweep can be; says the rule.
    """
    text = str(given).strip().lower() if isinstance(given, (str, int, float)) and not isinstance(given, bool) else ""
    if re.fullmatch(r"\d+\.?\d*|\.\d+", text):
        text += "s"
    found = re.fullmatch(DURATION_TEXT, text)
    parts = found.groups()[1::2] if found is not None else ()
    seconds = sum(float(part) * unit for part, unit in zip(parts, UNITS_S.values(), strict=False) if part)
    if not 0 < seconds < LONGEST_S:
        raise ValueError(f"must be a duration above 0, such as 90s, 30m, 2h or 1h30m, but got {shown(given)}")
    return seconds


def duration_text(seconds: float) -> str:
    """Seconds as `parse_duration` reads them, in the largest units: 5400 is 1h30m."""
    parts, rest = [], seconds
    for unit, each in UNITS_S.items():
        count, rest = divmod(rest, each) if unit != "s" else (rest, 0.0)
        if count:
            parts.append(f"{count:.10g}{unit}")
    return "".join(parts)
