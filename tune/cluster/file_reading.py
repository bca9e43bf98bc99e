"""Read the parts of a file for `ray up` that rules look at. Such a file may hold anything anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ClusterConfig = Mapping[str, Any]


def mapping_at(config: ClusterConfig, *keys: str) -> ClusterConfig:
    """The mapping at a path of keys; an empty one if there is none."""
    found: Any = config
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def texts_in(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a value: where it stands, like provider.worker_ips.0, and the text."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping | list):
        parts = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, part in parts:
            yield from texts_in(part, f"{where}.{key}".lstrip("."))


def ray_starts(config: ClusterConfig) -> Iterator[tuple[str, str]]:
    """The names and texts of the commands that start Ray; if there are none, Ray's defaults, which use no token."""
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        commands = config.get(name)
        starting = [str(text) for text in commands if "ray start" in str(text)] if isinstance(commands, list) else []
        yield from ((name, text) for text in starting or ["ray start"])


def _node_types(config: ClusterConfig) -> Iterator[tuple[str, ClusterConfig]]:
    kinds = mapping_at(config, "available_node_types")
    return ((str(name), mapping_at(kinds, name)) for name in kinds)


def worker_types(config: ClusterConfig) -> Iterator[tuple[str, ClusterConfig]]:
    """The names of the worker types, and what the file says of each."""
    return ((name, kind) for name, kind in _node_types(config) if name != config.get("head_node_type"))


def node_configs(config: ClusterConfig) -> Iterator[tuple[str, ClusterConfig]]:
    """The names of all node types, and the provider's part of each (`node_config`)."""
    return ((name, mapping_at(kind, "node_config")) for name, kind in _node_types(config))
