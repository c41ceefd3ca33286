"""Files as other programs and people leave them: what is understood, what is set aside."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from connectors.base import FieldSource, Page
from connectors.errors import StreamPaused
from connectors.files.connector import FilesConnector
from store.canonical import Cost
from tests.contract.connectors.test_files import Later, letters, rows, settings

HEAD = "id,date,amount,source\n"
ROW = "1,2026-03-05,1,a\n"


def read(folder: Path, name: str, content: str | bytes, **how: Any) -> list[Page]:
    given = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(given)
    connector = FilesConnector(settings(folder, object=name, **how))
    (stream,) = connector.streams()
    return list(connector.pull(stream, None))


def costs(pages: list[Page]) -> list[Cost]:
    return [row for row in rows(pages) if isinstance(row, Cost)]


@pytest.mark.parametrize(
    ("content", "how"),
    [
        ((HEAD + ROW).encode("utf-8-sig"), {"encoding": "utf-8"}),
        ((HEAD + ROW).encode("utf-16-le"), {}),
        ((HEAD + ROW).encode("utf-16-be"), {}),
        (("\ufeff" + HEAD + ROW).encode("utf-16-le"), {"encoding": "utf-16-le"}),
        ("ID,Date,AMOUNT,Source\n" + ROW, {}),
        ("Nr,date,amount,source\n" + ROW, {"key": '["nr"]'}),
        ("\n" + HEAD + ROW, {}),
        ("sep=;\n" + (HEAD + ROW).replace(",", ";"), {}),
        (HEAD + ",,,\n" + ROW + ",,,\n", {}),
        ("id,date,amount,source,,\n1,2026-03-05,1,a,,\n", {}),
        (HEAD + "1,2026-03-05,1,a,,\n", {}),
        (HEAD + "1,20260305,1,a\n", {}),
    ],
)
def test_what_spreadsheets_do_to_a_table_changes_none_of_its_rows(
    tmp_path: Path, content: str | bytes, how: dict[str, object]
) -> None:
    pages = read(tmp_path, "costs.csv", content, **how)

    assert letters(pages) == []
    (row,) = costs(pages)
    assert (row.ref.key, row.date, row.amount, row.source) == (
        "books:1",
        date(2026, 3, 5),
        Decimal(1),
        "a",
    )


@pytest.mark.parametrize("written", ["45658", "1735689600", "260305", "-20260305", "2026"])
def test_a_bare_number_is_no_day_of_1970(tmp_path: Path, written: str) -> None:
    pages = read(tmp_path, "costs.csv", f"id,date,amount\n1,{written},1\n2,1772668800000,1\n")

    assert [letter.code for letter in letters(pages)] == ["not_a_date"]
    assert [row.date for row in costs(pages)] == [date(2026, 3, 5)]


def test_a_decimal_comma_is_one_of_numbers_and_of_nothing_else(tmp_path: Path) -> None:
    content = (
        "id;date;amount;source\n1.000;2026-03-05;1.234,50;1.234\n1000;2026-03-05;12 345,6;1,5\n"
        "3;2026-03-05;-1.234.567;10 115\n4;2026-03-05;1,234.50;x\n5;2026-03-05;1.2,5;x\n"
    )

    pages = read(tmp_path, "costs.csv", content, decimal=",")

    assert [(row.ref.key, row.amount, row.source) for row in costs(pages)] == [
        ("books:1.000", Decimal("1234.50"), "1.234"),
        ("books:1000", Decimal("12345.6"), "1,5"),
        ("books:3", Decimal(-1234567), "10 115"),
    ]
    assert [(letter.raw, letter.code) for letter in letters(pages)] == [
        ("1,234.50", "not_a_number"),
        ("1.2,5", "not_a_number"),
    ]


@pytest.mark.parametrize(
    ("lines", "kept", "swallowed"),
    [
        ('1,2026-03-05,1,"12 pipe\n2,2026-03-05,1,b\n3,2026-03-05,1,c\n', [], "2 line(s) below"),
        ('1,2026-03-05,1,"12 pipe\n2,2026-03-05,1,"b"\n3,2026-03-05,1,c\n', ["3"], "1 line(s)"),
    ],
)
def test_a_quotation_mark_nobody_closed_swallows_no_row_unseen(
    tmp_path: Path, lines: str, kept: list[str], swallowed: str
) -> None:
    pages = read(tmp_path, "costs.csv", HEAD + lines)

    assert [row.ref.native_id for row in costs(pages)] == kept
    (letter,) = letters(pages)
    assert "line 2 of costs.csv" in letter.reason
    assert swallowed in letter.reason


def test_json_objects_that_leave_out_what_is_empty_lose_nothing_of_the_others(
    tmp_path: Path,
) -> None:
    text = (
        '{"id": 0, "date": "2026-03-05", "amount": 1}\n'
        '{"ID": 2, "Date": "2026-03-05", "amount": 2, "campaign": "701A"}\n'
    )

    pages = read(
        tmp_path, "costs.jsonl", text, fields={"campaign": FieldSource("campaign", of="crm")}
    )

    assert [(row.ref.key, row.campaign) for row in costs(pages)] == [
        ("books:0", None),
        ("books:2", "crm:701A"),
    ]


def test_files_of_one_stream_may_spell_their_columns_differently(tmp_path: Path) -> None:
    (tmp_path / "costs-1.csv").write_text("id,Date,amount,source\n1,2026-03-05,1,a\n")
    (tmp_path / "costs-2.csv").write_text("SOURCE,Id,AMOUNT,date\nb,2,2,2026-03-06\n")
    connector = FilesConnector(settings(tmp_path, object="costs-*.csv"))
    (stream,) = connector.streams()

    found = costs(list(connector.pull(stream, None)))

    assert [(row.ref.key, row.amount, row.source) for row in found] == [
        ("books:1", Decimal(1), "a"),
        ("books:2", Decimal(2), "b"),
    ]


def test_data_frames_write_instants_in_nanoseconds_and_ids_with_gaps_as_floats(
    tmp_path: Path,
) -> None:
    instant = pa.array([1_772_668_800_000_000_001], pa.timestamp("ns", "UTC"))
    table = pa.table({"id": [7.0], "date": instant, "amount": [0.1], "note": [{"a": [1]}]})
    parquet.write_table(table, tmp_path / "costs.parquet")
    connector = FilesConnector(settings(tmp_path))
    (stream,) = connector.streams()

    (row,) = costs(list(connector.pull(stream, None)))

    assert (row.ref.key, row.date, row.amount) == ("books:7", date(2026, 3, 5), Decimal("0.1"))


@pytest.mark.parametrize(
    ("name", "content", "how", "words"),
    [
        ("costs.jsonl", "", {}, "holds no row"),
        ("costs.csv", (HEAD + ROW).encode(), {"encoding": "utf-16"}, "utf-16-le"),
        ("costs.csv", HEAD + ROW, {"key": '["Nummer"]'}, 'no column "Nummer" (it has: id, date'),
        ("costs.csv", 'id,"date\n', {}, "the heading of costs.csv"),
        ("costs.csv", "id,Amount,amount\n", {}, "twice"),
        ("costs.parquet", b"PAR1 and then nothing", {}, "no Parquet file"),
    ],
)
def test_a_file_nobody_can_read_says_why(
    tmp_path: Path, name: str, content: str | bytes, how: dict[str, object], words: str
) -> None:
    with pytest.raises(StreamPaused, match="What was read before stays") as caught:
        read(tmp_path, name, content, **how)

    assert words in caught.value.message


def test_what_is_missing_is_doubtful_where_lines_could_not_be_read_or_none_is_there(
    tmp_path: Path,
) -> None:
    (tmp_path / "costs.csv").write_text(HEAD + ROW + "2,2026-03-05\n")
    pull = Later(tmp_path)

    assert "1 line(s) of the files could not be read" in pull().doubt
    assert "1 line(s)" in pull().doubt, "files that nobody touched are not opened"
    assert "no row at all" in read(tmp_path, "costs.csv", HEAD)[-1].doubt
    assert read(tmp_path, "costs.csv", HEAD + "1,2026-03-05,x,a\n")[-1].doubt == ""


def test_of_a_file_that_is_written_meanwhile_nothing_is_concluded(tmp_path: Path) -> None:
    lines = "".join(f"{n},2026-03-05,1,a\n" for n in range(2_001))
    (tmp_path / "costs.csv").write_text(HEAD + lines)
    pull = Later(tmp_path)
    pages = pull.connector.pull(pull.stream, None)

    next(pages)
    with (tmp_path / "costs.csv").open("a") as written:
        written.write("x,2026-03-05,1,a\n")
    *_, last = pages

    assert not last.brought_all
    assert "changed while it was read" in last.warnings[-1]
    assert pull().brought_all
