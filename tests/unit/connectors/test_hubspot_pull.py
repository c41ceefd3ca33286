"""Cursors lead back to where they were made."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from connectors.base import Cursor
from connectors.errors import MisconfiguredConnection
from connectors.hubspot.mapping import Pipelines
from connectors.hubspot.pull import WINDOW, Position, choose, position_of

POSITION = Position(
    phase=WINDOW,
    until=datetime(2026, 11, 22, 3, tzinfo=UTC),
    since=datetime(1970, 1, 1, tzinfo=UTC),
    after="77",
    archived=("1", "2"),
    unsettled=("3",),
)


def test_a_cursor_leads_back_to_its_position() -> None:
    assert position_of("web", POSITION.as_cursor()) == POSITION


@pytest.mark.parametrize("text", ["", "{}", "[]", "7", '{"phase":"list","until":"soon"}'])
def test_a_cursor_of_somebody_else_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(MisconfiguredConnection, match="state reset"):
        position_of("web", Cursor(text))


def test_pipelines_are_chosen_by_label_or_id() -> None:
    pipelines = Pipelines({}, {"1": "Web shop", "2": "Partners"})

    assert choose("web", "deals", ["Web shop", "2"], pipelines) == {"1", "2"}


def test_a_pipeline_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(MisconfiguredConnection, match=r'no pipeline "Shop".*"Web shop"'):
        choose("web", "deals", ["Shop"], Pipelines({}, {"1": "Web shop"}))
