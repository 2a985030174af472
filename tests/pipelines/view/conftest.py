"""A small run, and a server that shows it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from report_run import Made
from run_server import Served, serving


@pytest.fixture(scope="session")
def viewed(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two categories of three images, six labelled pairs, one rejected pair, and an annotated one. Do not change it."""
    return Made.labelled(tmp_path_factory.mktemp("viewed"))


@pytest.fixture(scope="session")
def served(viewed: Made) -> Iterator[Served]:
    """The server of that run."""
    with serving(viewed.config) as found:
        yield found
