"""Fetch models and data sets from the Hugging Face hub; if it can't be reached, take them from its cache.

Before anything is fetched, we ask the hub one question with a deadline. huggingface_hub and datasets retry an
unreachable hub for 23 s per call, or hang where packets are dropped, and no setting of theirs shortens that.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from trainable.errors import nearest
from trainable.hub.model_checks import refusal
from trainable.hub.model_folder import PICKLED_WEIGHTS, WEIGHT_FILES, WEIGHT_PARTS

if TYPE_CHECKING:
    import pyarrow

DEADLINE_S = 4.0  # for the hub's first answer; it includes name resolution and connection
TOKENIZER_PATTERNS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")


class HubError(Exception):
    """A model or data set can't be fetched; the message says why and what the user can do.

    The message is a predicate. The caller puts it after the name: "--model NAME: is gated: ask for ...".
    """


class _UnreachableError(Exception):
    """The hub gave no usable answer. The message is a predicate of the hub: "cannot be reached (...)"."""


def resolve_model(name: str) -> Path:
    """Fetch a model's configuration, tokenizer and safetensors; pickled weights are never fetched.

    Returns:
        The folder of the hub's cache that holds them.

    Raises:
        HubError: The model can't be fetched, or it can't be fine-tuned.
    """
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    _quieten()
    try:
        info = _ask("model", name)
    except _UnreachableError as reason:
        config = try_to_load_from_cache(name, "config.json")
        if isinstance(config, str) and not _missing(Path(config).parent):
            return Path(config).parent
        raise _offline(reason) from None
    there = {file.rfilename for file in info.siblings or []}
    if not there & {*WEIGHT_FILES}:
        pickled = next((file for file in PICKLED_WEIGHTS if file in there), None)
        raise HubError(refusal(pickled, name, f"./{name.rpartition('/')[2]}"))
    wanted = ["*.json", "*.txt", "*.model", "bpe.codes", WEIGHT_FILES[0], *WEIGHT_PARTS]
    try:  # "*/*" excludes onnx/, coreml/ and other folders, because "*" in the wanted patterns matches "/" too
        folder = Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns="*/*"))
    except Exception as error:
        raise _failed(error) from error
    if missing := _missing(folder):
        raise HubError(f"cannot be fine-tuned: it has no {missing}")
    return folder


def load_hub_dataset(repo: str, config: str | None = None) -> dict[str, pyarrow.Table]:
    """The splits of a data set by name. `class_names` reads the names of their classes.

    Args:
        repo: The repository, such as "nyu-mll/glue".
        config: One of its configurations; None means the only one, or the default.

    Raises:
        HubError: The data set can't be loaded.
    """
    import datasets

    _quieten()
    datasets.disable_progress_bars()
    try:
        info = _ask("dataset", repo)
        # info.id is the present name, since load_dataset refuses old names; naming the commit saves requests.
        splits = datasets.load_dataset(info.id, config, revision=info.sha)
    except _UnreachableError as reason:
        splits = _cached_dataset(repo, config, reason)
    except HubError:
        raise
    except Exception as error:
        problem = _config_problem(info, config) if isinstance(error, ValueError) else None
        raise (HubError(problem) if problem else _failed(error)) from error
    return {str(name): split.with_format("arrow")[:] for name, split in splits.items()}


def class_names(table: pyarrow.Table) -> dict[str, list[str]]:
    """The class names of each label column, which datasets keeps in the table's schema."""
    from datasets import ClassLabel, Features

    features = Features.from_arrow_schema(table.schema)
    return {name: list(kind.names) for name, kind in features.items() if isinstance(kind, ClassLabel)}


def _ask(kind: str, name: str) -> Any:
    """Ask the hub about a repository.

    Returns:
        Its `ModelInfo` or `DatasetInfo`, of which we use `id`, `sha` and `siblings`.

    Raises:
        HubError: There is no such repository.
        _UnreachableError: No usable answer came within DEADLINE_S.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    answers: list[Any] = [TimeoutError(f"no answer within {DEADLINE_S:g} s")]

    def ask() -> None:
        try:
            answers.append(HfApi().repo_info(name, repo_type=kind, timeout=DEADLINE_S))
        except Exception as error:
            answers.append(error)

    thread = Thread(target=ask, daemon=True)  # the request's own time limit does not cover name resolution
    thread.start()
    thread.join(DEADLINE_S)
    answer = answers[-1]
    if isinstance(answer, HFValidationError):
        raise HubError("is neither a local folder nor a name that the hub could have")
    if isinstance(answer, RepositoryNotFoundError):
        raise HubError(
            f"the hub at {_endpoint()} has no such {kind}, or it is private: check the name or run 'hf auth login'"
        )
    if isinstance(answer, OfflineModeIsEnabled):
        raise _UnreachableError("cannot be reached (HF_HUB_OFFLINE is set)")
    if isinstance(answer, HfHubHTTPError):  # a bad token, too many requests, an error of the hub's
        raise _UnreachableError(f"answers with an error ({first_line(answer)})")
    if isinstance(answer, Exception):
        raise _UnreachableError(f"cannot be reached ({first_line(answer)})")
    return answer


def _config_problem(info: Any, config: str | None) -> str | None:
    """What is wrong with the configuration that was asked for; None if nothing is."""
    from datasets import get_dataset_config_names

    try:
        known = get_dataset_config_names(info.id, revision=info.sha)
    except Exception:  # the error that the caller has says more
        return None
    if not config:
        several = len(known) > 1 and "default" not in known
        return f"has several configurations: write {info.id}/NAME; known: {', '.join(known)}" if several else None
    return None if config in known else f"{info.id} has no configuration {config!r}; {nearest(config, known)}"


def _cached_dataset(repo: str, config: str | None, reason: _UnreachableError) -> Any:
    """The copy of a data set in the cache; a name without a namespace is looked for in every namespace."""
    from datasets.config import HF_DATASETS_CACHE
    from datasets.packaged_modules.cache.cache import Cache

    folders = Path(HF_DATASETS_CACHE).glob(f"*___{repo}") if "/" not in repo else []
    for name in [repo, *sorted(folder.name.replace("___", "/", 1) for folder in folders)]:
        try:
            short = name.rpartition("/")[2]
            return Cache(None, short, config, version="auto", hash="auto", repo_id=name).as_dataset()
        except (OSError, ValueError):  # there is no copy, or none with this configuration
            continue
    raise _offline(reason)


def _missing(folder: Path) -> str:
    """The first thing that a model's folder lacks, in words; empty if it is complete."""
    whole, index = (folder / name for name in WEIGHT_FILES)
    try:
        shards = json.loads(index.read_text())["weight_map"].values() if index.exists() else [whole.name]
        there = all((folder / shard).exists() for shard in shards)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        there = False
    if not there:
        return f"weights ({whole.name})"
    return "" if any(any(folder.glob(pattern)) for pattern in TOKENIZER_PATTERNS) else "tokenizer"


def _offline(reason: _UnreachableError) -> HubError:
    return HubError(
        f"is not in the local cache, and the hub at {_endpoint()} {reason}. "
        "Without a network these work: --preset demo, local folders, and names used before on this machine"
    )


def _failed(error: Exception) -> HubError:
    if "gated" in str(error):  # datasets replaces the GatedRepoError, so the text is all there is
        return HubError(f"is gated: ask for access at {_endpoint()}, then run 'hf auth login'")
    return HubError(f"could not be loaded from the hub at {_endpoint()}: {first_line(error)}")


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def _quieten() -> None:
    """Turn off progress bars and warnings of both libraries in this process."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    for name in ("huggingface_hub", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
