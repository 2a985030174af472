"""PCK tables as CSV and LaTeX: every number, published rows marked and only beside the same data set, special characters escaped."""

import csv
import io
import re

from sc3d.evaluation.export import pck_csv, pck_latex
from sc3d.evaluation.tables import pck_row


def rows(dataset: str) -> list[dict]:
    return [
        pck_row(method, dataset, subset, alpha, average, value, 12)
        for method, value in (("a_b 100 %", 0.5), ("c", 0.25))
        for subset in ("all", "category:bus")
        for alpha in (0.1, 0.05)
        for average in ("image", "keypoint")
    ]


def test_csv_holds_every_number_and_the_published_rows_of_the_data_set():
    found = list(csv.DictReader(io.StringIO(pck_csv(rows("spair")))))
    measured = [row for row in found if row["origin"] == "measured"]
    assert len(measured) == 16
    assert {row["dataset"] for row in found} == {"SPair-71k"}
    assert measured[0] | {"value": "0.500000", "method": "a_b 100 %", "pairs": "12"} == measured[0]
    published = {(row["method"], row["alpha"]): row["value"] for row in found if row["origin"] == "published"}
    assert published["3D-SC", "0.1"] == "0.730000"
    assert ("3D-SC", "0.01") not in published
    assert all(row["origin"] == "measured" for row in csv.DictReader(io.StringIO(pck_csv(rows("toys")))))


def test_missing_numbers_are_empty():
    assert (
        pck_csv([pck_row("a", "toys", "all", 0.1, "image", float("nan"), 3)]).splitlines()[1] == "a,toys,all,0.1,image,,3,measured"
    )
    assert "a & -- \\\\" in pck_latex([pck_row("a", "toys", "all", 0.1, "image", float("nan"), 3)])


def test_latex_is_a_booktabs_table_a_subset():
    latex = pck_latex(rows("spair"))
    assert latex.count("\\begin{tabular}{lrrrr}") == latex.count("\\bottomrule") == 1
    assert "a\\_b 100 \\% & \\textbf{50.0} & \\textbf{50.0} & \\textbf{50.0} & \\textbf{50.0} \\\\" in latex
    assert "c & 25.0" in latex
    assert "3D-SC$^\\dagger$ & 73.0 & 54.8 & -- & -- \\\\" in latex
    assert "\\cmidrule(lr){2-3}\\cmidrule(lr){4-5}" in latex
    assert "bus" not in latex
    assert "dagger" not in pck_latex(rows("toys"))
    # Each line of a table has as many cells as columns.
    body = latex.partition("\\midrule")[2].partition("\\bottomrule")[0]
    assert {len(re.findall("&", line)) for line in body.splitlines() if "&" in line} == {4}
