"""The learning rate schedules of a trial, by name. So far the names alone: their code is in `config.py`."""

SCHEDULES: dict[str, object] = {"linear": None}
