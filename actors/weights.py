"""Weights of foundation models: where they come from, fetched once a node, and what identifies them.

A *source* is a hub id with an optional revision (``facebook/sam3@<commit>``), a local file or folder, or ``s3://bucket/prefix``; a path
that exists is a path. :mod:`actors.hub_weights` and :mod:`actors.bucket_weights` know the remote two. Files are read by
:func:`~actors.state_dicts.read_state` and put into a model by :func:`~actors.state_dicts.load_strictly`.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from actors import bucket_weights, hub_weights
from sc3d.display import scheme_of
from sc3d.errors import WeightsError
from sc3d.local_files import plain_path

_DIGEST = re.compile(r"[0-9a-f]{64}")


def fetch_weights(source: str, files: Sequence[str] = (), cache: str | None = None) -> Path:
    """Where the weights lie on this machine, after fetching them if they are not there yet.

    Several processes may ask at once: one of them fetches, the others wait for it.

    Args:
        source: hub id with an optional ``@revision``, local file or folder, or ``s3://bucket/prefix``.
        files: names or patterns (``*.safetensors``) of what is needed, relative to the folder; none: everything.
            Each has to be there. Without meaning where the source is one file.
        cache: folder for weights from s3; ``None``: ``~/.cache/sc3d``. The hub's are in the hub's own cache (``HF_HOME``).

    Returns:
        A folder that holds ``files``; the file itself where the source is one file.

    Raises:
        WeightsError: they cannot be had; the message says what to do.
    """
    kind = kind_of(source)
    if kind == "s3":
        return bucket_weights.fetch(source, files, _cache_folder(cache))
    path = hub_weights.fetch(source, files) if kind == "hub" else _local_path(source)
    missing = _missing(path, files)
    if missing:
        raise WeightsError(f"{source} has no {', '.join(missing)} (looked in {path}); is it the right model and revision?")
    return path


def find_weights(source: str, files: Sequence[str] = (), cache: str | None = None) -> Path | None:
    """Where the weights lie on this machine already, as :func:`fetch_weights` would return it; ``None`` if it would have to fetch them.

    Only for s3 is the network used: the bucket is listed.

    Raises:
        WeightsError: the source is no source, or its bucket or the hub's client cannot be used.
    """
    kind = kind_of(source)
    if kind == "s3":
        return bucket_weights.find(source, files, _cache_folder(cache))
    if kind == "local":
        path: Path | None = _local_path(source) if os.path.exists(_expand(source)) else None
    else:
        path = hub_weights.find(source, files)
    return None if path is None or _missing(path, files) else path


def weights_identity(source: str, cache: str | None = None, files: Sequence[str] = ()) -> str:
    """What the weights of a source are, for recipes: it changes when, and only when, they do.

    Local files are identified by a SHA-256 of names and content, which is remembered in the cache, so that large files are read once.
    The hub's are identified as ``repository@commit``, which is itself a source: the same weights on every machine. Those on s3 are
    identified by a hash of their names, sizes and times of modification.

    Args:
        source, cache, files: as for :func:`fetch_weights`.

    Raises:
        WeightsError: the source cannot be looked up.
    """
    kind = kind_of(source)
    if kind == "s3":
        return f"s3:{bucket_weights.identity(source, files)}"
    if kind == "hub":
        return hub_weights.identity(source)
    path, notes = _local_path(source), _cache_folder(cache) / "digests"
    if path.is_file():
        return f"sha256:{_digest(path, notes)}"
    chosen = [name for name in _names_below(path) if not files or any(fnmatchcase(name, f) for f in files)]
    if not chosen:
        raise WeightsError(f"{source}: the folder holds no weights" + (f" named {', '.join(files)}" if files else ""))
    lines = "".join(f"{name}\0{_digest(path / name, notes)}\n" for name in chosen)
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def pin_source(source: str) -> str:
    """The source with the commit that it stands for now, ``owner/name@<commit>``, if it is one on the hub; others as they are.

    Raises:
        WeightsError: it is no source, or the hub cannot be asked.
    """
    return hub_weights.identity(source) if kind_of(source) == "hub" else source


def kind_of(source: str) -> Literal["local", "hub", "s3"]:
    """Where a source is. Raises WeightsError for what is none."""
    if not source.strip():
        raise WeightsError("no source of weights is given: name a hub id, a local path or s3://bucket/prefix")
    scheme = scheme_of(source)
    if scheme == "s3":
        return "s3"
    if scheme not in ("", "file"):
        raise WeightsError(f"{source}: weights come from a hub id, a local path or s3://bucket/prefix, not from '{scheme}://'")
    looks_local = scheme == "file" or source.startswith((".", "/", "~")) or os.path.exists(source)
    return "local" if looks_local or not hub_weights.HUB_ID.fullmatch(source.partition("@")[0]) else "hub"


def _expand(source: str) -> str:
    return os.path.abspath(os.path.expanduser(plain_path(source)))


def _local_path(source: str) -> Path:
    path, host = Path(_expand(source)), socket.gethostname()
    if not os.path.exists(path):
        raise WeightsError(
            f"{source}: there is no such file or folder on {host} ({path}), and it is no hub id (owner/name[@revision]); "
            "weights given by a local path must be on every node that runs models, or on s3"
        )
    if not (path.is_file() or path.is_dir()) or not os.access(path, os.R_OK):
        raise WeightsError(f"{path} on {host} is not a file or folder that this user can read")
    return path


def _cache_folder(cache: str | None) -> Path:
    return Path(os.path.abspath(os.path.expanduser(cache or "~/.cache/sc3d")))


def _missing(path: Path, files: Sequence[str]) -> list[str]:
    """Which of ``files`` are not below the folder ``path``."""
    if path.is_file():
        return []
    absent = [f for f in files if not (path / f).is_file()]
    names = _names_below(path) if absent else []
    return [f for f in absent if not any(fnmatchcase(name, f) for name in names)]


def _names_below(folder: Path, above: tuple[str, ...] = ()) -> list[str]:
    """Names, relative to ``folder``, of all files below it but hidden ones, in a fixed order. Links are followed, but not in circles."""
    here, names = os.path.realpath(folder), []
    if here in above:
        return []
    try:
        entries = sorted((e for e in os.scandir(folder) if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise WeightsError(f"cannot list {folder}: {error.strerror}") from None
    for entry in entries:
        if entry.is_dir():
            names += [f"{entry.name}/{name}" for name in _names_below(Path(entry.path), (*above, here))]
        elif entry.is_file():
            names.append(entry.name)
    return names


def _digest(path: Path, notes: Path) -> str:
    """SHA-256 of a file's content, remembered by path, size and times in the folder ``notes``."""
    before = os.stat(path)
    stamp = f"{path}\0{before.st_size}\0{before.st_mtime_ns}\0{before.st_ctime_ns}\0{before.st_ino}"
    note = notes / hashlib.sha256(stamp.encode()).hexdigest()
    try:
        known = note.read_text()
        if _DIGEST.fullmatch(known):
            return known
    except (OSError, ValueError):
        pass
    state = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while chunk := stream.read(1 << 23):
                state.update(chunk)
        after = os.stat(path)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from None
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise WeightsError(f"{path} is being written to; wait until it is complete")
    try:
        notes.mkdir(parents=True, exist_ok=True)
        temporary = note.with_suffix(f".{os.getpid()}")
        temporary.write_text(state.hexdigest())
        os.replace(temporary, note)
    except OSError:
        pass  # a cache that cannot be written costs time, not the run
    return state.hexdigest()
