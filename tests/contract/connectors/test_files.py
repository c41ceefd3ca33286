"""Files in a folder: what is read, what is refused with its line, what vanishes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from pyarrow import parquet

from connectors.base import ConnectionSettings, Cursor, FieldSource, Page, StreamSettings
from connectors.errors import MustStartOver, StreamPaused
from connectors.files.connector import FilesConnector
from store.canonical import CanonicalRecord, Company, EmailStatistics, RejectedRecord

BERLIN = Company(timezone=ZoneInfo("Europe/Berlin"), currency="EUR")
COSTS = "id,date,amount,campaign\n1,2026-03-05,100.50,salesforce:701A\n2,2026-03-06,20,\n"

Pull = Callable[..., list[Page]]


@pytest.fixture
def pull(tmp_path: Path) -> Pull:
    def run(stream: str = "costs", **how: object) -> list[Page]:
        connector = FilesConnector(settings(tmp_path, stream, **how))
        (found,) = connector.streams()
        return list(connector.pull(found, None))

    return run


def settings(folder: Path, stream: str = "costs", **how: object) -> ConnectionSettings:
    fields = how.pop("fields", {})
    pattern = how.pop("object", None)
    return ConnectionSettings(
        name="books",
        type="files",
        auth={},
        company=BERLIN,
        streams={stream: StreamSettings(object=pattern, fields=fields, options=how)},  # type: ignore[arg-type]  # texts
        options={"folder": str(folder)},
    )


def rows(pages: Sequence[Page]) -> list[CanonicalRecord]:
    return [record for page in pages for record in page.records]


def letters(pages: Sequence[Page]) -> list[RejectedRecord]:
    return [letter for page in pages for letter in page.rejected]


def test_columns_that_are_headed_like_fields_map_themselves(pull: Pull, tmp_path: Path) -> None:
    (tmp_path / "costs.csv").write_text(COSTS)

    first, second = rows(pull())

    assert first.ref.key == "books:1"
    assert (first.amount, str(first.date)) == (Decimal("100.50"), "2026-03-05")
    assert (first.campaign, second.campaign) == ("books:salesforce:701A", None)


def test_a_link_may_name_the_connection_its_ids_belong_to(pull: Pull, tmp_path: Path) -> None:
    (tmp_path / "costs.csv").write_text("id,date,amount,Kampagne\n1,2026-03-05,1,701A\n")

    (row,) = rows(pull(fields={"campaign": FieldSource("Kampagne", of="salesforce")}))

    assert row.campaign == "salesforce:701A"


def test_a_table_from_a_german_spreadsheet_is_understood(pull: Pull, tmp_path: Path) -> None:
    text = "Nr;Tag;Betrag;Kategorie\n7;2026-03-05;1.234,50;Münzen\n8;2026-03-06;-3,5;\n"
    (tmp_path / "costs.csv").write_bytes(text.encode("cp1252"))
    fields = {
        "date": FieldSource("Tag"),
        "amount": FieldSource("Betrag"),
        "category": FieldSource("Kategorie"),
    }

    first, second = rows(pull(fields=fields, key='["Nr"]', decimal=","))

    assert (first.ref.key, first.amount, first.category) == (
        "books:7",
        Decimal("1234.50"),
        "Münzen",
    )
    assert second.amount == Decimal("-3.5")


def test_a_bad_line_is_set_aside_with_its_number_and_the_rest_lives(
    pull: Pull, tmp_path: Path
) -> None:
    (tmp_path / "costs.csv").write_text(
        COSTS + "3,2026-03-07\n4,2026-03-08,abc,\n5,2026-03-09,5,\n"
    )

    pages = pull()

    assert [row.ref.key for row in rows(pages)] == ["books:1", "books:2", "books:5"]
    short, word = letters(pages)
    assert (short.ref.key, short.code) == ("books:costs.csv:4", "wrong_cells")
    assert "line 4 of costs.csv has 2 cells where the heading names 4" in short.reason
    assert (word.ref.key, word.field, word.raw) == ("books:4", "amount", "abc")
    assert "line 5 of costs.csv" in word.reason


def test_quoted_line_breaks_and_marks_of_other_systems_survive(pull: Pull, tmp_path: Path) -> None:
    text = 'id,date,amount,category\r\n1,2026-03-05,1,"two\nlines, one cell"\r\n'
    (tmp_path / "costs.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())

    (row,) = rows(pull())

    assert row.category == "two\nlines, one cell"


def test_json_lines_and_parquet_are_read_as_csv_is(pull: Pull, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "date": "2026-03-05", "amount": 0.1}\nnonsense\n')
    table = pa.table({"id": [2], "date": ["2026-03-06"], "amount": [Decimal("0.20")]})
    parquet.write_table(table, tmp_path / "b.parquet")

    pages = pull(object="*")

    assert [row.amount for row in rows(pages)] == [Decimal("0.1"), Decimal("0.20")]
    assert [letter.code for letter in letters(pages)] == ["not_json"]


def test_two_rows_of_one_key_are_no_two_records(pull: Pull, tmp_path: Path) -> None:
    (tmp_path / "costs.csv").write_text(COSTS + "2,2026-03-07,9,\n,2026-03-07,9,\n")

    pages = pull()

    assert [row.ref.key for row in rows(pages)] == ["books:1", "books:2"]
    assert {letter.code for letter in letters(pages)} == {"no_key_of_its_own"}


def test_rows_without_an_id_are_known_by_their_content(pull: Pull, tmp_path: Path) -> None:
    (tmp_path / "costs.csv").write_text("date,amount\n2026-03-05,1\n2026-03-05,1\n2026-03-06,1\n")
    before = {row.ref.key for row in rows(pull())}
    (tmp_path / "costs.csv").write_text("date,amount\n2026-03-06,1\n2026-03-05,1\n2026-03-05,1\n")

    after = {row.ref.key for row in rows(pull())}

    assert len(before) == 3
    assert after == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no file in"),
        ("", "is empty"),
        ("id,date\n1,2026-03-05\n", "costs.amount"),
        ("id,date,amount,amount\n", "twice"),
    ],
)
def test_a_file_that_cannot_be_read_pauses_its_stream_and_removes_nothing(
    pull: Pull, tmp_path: Path, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "costs.csv").write_text(content)

    with pytest.raises(StreamPaused, match=words):
        pull()


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "costs.csv").write_text(COSTS)
    (folder / "costs.csv").symlink_to(tmp_path / "costs.csv")
    connector = FilesConnector(settings(folder))

    (problem,) = connector.check().problems

    assert "no file in" in problem.message


def test_pages_are_small_and_only_the_last_one_is_complete(pull: Pull, tmp_path: Path) -> None:
    lines = "".join(f"{n},2026-03-05,{n},\n" for n in range(4500))
    (tmp_path / "costs.csv").write_text("id,date,amount,campaign\n" + lines)

    pages = pull()

    assert [len(page.records) for page in pages] == [2000, 2000, 500]
    assert [page.complete_until is not None for page in pages] == [False, False, True]
    assert [page.resume_at is None for page in pages] == [True, True, False]


def test_discovery_shows_columns_and_how_many_rows_fill_them(tmp_path: Path) -> None:
    (tmp_path / "costs.csv").write_text(COSTS)
    connector = FilesConnector(settings(tmp_path))

    found = connector.discover("costs.csv")

    assert found.stream == "costs"
    assert {field.name: field.filled for field in found.fields} == {
        "id": 2,
        "date": 2,
        "amount": 2,
        "campaign": 1,
    }


def test_statistics_of_emails_keep_unknown_apart_from_zero(pull: Pull, tmp_path: Path) -> None:
    header = "email,Campaign,date,sent,delivered,opens,clicks,unsubscribes,bounces\n"
    line = "news-07,701A,2026-03-05,100,95,40,,0,5\n"
    (tmp_path / "email_statistics.csv").write_text(header + line)

    (row,) = rows(
        pull("email_statistics", fields={"campaign": FieldSource("Campaign", of="salesforce")})
    )

    assert isinstance(row, EmailStatistics)
    assert (row.email, row.campaign, str(row.date)) == ("news-07", "salesforce:701A", "2026-03-05")
    numbers = (row.sent, row.delivered, row.opens, row.clicks, row.unsubscribes, row.bounces)
    assert numbers == (100, 95, 40, None, 0, 5)


def test_files_that_are_no_snapshot_remove_nothing_even_when_all_is_read(
    pull: Pull, tmp_path: Path
) -> None:
    (tmp_path / "costs.csv").write_text(COSTS)

    (snapshot,) = pull()
    (added,) = pull(snapshot="no")

    assert snapshot.brought_all
    assert not added.brought_all


def test_encoding_and_delimiter_are_found_out_or_told(pull: Pull, tmp_path: Path) -> None:
    text = "id|date|amount|category\n1|2026-03-05|1|Křeček, „malý“\n"
    (tmp_path / "costs.csv").write_bytes(text.encode("utf-16"))
    (found,) = rows(pull())
    (tmp_path / "costs.csv").write_bytes(text.replace("|", "~").encode("cp1250"))
    (told,) = rows(pull(encoding="cp1250", delimiter="~"))

    assert found.category == told.category == "Křeček, „malý“"


def test_several_columns_together_may_be_the_key(pull: Pull, tmp_path: Path) -> None:
    lines = "shop,number,date,amount\nA,1,2026-03-05,1\nB,1,2026-03-05,2\nA,1,2026-03-06,3\n"
    (tmp_path / "costs.csv").write_text(lines)

    (page,) = pull(key='["shop", "number"]')

    assert [row.ref.key for row in page.records] == ["books:A|1", "books:B|1"]
    assert [letter.code for letter in page.rejected] == ["no_key_of_its_own"]


@pytest.mark.parametrize(
    ("stream", "table", "expected"),
    [
        ("survey_responses", "id,kind,score,submitted_at\n1,nps,9,2026-03-05T10:00:00+01:00\n",
         {"kind": "nps", "score": Decimal(9)}),
        ("contracts", "id,account,start_date,end_date,amount\n1,7,2026-01-01,2026-12-31,1200\n",
         {"account": "books:7", "amount": Decimal(1200), "end_date": date(2026, 12, 31)}),
        ("tickets", "id,subject,priority,is_closed,created_at\n1,Help,high,no,2026-03-05T10:00Z\n",
         {"priority": "high", "is_closed": False}),
        ("leads", "id,name,status,source\n1,Lead 0001,new,Fair\n", {"source": "Fair"}),
    ],
)  # fmt: skip
def test_every_kind_of_record_may_come_from_a_file(
    pull: Pull, tmp_path: Path, stream: str, table: str, expected: dict[str, object]
) -> None:
    (tmp_path / f"{stream}.csv").write_text(table)

    (row,) = rows(pull(stream))

    assert {name: getattr(row, name) for name in expected} == expected


# ---------------------------------------------------------------- files that are as they were


class Later:
    """Pulls from where the last pull ended, a minute after the files were written."""

    def __init__(self, folder: Path, stream: str = "costs", **how: object) -> None:
        self.connector = FilesConnector(
            settings(folder, stream, **how), clock=lambda: datetime.now(UTC) + timedelta(minutes=1)
        )
        (self.stream,) = self.connector.streams()
        self.cursor: Cursor | None = None

    def __call__(self) -> Page:
        *_, last = self.connector.pull(self.stream, self.cursor)
        self.cursor = last.resume_at
        return last


def test_files_that_are_as_they_were_are_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "costs.csv").write_text("id,date,amount\n1,2026-03-05,1\n2,2026-03-05,x\n")
    pull = Later(tmp_path, fields={"note": FieldSource("Note")})

    first, again = pull(), pull()

    assert [len(page.records) + len(page.rejected) for page in (first, again)] == [2, 0]
    assert first.warnings
    assert (again.warnings, again.unreadable) == (first.warnings, first.unreadable)
    assert again.complete_until is not None


@pytest.mark.parametrize("change", ["edit", "touch", "another", "gone", "replaced"])
def test_whatever_happens_to_a_file_makes_the_next_pull_read_all_of_them(
    tmp_path: Path, change: str
) -> None:
    one, two = tmp_path / "costs-1.csv", tmp_path / "costs-2.csv"
    one.write_text("id,date,amount\n1,2026-03-05,1\n")
    two.write_text("id,date,amount\n2,2026-03-05,1\n")
    pull = Later(tmp_path, object="costs-*.csv")
    pull()
    times = (one.stat().st_atime_ns, one.stat().st_mtime_ns)

    match change:
        case "edit":
            # Of the same length, and with the time it had before.
            one.write_text("id,date,amount\n1,2026-03-05,9\n")
            os.utime(one, ns=times)
        case "touch":
            one.touch()
        case "another":
            (tmp_path / "costs-3.csv").write_text("id,date,amount\n3,2026-03-05,1\n")
        case "gone":
            two.unlink()
        case _:
            copy = tmp_path / "copy"
            copy.write_text("id,date,amount\n1,2026-03-05,9\n")
            os.utime(copy, ns=times)
            copy.rename(one)

    with pytest.raises(MustStartOver):
        pull()


def test_a_file_that_was_written_just_now_is_read_once_more(tmp_path: Path) -> None:
    (tmp_path / "costs.csv").write_text(COSTS)
    connector = FilesConnector(settings(tmp_path))
    (stream,) = connector.streams()
    (page,) = connector.pull(stream, None)

    with pytest.raises(MustStartOver):
        list(connector.pull(stream, page.resume_at))


def test_files_that_only_add_rows_are_read_without_looking_for_what_is_gone(
    tmp_path: Path,
) -> None:
    (tmp_path / "costs.csv").write_text(COSTS)
    pull = Later(tmp_path, snapshot="no")
    pull()
    (tmp_path / "costs.csv").write_text("id,date,amount\n9,2026-03-05,1\n")

    page = pull()

    assert [row.ref.key for row in page.records] == ["books:9"]
    assert not page.brought_all


def test_without_the_extra_for_parquet_the_stream_pauses_and_says_what_to_install(
    pull: Pull, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet.write_table(pa.table({"id": [2]}), tmp_path / "costs.parquet")
    # What an import finds on a machine without it.
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(StreamPaused, match=r"needs the extra.*pip install 'kpisync\[parquet\]'"):
        pull()
