"""The metrics table in other databases: the same rows, whatever happened on the way."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from store import sinks
from store.engine import open_store, operating, reading
from store.tables import KPI_VALUES
from tests.pipeline.worker.computed import computed_company, copy_of
from tests.pipeline.worker.site import Site
from worker import pipeline
from worker.results import RunResult, State

HISTORY = "sinks: {{bi: {{type: {kind}, url: '{url}'{more}}}}}\n"


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with computed_company(tmp_path_factory.mktemp("company")) as site:
        yield site


@pytest.fixture
def computed_site(company: Site, tmp_path: Path) -> Site:
    return copy_of(company, tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def bi(request: pytest.FixtureRequest, computed_site: Site, tmp_path: Path) -> Site:
    """The site with an empty database of the other kind as its sink."""
    kind = request.param
    if kind == "sqlite":
        url, more = f"sqlite:///{tmp_path}/bi.db", ""
    else:
        url, more = request.getfixturevalue("postgres_database"), ", schema: kpi"
    return with_sink(computed_site, kind, url, more)


@pytest.fixture
def file_bi(computed_site: Site, tmp_path: Path) -> Site:
    """The site with an empty SQLite file as its sink."""
    return with_sink(computed_site, "sqlite", f"sqlite:///{tmp_path}/bi.db")


def with_sink(site: Site, kind: str, url: str, more: str = "") -> Site:
    return site.but(more=HISTORY.format(kind=kind, url=url, more=more))


def sync(site: Site, **how: Any) -> RunResult:
    with site.runtime() as runtime:
        return pipeline.sync_sink(runtime, "bi", **how)


def rows_of_store(site: Site, *, is_current: bool = False) -> list[dict[str, object]]:
    query = KPI_VALUES.select().order_by(KPI_VALUES.c.id)
    if is_current:
        query = query.where(KPI_VALUES.c.valid_to.is_(None))
    with site.runtime() as runtime, reading(runtime.engine) as conn:
        return [dict(row) for row in conn.execute(query).mappings()]


def rows_of_sink(site: Site) -> list[dict[str, object]]:
    section = site.config().sinks["bi"]
    table = sinks.table_of(section.table, section.schema_name)
    engine = open_store(section.url)
    try:
        with reading(engine) as conn:
            rows = conn.execute(table.select().order_by(table.c.id)).mappings()
            return [dict(row) for row in rows]
    finally:
        engine.dispose()


def move_amounts(site: Site, by: int) -> None:
    crm = site.sandbox.salesforce
    for deal in crm.snapshot()["Opportunity"]:
        amount = deal["fields"]["Amount"]  # type: ignore[index]
        crm.edit("Opportunity", str(deal["id"]), {"Amount": amount + by})
    site.pull_all("salesforce")
    site.compute()


def test_a_sink_holds_every_row_and_then_only_what_changed_is_copied(bi: Site) -> None:
    first = sync(bi)
    nothing = sync(bi)
    move_amounts(bi, 7)
    later = sync(bi)

    assert (first.state, nothing.sent) == (State.OK, 0)
    assert first.sent == len([row for row in rows_of_store(bi) if row["run"] == first_run(bi)])
    assert 0 < later.sent < 3 * first.sent
    assert rows_of_sink(bi) == rows_of_store(bi)
    assert any(row["valid_to"] is not None for row in rows_of_sink(bi))


def first_run(site: Site) -> object:
    return rows_of_store(site)[0]["run"]


def test_current_values_alone_where_nobody_wants_history(file_bi: Site) -> None:
    current = file_bi.but(more=file_bi.more.replace("}}", ", history: current}}"))
    sync(current)
    move_amounts(current, 7)

    sync(current)

    assert rows_of_sink(current) == rows_of_store(current, is_current=True)


def test_names_that_change_and_values_that_end_arrive_too(file_bi: Site) -> None:
    sync(file_bi)
    crm = file_bi.sandbox.salesforce
    account = crm.snapshot()["Account"][0]
    crm.edit("Account", str(account["id"]), {"Name": "Renamed"})
    file_bi.pull_all("salesforce")
    fewer = _Monthly(**file_bi.__dict__)
    fewer.compute()

    sync(fewer)

    assert rows_of_sink(fewer) == rows_of_store(fewer)
    assert any(row["label"] == "Renamed" for row in rows_of_sink(fewer))
    ended = [row for row in rows_of_sink(fewer) if row["period"] == "2026"]
    assert ended
    assert all(row["valid_to"] is not None for row in ended)


class _Monthly(Site):
    """The site after somebody has taken the years out of the configuration."""

    def text(self) -> str:
        return super().text().replace("periods: [year]", "periods: [month]")


def test_a_copy_that_was_cut_off_anywhere_ends_in_the_same_rows(bi: Site) -> None:
    sync(bi)
    move_amounts(bi, 7)
    with bi.runtime() as runtime, reading(runtime.engine) as conn:
        before = sinks.position_of(conn, "bi")
    assert before is not None
    sync(bi)
    # The sink has committed, and the process died before it could remember that.
    with bi.runtime() as runtime, operating(runtime.engine) as conn:
        sinks.set_position(
            conn,
            "bi",
            fingerprint=before.fingerprint,
            last_id=before.last_id,
            computed=before.computed,
        )

    again = sync(bi)

    assert again.state is State.OK
    assert rows_of_sink(bi) == rows_of_store(bi)


def test_a_sink_that_was_emptied_or_fell_back_is_filled_again(file_bi: Site) -> None:
    sync(file_bi)
    section = file_bi.config().sinks["bi"]
    table = sinks.table_of(section.table, section.schema_name)
    engine = open_store(section.url)
    with operating(engine) as conn:
        conn.execute(table.delete())
    emptied = sync(file_bi)
    move_amounts(file_bi, 7)
    with operating(engine) as conn:
        conn.execute(table.delete().where(table.c.valid_to.is_(None)))
    engine.dispose()

    sync(file_bi)

    assert emptied.sent > 0
    assert rows_of_sink(file_bi)[-1] == rows_of_store(file_bi)[-1]
    current = [row for row in rows_of_sink(file_bi) if row["valid_to"] is None]
    assert current == rows_of_store(file_bi, is_current=True)


def test_a_table_of_an_older_version_is_extended_and_foreign_columns_stay(
    computed_site: Site, tmp_path: Path
) -> None:
    path = tmp_path / "bi.db"
    with sqlite3.connect(path) as there:
        there.execute("CREATE TABLE kpi_values (kpi TEXT, period TEXT, note TEXT DEFAULT 'ours')")
    there.close()
    site = with_sink(computed_site, "sqlite", f"sqlite:///{path}")

    sync(site)

    with sqlite3.connect(path) as there:
        columns = [row[1] for row in there.execute("PRAGMA table_info(kpi_values)")]
        notes = {row[0] for row in there.execute("SELECT note FROM kpi_values")}
    there.close()
    assert columns[:3] == ["kpi", "period", "note"]
    assert set(columns) >= {column.name for column in KPI_VALUES.columns}
    assert notes == {"ours"}


def test_what_a_former_store_left_is_closed_not_taken_for_current(
    file_bi: Site, tmp_path: Path
) -> None:
    sync(file_bi)
    anew = replace(file_bi, database=f"sqlite:///{tmp_path}/anew.db")
    crm = anew.sandbox.salesforce
    crm.edit("Opportunity", str(crm.snapshot()["Opportunity"][0]["id"]), {"Amount": 4321})
    anew.pull_all("salesforce")
    anew.compute()

    sync(anew)

    current = [row for row in rows_of_sink(anew) if row["valid_to"] is None]
    assert [_said(row) for row in current] == [
        _said(row) for row in rows_of_store(anew, is_current=True)
    ]


def _said(row: dict[str, object]) -> tuple[object, ...]:
    return tuple(row[name] for name in ("kpi", "period", "dimension", "key", "value"))


def test_a_sink_that_is_away_fails_visibly_and_stops_nothing_else(computed_site: Site) -> None:
    site = with_sink(
        computed_site, "postgres", "postgresql://nobody:geheim@127.0.0.1:9/bi", ", every: 1h"
    )

    outcome = site.full_pass()

    broken = outcome.results[-1]
    assert broken.state is State.FAILED
    assert "sinks.bi: database bi on 127.0.0.1:9: no connection" in str(broken.error)
    assert "geheim" not in str(broken.error)
    assert outcome.exit_code == 4
    assert any(result.sent for result in outcome.results)


def test_a_user_who_may_not_create_tables_is_told_so(
    computed_site: Site, postgres_database: str
) -> None:
    with psycopg.connect(postgres_database, autocommit=True) as there:
        there.execute("DROP ROLE IF EXISTS reader")
        there.execute("CREATE ROLE reader LOGIN")
        there.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        address = there.info
        url = f"postgresql://reader@{address.host}:{address.port}/{address.dbname}"
    site = with_sink(computed_site, "postgres", url)

    refused = sync(site)

    assert refused.state is State.FAILED
    assert "permission denied" in str(refused.error)
    assert 'the table "kpi_values"' in str(refused.error)


def test_a_schema_of_its_own_is_all_that_a_user_needs(
    computed_site: Site, postgres_database: str
) -> None:
    with psycopg.connect(postgres_database, autocommit=True) as there:
        there.execute("DROP ROLE IF EXISTS dashboards")
        there.execute("CREATE ROLE dashboards LOGIN")
        there.execute("CREATE SCHEMA kpi AUTHORIZATION dashboards")
        address = there.info
        url = f"postgresql://dashboards@{address.host}:{address.port}/{address.dbname}"
    site = with_sink(computed_site, "postgres", url, ", schema: kpi")

    copied = sync(site)

    assert (copied.state, copied.error) == (State.OK, None)
    assert copied.sent > 0


def test_a_first_copy_of_many_rows_goes_in_portions(
    file_bi: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.sinks._ROWS", 7)

    sync(file_bi)

    assert rows_of_sink(file_bi) == rows_of_store(file_bi)
