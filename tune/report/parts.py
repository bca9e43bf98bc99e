"""What every part of report.json is made from: frozen, strict values, and configurations as JSON holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator

from trainable.config import TrialConfig


def _read_config(value: object) -> TrialConfig:
    if isinstance(value, TrialConfig):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("a configuration must be an object")  # noqa: TRY004
    return TrialConfig.from_values(value)


Config = Annotated[TrialConfig, PlainValidator(_read_config), PlainSerializer(lambda config: config.named())]
"""A configuration that JSON holds as the hyperparameters that were given."""


class Part(BaseModel):
    """A part of the report: frozen, and strict about types when it is read."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)
