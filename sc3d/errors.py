"""The errors a user of sc3d can meet. Each message says what is wrong, where, and what to do about it.

Everything derives from :class:`Sc3dError`, so a pipeline can turn any of them into a reject row and a command line can turn
any of them into one line on stderr and a non-zero exit code.
"""

from __future__ import annotations

from collections.abc import Sequence

from sc3d.display import without_secrets


class Sc3dError(Exception):
    """Base of all errors that are meant for the person who runs sc3d. Addresses in a message lose what may be a secret."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(without_secrets(one) if isinstance(one, str) else one for one in arguments))


class ConfigError(Sc3dError):
    """A configuration value is missing, unknown or out of range."""


class UndeclaredOptionError(Sc3dError):
    """A stage or an actor reads an option that it does not declare, so its recipe would not hold it. A mistake in its code."""


class InputError(Sc3dError):
    """An image, a mask, an annotation or a manifest cannot be used."""


class GeometryError(Sc3dError):
    """A mesh, a camera or a pose cannot be used."""


class FeatureError(Sc3dError):
    """Features are missing, malformed, or do not fit each other."""


class UpstreamError(Sc3dError):
    """A record cannot be processed because an earlier stage rejected what it is made of."""


class SchemaError(Sc3dError):
    """A file was written with another schema than this version of sc3d reads."""


class DamagedFileError(SchemaError):
    """A file of a run folder was cut short or changed: it can be deleted and made again."""


class StoreError(Sc3dError):
    """A run folder cannot be read or written."""


class MissingFileError(StoreError):
    """A file of a run folder is not there."""


class BucketError(StoreError):
    """The bucket of a run folder does not exist, or lies in another region."""


class StoreDeniedError(StoreError):
    """The store refuses: credentials are missing, are not accepted, or do not allow this."""


class StoreUnavailableError(StoreError):
    """The store did not answer, or not as it should, for longer than a run waits for it."""


class RunBusyError(StoreError):
    """Another run that is alive writes this run folder."""


class LeaseLostError(StoreError):
    """Another run has taken this run folder over, so this one must stop writing."""


class RejectBudgetError(Sc3dError):
    """More records were rejected than the run allows."""


class WeightsError(Sc3dError):
    """The weights of a model are missing, cannot be had, or are not those of the model."""


class PreflightError(Sc3dError):
    """The run cannot succeed on this machine or cluster as it is configured.

    Args:
        message: what cannot be done.
        problems: why not, a line each with what to do about it.
        advice: about all of them.

    Attributes:
        lines: the same, for whoever has more than one line: the text of the error has all of it in one.
    """

    def __init__(self, message: str, problems: Sequence[str] = (), advice: str = "") -> None:
        super().__init__(". ".join(part for part in (message, *problems, advice) if part))
        parts = (message, *(f"  {problem}" for problem in problems), *([advice] if advice else []))
        self.lines = tuple(without_secrets(part) for part in parts)

    def __reduce__(self) -> tuple[type[PreflightError], tuple[str], dict[str, object]]:
        return type(self), (str(self),), {"lines": self.lines}


class InstallError(Sc3dError):
    """A package that sc3d cannot do without is not installed, or does not load on this machine."""


class RayDiedError(Sc3dError):
    """Ray cannot be started or joined, or a part of it that a run cannot do without has ended."""


class WorkerError(Sc3dError):
    """A worker process cannot do its part, for a reason that has nothing to do with what it was given."""


def concerns_the_run(error: Exception) -> bool:
    """Whether an error says nothing about the record at hand, which must not be rejected: the store is away or refuses, code errs, or
    the machine lacks a library."""
    return isinstance(error, (StoreError, UndeclaredOptionError, InstallError)) and not isinstance(error, MissingFileError)
