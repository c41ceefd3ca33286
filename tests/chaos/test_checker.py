"""The checker is worth something: each planted fault is seen by the check of its promise."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hubspot import HubSpot

from tests.chaos import checker
from tests.chaos.checker import Look
from tests.chaos.people import SPOILT
from tests.chaos.samples import behind


@pytest.fixture
def database(calm: Look) -> Iterator[Path]:
    """The database file, put back as it was afterwards."""
    path = calm.cli.folder / "kpisync.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    yield path
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    path.write_bytes(before)


def plant(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as conn, conn:
        assert conn.execute(statement).rowcount > 0


def test_nothing_is_found_where_nothing_is_wrong(calm: Look) -> None:
    assert checker.findings(calm) == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("DELETE FROM deals WHERE ref = (SELECT min(ref) FROM deals)", "not in the store"),
        ("UPDATE deals SET amount = 424242 WHERE ref = (SELECT min(ref) FROM deals)", ".amount is"),
        ("UPDATE accounts SET name = 'x' WHERE ref = (SELECT max(ref) FROM accounts)", ".name is"),
        (
            "UPDATE deals SET ref = 'hubspot:1' WHERE ref = (SELECT max(ref) FROM deals)",
            "not in the CRM",
        ),
    ],
)
def test_a_store_that_differs_from_the_crms_is_seen(
    calm: Look, database: Path, fault: str, words: str
) -> None:
    plant(database, fault)

    assert any(words in one for one in checker.store_equals_the_crms(calm))


def test_a_value_that_is_off_by_a_little_is_seen(calm: Look, database: Path) -> None:
    plant(
        database,
        "UPDATE kpi_values SET value = '1.0001' WHERE id = (SELECT max(id) FROM kpi_values"
        " WHERE kpi = 'won_count' AND valid_to IS NULL)",
    )

    assert any(one.startswith("I3") for one in checker.values_equal_a_recomputation(calm))


def test_a_field_that_holds_another_value_is_seen(calm: Look, database: Path) -> None:
    plant(
        database,
        "UPDATE kpi_values SET value = '77' WHERE kpi = 'revenue' AND dimension = 'account'"
        " AND period = 'all' AND valid_to IS NULL",
    )

    assert any(one.startswith("I5") for one in checker.fields_equal_the_values(calm))


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            "UPDATE runs SET state = 'running' WHERE run = (SELECT max(run) FROM runs)",
            "never ended",
        ),
        ("UPDATE runs SET stored = stored + 1 WHERE kind = 'pull'", "do not add up"),
    ],
)
def test_a_run_without_an_end_or_with_wrong_counts_is_seen(
    calm: Look, database: Path, statement: str, words: str
) -> None:
    plant(database, statement)

    assert any(words in one for one in checker.runs_add_up(calm))


def test_a_secret_in_a_file_is_seen(calm: Look) -> None:
    leak = calm.cli.folder / "debug.log"
    leak.write_text(f"token: {calm.secrets[1]}")

    found = list(checker.no_secret_anywhere(calm))
    leak.unlink()

    assert found == ["I12: a secret stands in debug.log"]


def test_writes_that_nobody_asked_for_are_seen(calm: Look) -> None:
    company = calm.sandbox.hubspot.snapshot()["companies"][0]
    fields = company["fields"]
    assert isinstance(fields, dict)
    client = HubSpot(access_token=calm.secrets[1], host=calm.sandbox.hubspot.url)
    for name, value in (("kpi_revenue", fields["kpi_revenue"] or "0"), ("phone", "1")):
        client.crm.companies.basic_api.update(company["id"], {"properties": {name: value}})

    redundant = list(checker.no_redundant_write(calm))
    unasked = list(checker.nothing_else_was_written(calm))
    calm.sandbox.hubspot.forget()

    assert any("1 redundant" in one for one in redundant)
    assert list(checker.no_redundant_write(replace(calm, lost_answers=1))) == []
    assert any("companies.phone was written" in one for one in unasked)


def test_an_unreadable_record_without_a_letter_and_a_letter_without_one_are_seen(
    calm: Look, database: Path
) -> None:
    crm = calm.sandbox.hubspot
    deal = crm.snapshot()["deals"][0]
    crm.edit("deals", str(deal["id"]), {"amount": SPOILT})
    unlisted = list(checker.unreadable_records_are_listed(calm))
    fields = deal["fields"]
    assert isinstance(fields, dict)
    crm.edit("deals", str(deal["id"]), {"amount": fields["amount"]})
    plant(
        database,
        "INSERT INTO dead_letters (ref, connection, stream, direction, field, reason, code,"
        " attempts, first_seen, last_seen) SELECT ref, 'hubspot', 'deals', 'pull', 'amount', 'x',"
        " 'x', 1, '2026-01-01T00:00:00.000000+00:00', '2026-01-01T00:00:00.000000+00:00'"
        " FROM deals WHERE ref = (SELECT max(ref) FROM deals)",
    )
    unfounded = list(checker.unreadable_records_are_listed(calm))

    assert any("has no dead letter" in one for one in unlisted)
    assert any("can be read and has a dead letter" in one for one in unfounded)


def test_an_older_value_over_a_newer_one_is_seen() -> None:
    history = [Decimal(5), Decimal(7), Decimal("7.125")]

    def went_back(*written: str) -> bool:
        return bool(list(checker.went_back("A1.f", [Decimal(one) for one in written], history)))

    assert not went_back("5", "7", "7.13")
    assert not went_back("7", "7", "7.125")
    assert went_back("7", "5")
    assert went_back("7.13", "7")
    assert went_back("6")


def test_too_many_calls_in_a_window_are_seen() -> None:
    begin = datetime(2026, 6, 30, 12, tzinfo=UTC)
    calls = [begin + timedelta(milliseconds=200 * n) for n in range(10)]

    assert checker.busiest(calls, timedelta(seconds=1)) == 5
    assert checker.busiest([*calls, calls[3]], timedelta(seconds=1)) == 6
    assert checker.busiest([], timedelta(seconds=1)) == 0


def test_a_store_behind_its_checkpoint_is_seen() -> None:
    edge = datetime(2026, 6, 30, 12, tzinfo=UTC)
    sooner, later = edge - timedelta(minutes=1), edge + timedelta(minutes=1)

    def found(modified: datetime, stored: dict[str, int | None]) -> list[str]:
        one = {"modified": modified.isoformat(), "deleted": None, "merged_into": None}
        return list(behind("deals", {"salesforce:1": one}, stored, edge))

    stamp = int(sooner.timestamp() * 1_000_000)
    assert found(later, {}) == []
    assert found(sooner, {"salesforce:1": stamp}) == []
    assert any("is not in the store" in one for one in found(sooner, {}))
    assert any("is older in the store" in one for one in found(sooner, {"salesforce:1": stamp - 1}))


def test_a_cycle_that_still_does_something_is_seen(calm: Look) -> None:
    account = calm.sandbox.salesforce.snapshot()["Account"][0]
    calm.sandbox.salesforce.edit("Account", str(account["id"]), {"Name": "Edited in the meantime"})

    assert any(one.startswith("I7") for one in checker.quiet_stays_quiet(calm))
