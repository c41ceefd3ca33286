"""The CSV of bulk queries becomes rows as REST has them, or a fault; never fewer rows."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.salesforce.csvrows import BrokenCsv, Row, rows

COLUMNS = ("Id", "Name", "IsDeleted", "Account.Owner.Name", "Account.Name")
BOOLEANS = frozenset({"IsDeleted"})
LONGER_THAN_PYTHON_READS = 200_000


def read(text: str) -> list[Row]:
    file = io.BytesIO(text.encode())
    found = list(rows(file, COLUMNS, BOOLEANS))
    assert not file.closed
    return found


def written(*lines: list[str]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(lines)
    return out.getvalue()


def test_parents_nulls_and_truths_are_as_rest_has_them() -> None:
    text = written(list(COLUMNS), ["006", "", "true", "Rep 07", ""])

    assert read(text) == [
        {
            "Id": "006",
            "Name": None,
            "IsDeleted": True,
            "Account": {"Owner": {"Name": "Rep 07"}, "Name": None},
        }
    ]


def test_the_header_may_spell_and_order_the_columns_otherwise() -> None:
    header = ["account.name", "ACCOUNT.OWNER.NAME", "isdeleted", "name", "id"]

    (row,) = read(written(header, ["Account 1", "Rep 07", "false", "Deal", "006"]))

    assert (row["Id"], row["Name"], row["IsDeleted"]) == ("006", "Deal", False)
    assert row["Account"] == {"Name": "Account 1", "Owner": {"Name": "Rep 07"}}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_through(value: str) -> None:
    text = written(list(COLUMNS), ["006", value, "false", "", ""], ["007", "", "false", "", ""])

    assert [row["Name"] for row in read(text)] == [value or None, None]


def test_a_long_text_area_comes_through() -> None:
    value = "x" * LONGER_THAN_PYTHON_READS

    (row,) = read(written(list(COLUMNS), ["006", value, "false", "", ""]))

    assert row["Name"] == value


@pytest.mark.parametrize("text", ["", "\ufeff" + written(list(COLUMNS)), written(list(COLUMNS))])
def test_a_part_without_rows_has_none(text: str) -> None:
    assert read(text) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (written(["Id", "Name"], ["006", "Deal"]), "lacks the column IsDeleted"),
        (written(list(COLUMNS), ["006", "Deal"]), "2 values instead of 5"),
        (written(list(COLUMNS)) + '"006","Deal","false","","', "cannot be read as CSV"),
        ("<html><body>Bad gateway</body></html>", "lacks the column Id"),
    ],
)
def test_a_part_that_is_cut_or_no_csv_is_a_fault(text: str, words: str) -> None:
    with pytest.raises(BrokenCsv, match=words):
        read(text)
