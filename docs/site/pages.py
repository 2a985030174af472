"""What Sphinx is given for pages that are no plain Markdown: notebooks, and the list of all pages."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path


def notebook_page(text: str) -> str:
    """A notebook (JSON) as Markdown: its text as it is, its code as blocks; outputs are left out."""
    cells = json.loads(text)["cells"]
    return "\n\n".join(
        f"```python\n{''.join(cell['source'])}\n```" if cell["cell_type"] == "code" else "".join(cell["source"]) for cell in cells
    )


def without_links_to_folders(text: str, here: Path) -> str:
    """Markdown of a page in ``here``, with the text alone of links to folders of the code, for which the site has no page."""
    return re.sub(r"\[([^\]]+)\]\(([^):#]+)\)", lambda link: link[1] if (here / link[2]).is_dir() else link[0], text)


def table_of_contents(index: str) -> str:
    """The pages that the sections of docs/index.md list, by the names that they have there: a hidden table each, in Sphinx's words."""
    sections = re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", index, re.MULTILINE | re.DOTALL)
    return "".join(_table(title, re.findall(r"^- \[([^\]]+)\]\(([^)#]+)\)", body, re.MULTILINE)) for title, body in sections)


def _table(title: str, links: list[tuple[str, str]]) -> str:
    pages = [f"{name} <{posixpath.splitext(posixpath.normpath(f'/docs/{target}'))[0]}>" for name, target in links]
    return "\n".join(["", "", "```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```"])
