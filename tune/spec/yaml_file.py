"""YAML files, read strictly and within limits.

PyYAML alone takes a key that stands twice, reads 010 as 8 and 1:30 as 90, and expands a few lines of aliases into
gigabytes. Here each of these is refused with the line where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from trainable.data.small_file import read_small
from trainable.errors import shown

MAX_FILE_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_ALIASES = 100
MAX_NODES = 20_000  # keys and values; those behind an alias count each time that it is used
_DECIMAL = re.compile(r"[+-]?(0|[1-9][0-9]*)")


def read_yaml(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """The mapping in a YAML file, or None if it can't be read; the reason is then appended to `problems`."""
    try:
        text = read_small(path, MAX_FILE_BYTES)
    except ValueError as error:
        problems.append(str(error))
        return None
    try:
        loaded = yaml.load(text, _StrictLoader)
    except (yaml.YAMLError, RecursionError) as error:
        problems.append(f"{path}{_place(error, text)}: is not YAML: {_reason(error)}")
        return None
    if isinstance(loaded, dict):
        return loaded
    what = "is empty" if loaded is None else f"holds a {type(loaded).__name__}"
    problems.append(f"{path}: must hold `field: value` lines, but {what}")
    return None


def write_yaml(values: Mapping[str, Any]) -> str:
    """The values as YAML; `read_yaml` reads them back equal."""
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    # PyYAML writes the character U+0085 as it is, but reads it as the end of a line. Escape everything then.
    return text if "\x85" not in text else yaml.safe_dump(dict(values), sort_keys=False)


def _place(error: Exception, text: str) -> str:
    """Where in the text an error lies: ", line 3", or nothing where the error does not tell."""
    if isinstance(error, yaml.reader.ReaderError):
        return f", line {text.count(chr(10), 0, error.position) + 1}"
    mark = getattr(error, "problem_mark", None)
    return f", line {mark.line + 1}" if mark else ""


def _reason(error: Exception) -> str:
    return getattr(error, "problem", None) or str(error).partition("\n")[0] or type(error).__name__


class _StrictLoader(yaml.SafeLoader):
    """Refuses text beyond the limits, keys that stand twice, and numbers that a person reads otherwise than YAML."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._aliases = self._nodes = 0
        self._sizes: dict[int, int] = {}  # by the id of each finished node: how many nodes it holds

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Build a node of the tree.

        Raises:
            ConstructorError: The text goes beyond a limit.
        """
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        is_alias = self.check_event(yaml.AliasEvent)
        before = self._nodes
        self._depth += 1
        self._require(self._depth <= MAX_DEPTH, f"is nested more than {MAX_DEPTH} deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias:
            self._aliases += 1
            self._require(self._aliases <= MAX_ALIASES, f"has more than {MAX_ALIASES} aliases", mark)
            self._require(id(node) in self._sizes, "an alias stands inside of what it means", mark)
            self._nodes += self._sizes[id(node)]
        else:
            self._nodes += 1
            self._sizes[id(node)] = self._nodes - before
        self._require(self._nodes <= MAX_NODES, f"holds more than {MAX_NODES:,} values", mark)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """The value of a node.

        Raises:
            ConstructorError: The value can't be read, or a person would read it otherwise than YAML does.
        """
        try:
            value = super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # !!bool maybe, 9:9:9.9
            reason = str(error) if isinstance(error, ValueError) else f"can't read {shown(node.value)}"
            self._require(False, reason, node.start_mark)
        if type(value) is int and isinstance(node, yaml.ScalarNode):
            self._require(value.bit_length() <= 10_000, "Exceeds the limit of 3,000 digits", node.start_mark)
            two_ways = f"{node.value} is {value} in YAML; write {value}, or quote it where text is meant"
            self._require(_DECIMAL.fullmatch(node.value) is not None, two_ways, node.start_mark)
        if type(value) is float:
            two_ways = f"{node.value} is {value} in YAML; quote it where text is meant"
            self._require(":" not in node.value, two_ways, node.start_mark)
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """The value of a mapping.

        Raises:
            ConstructorError: A key stands twice.
        """
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue  # keys that << brings in may be given again
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (str, int)):
                self._require(key not in seen, f"key {shown(key)} stands twice", key_node.start_mark)
                seen.add(key)
        return super().construct_mapping(node, deep)

    def _require(self, condition: bool, problem: str, mark: Any) -> None:
        if not condition:
            raise yaml.constructor.ConstructorError(None, None, problem, mark)
