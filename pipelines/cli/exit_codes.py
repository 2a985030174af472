"""The exit codes of ``sc3d``: all of them, as README lists them."""

from __future__ import annotations

from enum import IntEnum

from sc3d.errors import ConfigError, RejectBudgetError, Sc3dError


class ExitCode(IntEnum):
    """What a command ended with; :attr:`meaning` says it in words."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    DONE = 0, "done"
    CANNOT_GO_ON = 1, "it cannot go on, or what was checked is not usable (the message says why and what to do)"
    WRONG_USAGE = 2, "wrong usage or configuration"
    TOO_MANY_REJECTS = 3, "too many rejects"
    INTERRUPTED = 130, "interrupted by Ctrl-C"
    TERMINATED = 143, "told to stop by SIGTERM"


def exit_code_of(error: Sc3dError) -> ExitCode:
    """The exit code of a command that an error has ended."""
    if isinstance(error, ConfigError):
        return ExitCode.WRONG_USAGE
    return ExitCode.TOO_MANY_REJECTS if isinstance(error, RejectBudgetError) else ExitCode.CANNOT_GO_ON
