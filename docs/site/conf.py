"""The settings of the documentation site, which `make docs` builds: the Markdown pages as they are, and in them what is made from code."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).resolve().parent))

from generated import MARKERS
from pages import notebook_page, table_of_contents, without_links_to_folders

from sc3d import __version__

project = "sc3d"
version = release = __version__
# The root is the project's, not docs/, so that links between README, the pages and the code are the same here as in a clone.
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**"]
exclude_patterns = [".*", "build", "dist", "runs", "**/__pycache__"]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
highlight_language = "text"
toc_object_entries = False

html_theme = "furo"
html_title = f"sc3d {version}"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
templates_path = ["."]
html_additional_pages = {"index": "front_page.html"}


def prepare(app: Sphinx, name: str, source: list[str]) -> None:
    """Make of a page what Sphinx can read, and put what is made from code in the place of its marker."""
    path = Path(app.env.doc2path(name))
    if path.suffix == ".ipynb":
        source[0] = notebook_page(source[0])
    source[0] = without_links_to_folders(source[0], path.parent)
    if name == root_doc:
        source[0] += table_of_contents(source[0])
    for marker, make in MARKERS.items():
        if marker in source[0]:
            source[0] = source[0].replace(marker, make())


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", prepare)
