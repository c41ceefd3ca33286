"""Checkpoints, pinned orgs and pauses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from store import checkpoints
from store.checkpoints import Checkpoint
from store.engine import database_now, operating, reading, writing
from store.errors import OrgPinned

FULL = Checkpoint(
    connection="salesforce",
    stream="deals",
    cursor='{"at": "2026-03-01T12:00:00.123456Z", "id": "006…"}',
    complete_until=datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC),
    is_full_pull_running=True,
    last_attempt=datetime(2026, 3, 1, 12, tzinfo=UTC),
    last_success=datetime(9999, 12, 31, tzinfo=UTC),
    last_full=datetime(1700, 1, 1, tzinfo=UTC),
    state="ok",
    error="nothing",
    strikes=2,
)


def test_a_stream_never_pulled_waits_at_its_beginning(store: Engine) -> None:
    with reading(store) as conn:
        checkpoint = checkpoints.load(conn, "salesforce", "deals")

    assert Checkpoint(connection="salesforce", stream="deals") == checkpoint
    assert checkpoint.state == "waiting"


def test_a_checkpoint_comes_back_as_it_was_saved_and_replaced(store: Engine) -> None:
    later = replace(FULL, cursor="later", is_full_pull_running=False, error=None, strikes=0)

    with writing(store) as conn:
        checkpoints.save(conn, FULL)
        assert checkpoints.load(conn, "salesforce", "deals") == FULL
        checkpoints.save(conn, later)
        checkpoints.save(conn, replace(FULL, stream="accounts"))

    with reading(store) as conn:
        assert [replace(FULL, stream="accounts"), later] == checkpoints.every(conn)


def test_a_checkpoint_goes_with_its_transaction(store: Engine) -> None:
    def fail_after_saving() -> None:
        with writing(store) as conn:
            checkpoints.save(conn, FULL)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_saving()

    with reading(store) as conn:
        assert checkpoints.every(conn) == []


def test_a_reset_stream_begins_again(store: Engine) -> None:
    with writing(store) as conn:
        checkpoints.save(conn, FULL)
        checkpoints.save(conn, replace(FULL, stream="accounts"))
        checkpoints.reset(conn, "salesforce", "deals")

    with reading(store) as conn:
        assert [checkpoint.stream for checkpoint in checkpoints.every(conn)] == ["accounts"]


def test_a_connection_belongs_to_the_org_of_its_first_contact(store: Engine) -> None:
    with operating(store) as conn:
        checkpoints.pin_org(conn, "salesforce", "00D-one")
        checkpoints.pin_org(conn, "salesforce", "00D-one")
        checkpoints.pin_org(conn, "hubspot", "42")
    words = r"00D-one.*00D-two.*state reset salesforce"
    with pytest.raises(OrgPinned, match=words), operating(store) as conn:
        checkpoints.pin_org(conn, "salesforce", "00D-two")
    with operating(store) as conn:
        assert checkpoints.pinned_org(conn, "salesforce") == "00D-one"
        checkpoints.unpin_org(conn, "salesforce")
        checkpoints.pin_org(conn, "salesforce", "00D-two")

    with reading(store) as conn:
        assert checkpoints.pinned_org(conn, "salesforce") == "00D-two"


def test_a_pause_lasts_until_its_instant_or_until_resumed(store: Engine) -> None:
    with operating(store) as conn:
        now = database_now(conn)
        checkpoints.pause(conn, "salesforce", now + timedelta(hours=1), "quota used up")
        checkpoints.pause(conn, "hubspot", now - timedelta(seconds=1), "over")

    with reading(store) as conn:
        paused = checkpoints.paused(conn, "salesforce")
        assert (now + timedelta(hours=1), "quota used up") == paused
        assert checkpoints.paused(conn, "hubspot") is None
        assert checkpoints.paused(conn, "unknown") is None
    with operating(store) as conn:
        checkpoints.resume(conn, "salesforce")
        assert checkpoints.paused(conn, "salesforce") is None
