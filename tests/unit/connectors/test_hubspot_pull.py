"""Cursors lead back to where they were made."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from connectors.base import Cursor
from connectors.errors import MisconfiguredConnection
from connectors.hubspot.cursor import WINDOW, Position, position_of

POSITION = Position(
    phase=WINDOW,
    until=datetime(2026, 11, 22, 3, tzinfo=UTC),
    since=datetime(1970, 1, 1, tzinfo=UTC),
    after="77",
    swept_at=datetime(2026, 11, 21, 3, tzinfo=UTC),
    archived=("1", "2"),
    archive_read_at=datetime(2026, 11, 22, 2, tzinfo=UTC),
    archive_pages=3,
    unsettled=("3",),
)


def test_a_cursor_leads_back_to_its_position() -> None:
    assert position_of("web", POSITION.as_cursor()) == POSITION


@pytest.mark.parametrize("text", ["", "{}", "[]", "7", '{"phase":"list","until":"soon"}'])
def test_a_cursor_of_somebody_else_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(MisconfiguredConnection, match="state reset"):
        position_of("web", Cursor(text))
