"""Notebooks become pages, and the list of pages becomes the navigation."""

from __future__ import annotations

import json
from pathlib import Path

from docs.site.pages import notebook_page, table_of_contents, without_links_to_folders


def test_a_notebook_is_its_text_and_its_code() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": ["a = 1\n", "a"], "outputs": [{"text": "never shown"}]},
    ]
    assert notebook_page(json.dumps({"cells": cells})) == "# Title\ntext\n\n```python\na = 1\na\n```"


def test_sections_become_tables_of_their_pages_in_order() -> None:
    how_to = "## How to\n\n- [Labels](labels.md): all.\n- [Read me](../README.md)\n\n"
    index = f"# T\n\n[not listed](x.md)\n\n{how_to}## More\n\n- [N](notebooks/n.ipynb)\n"
    first, second = table_of_contents(index).split("```{toctree}")[1:]
    assert first.split("\n")[1:7] == [":hidden:", ":caption: How to", "", "Labels </docs/labels>", "Read me </README>", "```"]
    assert ":caption: More\n\nN </docs/notebooks/n>\n" in second


def test_a_link_to_a_folder_is_its_text(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "page.md").touch()
    text = "[`code`](code), [page](page.md), [part](page.md#part), [site](https://code)"
    assert without_links_to_folders(text, tmp_path) == text.replace("[`code`](code)", "`code`")
