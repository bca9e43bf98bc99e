"""Put files into a repository on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainable.hub.download import HubError, first_line


@dataclass(frozen=True)
class Account:
    """Who a token belongs to."""

    name: str
    organizations: tuple[str, ...]
    """Where the account may put repositories, too."""


def find_account() -> Account:
    """The account whose token this machine has.

    Raises:
        HubError: There is no token, the hub refuses it, or it can't be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalTokenNotFoundError

    try:
        told = HfApi().whoami()
    except LocalTokenNotFoundError as error:
        raise HubError("no account: run 'hf auth login', or set HF_TOKEN") from error
    except Exception as error:  # the client raises many kinds: a refusal, no network, no name resolution
        raise HubError(f"the hub does not tell whose token this is: {first_line(error)}") from error
    return Account(str(told["name"]), tuple(str(each["name"]) for each in told.get("orgs", ())))


def find_visibility(repo: str) -> bool | None:
    """Whether a model's repository is private; None if there is none.

    Raises:
        HubError: The hub does not say.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return bool(HfApi().model_info(repo).private)
    except RepositoryNotFoundError:
        return None
    except Exception as error:
        raise HubError(f"the hub does not tell what {repo} holds: {first_line(error)}") from error


def upload(repo: str, files: Mapping[str, Path | bytes], private: bool, message: str) -> str:
    """Put files into a model's repository, in one commit. The repository is made if there is none.

    Args:
        repo: NAMESPACE/NAME.
        files: Paths or contents, by their names in the repository.
        private: Whether only its owners see a new repository; one that exists stays as it is.
        message: The first line of the commit's message.

    Returns:
        Where the model is now.

    Raises:
        HubError: The hub refuses it, or can't be reached. The files appear in one commit, or not at all.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    try:
        api = HfApi()
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.create_commit(
            repo, [CommitOperationAdd(name, content) for name, content in files.items()], commit_message=message
        )
    except Exception as error:
        raise HubError(f"the upload to {repo} failed: {first_line(error)}") from error
    return str(url)
