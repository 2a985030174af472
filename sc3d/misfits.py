"""What pydantic says of a value that does not fit its schema, as one line for people."""

from __future__ import annotations

from pydantic import ValidationError


def first_misfit(error: ValidationError) -> str:
    """The first field that does not fit, and why. A key of a file may be a whole book, or hold what a terminal obeys."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    parts = (part[:40] if isinstance(part, str) and part.isidentifier() else ascii(part)[:40] for part in first["loc"])
    place = ".".join(parts)
    return f"{place}: {first['msg']}" if place else first["msg"]
