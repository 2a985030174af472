"""``--open``: a page that was written, in the person's browser, wherever it lies."""

from __future__ import annotations

import posixpath
import tempfile
import webbrowser
from pathlib import Path

from sc3d.errors import StoreError
from sc3d.store import RunFolder


def open_page(page: str, run: str) -> None:
    """Show a written file in the person's browser or picture viewer.

    Args:
        page: local path, or where it lies in the run folder.
        run: that run folder. A page in a bucket is copied to a temporary file, since no browser can read it there; links from it to
            other files of the run lead nowhere then.

    Raises:
        StoreError: it is not there.
    """
    if "://" not in page:
        path = Path(page)
    else:
        folder = RunFolder(run)
        name = page.removeprefix(f"{folder.uri}/")
        # The folder stays: a browser may read the file long after it was asked to.
        path = Path(tempfile.mkdtemp(prefix="sc3d-page-")) / posixpath.basename(name)
        path.write_bytes(folder.read_bytes(name))
    if not path.is_file():
        raise StoreError(f"{page} is not there, so it cannot be opened")
    open_address(path.absolute().as_uri())


def open_address(address: str) -> None:
    """Show an address in the person's browser."""
    webbrowser.open(address)
