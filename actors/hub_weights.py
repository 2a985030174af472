"""Weights on the Hugging Face hub: a commit is fetched into the hub's own cache, which the processes of a node share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sc3d.errors import WeightsError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""``owner/name``. What follows an ``@`` is a branch, a tag or a commit."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
# The bases of what the client's HTTP libraries raise without an answer: it has changed them between versions, so they go by name.
_NO_ANSWER = {"TransportError", "ConnectionError", "Timeout", "TimeoutError"}


def fetch(source: str, files: Sequence[str]) -> Path:
    """The snapshot folder of a source, with all files that match ``files`` (none: all of the repository).

    A branch that this machine has fetched before still means the commit that it meant then.

    Raises:
        WeightsError: the hub's client is not installed, there is no access, no such repository or revision, or no way to reach the hub.
    """
    repository, revision = _split(source)
    hub = _hub()
    # The commit, not the branch: what `identity` has named is what is loaded, whatever is pushed meanwhile.
    revision = _cached_commit(repository, revision) or revision
    try:
        return Path(hub.snapshot_download(repository, revision=revision, allow_patterns=list(files) or None))
    except Exception as error:
        raise WeightsError(_explain(error, repository, revision)) from error


def find(source: str, files: Sequence[str]) -> Path | None:
    """The snapshot folder if it is in the cache of this machine; asks nobody. Raises WeightsError for what cannot be a hub id."""
    repository, revision = _split(source)
    hub = _hub()
    commit = _cached_commit(repository, revision)
    if commit is None:
        return None
    try:
        return Path(hub.snapshot_download(repository, revision=commit, allow_patterns=list(files) or None, local_files_only=True))
    except FileNotFoundError:
        return None
    except Exception as error:
        raise WeightsError(_explain(error, repository, revision)) from error


def identity(source: str) -> str:
    """``repository@commit``. Asks the hub only if no commit is given and this machine has not fetched the revision.

    Raises:
        WeightsError: the hub does not know it or cannot be asked.
    """
    repository, revision = _split(source)
    hub = _hub()
    commit = _cached_commit(repository, revision)
    if commit is None:
        try:
            commit = str(hub.model_info(repository, revision=revision, timeout=30).sha)
        except Exception as error:
            raise WeightsError(_explain(error, repository, revision)) from error
    return f"{repository}@{commit}"


def _split(source: str) -> tuple[str, str]:
    repository, _, revision = source.partition("@")
    return repository, revision or "main"


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise WeightsError(
            f"huggingface_hub cannot be imported ({error}), and it fetches weights from the hub: "
            "pip install 'sc3d[foundation]', or give a local path or s3://bucket/prefix"
        ) from None
    return huggingface_hub


def _cached_commit(repository: str, revision: str) -> str | None:
    """The commit that a revision stood for when it was fetched; ``None`` if it was not."""
    if _COMMIT.fullmatch(revision):
        return revision
    refs = Path(_hub().constants.HF_HUB_CACHE).expanduser() / f"models--{repository.replace('/', '--')}" / "refs"
    try:
        commit = (refs / revision).read_text().strip()
    except (OSError, ValueError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None


def _explain(error: Exception, repository: str, revision: str) -> str:
    """What is wrong and what a user can do about it, for an error of the hub's client."""
    hub = _hub()
    errors, page = hub.errors, f"{hub.constants.ENDPOINT}/{repository}"
    elsewhere = "or give a local path or s3://bucket/prefix in its place"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{repository} is gated and this machine has no access to it: accept the licence at {page} and log in with "
            f"`hf auth login` (or set HF_TOKEN on every node), {elsewhere}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no revision '{revision}': see {page}/commits/main for those that it has"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"the hub has no repository {repository} ({page}), or it is private, and there is no such local path: "
            f"check the name, log in with `hf auth login`, {elsewhere}"
        )
    if isinstance(error, errors.HFValidationError):
        return f"{repository} is neither a hub id ({error}) nor a local path that exists"
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403):
        return (
            f"the hub refuses {repository} to this machine ({_first_line(error)}): log in again with `hf auth login`, {elsewhere}"
        )
    if isinstance(error, errors.LocalEntryNotFoundError) or _NO_ANSWER & {base.__name__ for base in type(error).__mro__}:
        return (
            f"{repository}@{revision} is not complete in the hub's cache {hub.constants.HF_HUB_CACHE}, and the hub cannot be asked "
            f"({_first_line(error.__cause__ or error)}): run `hf download {repository} --revision {revision}` where there is a network "
            f"and copy the cache, {elsewhere}"
        )
    return f"cannot fetch {repository}@{revision} from {page}: {type(error).__name__}: {_first_line(error)}; try again, {elsewhere}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
