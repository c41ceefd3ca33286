from __future__ import annotations

from pathlib import Path

from metrics.catalog.document import reasons_without_meaning, render

PAGE = Path(__file__).parents[3] / "docs" / "kpis.md"


def test_the_page_of_kpis_is_what_the_definitions_say() -> None:
    written = PAGE.read_text(encoding="utf-8")

    assert written == render(), "run `make docs`"


def test_every_reason_for_leaving_records_out_is_explained() -> None:
    assert reasons_without_meaning() == []
