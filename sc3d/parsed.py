"""The border between files that somebody else may have written and the code: plain values -> a kind, or an error with file and field.

A kind is a type with its ranges: a ``TypedDict`` or a dataclass whose fields are annotated, as the options of a configuration are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from sc3d.errors import SchemaError
from sc3d.plain_text import YAML_BYTES, bounded, clipped, decoded, field_name, of_json, of_yaml
from sc3d.store import RunFolder

T = TypeVar("T")

Whole = Annotated[int, Field(ge=0, lt=2**63)]
# Whatever an option may be; the difference of two of them is still a number.
Number = Annotated[float, Field(ge=-1e300, le=1e300, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Recipe = Annotated[str, Field(pattern="^([0-9a-z]{1,64})?$")]
"""Of a stage's artefacts, as notes name it: a folder of its own; empty where nobody noted it."""

NOTE_BYTES, TABLE_BYTES = 1 << 20, 64 << 20
"""Of a file that grows with the stages of a run; of one with a row for each setting, trial or category."""

_SHOWN = 8


def parsed(kind: type[T], values: Any, where: str) -> T:
    """Plain values as a kind; what the kind does not have is left out.

    Raises:
        SchemaError: a field is missing, of another type or out of its range; names it and the file, ``where``.
    """
    try:
        found: T = _adapter(kind).validate_python(bounded(values))  # type: ignore[arg-type]
        return found
    except ValidationError as error:
        raise SchemaError(f"{where}: {problems(error)}") from None
    except ValueError as error:
        raise SchemaError(f"{where}: {error}") from None


def read_parsed(run: RunFolder, name: str, kind: type[T], max_bytes: int = NOTE_BYTES) -> T:
    """A JSON file that :meth:`~sc3d.store.RunFolder.write_json` wrote, as a kind.

    Raises:
        SchemaError: it is damaged, of another version, larger than ``max_bytes``, or not of the kind.
        StoreError: it cannot be read.
    """
    where = _where(run, name)
    try:
        values = run.read_json(name, max_bytes)
    except RecursionError:
        raise SchemaError(f"{where}: it is nested too deeply to be read") from None
    return parsed(kind, values, where)


def read_parsed_text(run: RunFolder, name: str, kind: type[T]) -> tuple[str, T]:
    """A YAML file of a run folder, as text and as a kind. Raises as :func:`read_parsed`."""
    data = run.read_bytes(name, YAML_BYTES)
    text = _as_schema_error(_where(run, name), lambda: decoded(data))
    return text, parsed(kind, _as_schema_error(_where(run, name), lambda: of_yaml(text)), _where(run, name))


def parsed_json(kind: type[T], data: bytes, where: str) -> T:
    """A JSON text without a version as a kind. Raises as :func:`parsed`."""
    return parsed(kind, _as_schema_error(where, lambda: of_json(data)), where)


def problems(error: ValidationError, explained: Callable[[Mapping[str, Any]], str] = lambda found: "") -> str:
    """What is wrong with which fields, in a line. ``explained``: says it better than pydantic does for some of its errors, else nothing."""
    found = error.errors(include_url=False)
    lines = [
        f"{field_name(one['loc']) if one['loc'] else 'run'}: {clipped(explained(one) or one['msg'], 400)}" for one in found[:_SHOWN]
    ]
    more = len(found) - _SHOWN
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _as_schema_error(where: str, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except ValueError as error:
        raise SchemaError(f"{where}: {error}") from None


def _where(run: RunFolder, name: str) -> str:
    # Without the options in the URI, which belong to the folder.
    return f"{run.uri.partition('?')[0]}/{name}"
