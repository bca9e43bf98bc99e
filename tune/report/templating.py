"""The templates of the page, the model card and the plain script, and how text from elsewhere gets into them."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import jinja2
from markupsafe import Markup

from trainable.metrics import METRICS
from trainable.redaction import one_line
from tune.report.text import clock, short


class Verbatim(Markup):
    """Script that gets into a page as it is; whoever makes one has made sure that no text from elsewhere is in it."""


def rendered(template: str, **values: object) -> str:
    """Fill in one of the templates in tune/report/templates. Those whose name has .html in it escape every value."""
    return _environment().get_template(template).render(metrics=METRICS.values(), **values)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tune.report"),
        autoescape=lambda name: name is not None and ".html" in name,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "clock": clock,
        "short": short,
        "quoted": quoted,
        "score": _score,
        "python": repr,
        "value": _value,
        "number": _number,
        "points": _points,
    }
    return environment


def _shown(value: Any) -> Any:
    """Texts come from data, names and errors: no control characters, no secrets, no line breaks."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Verbatim) else value


def _value(value: object) -> str:
    """A setting as YAML or JSON would have it on a line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,}"


def _points(value: float | None) -> str:
    return "not known" if value is None else f"{round(value, 1) + 0.0:.1f}"  # no -0.0


def quoted(text: str) -> str:
    """Write text from elsewhere as Markdown's code, in which nothing is Markdown or HTML.

    The fence has more backticks than the text has in a row.
    """
    text = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"
