"""A seeded company over both CRMs of the sandbox has the KPIs of the same company in one CRM."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from metrics.dimensions import grouping_named, values_of
from tests.fixtures.cli import Cli
from tests.pipeline.split.both import Both, both_worlds
from tests.pipeline.split.crms import FIRST, SECOND, Seen
from tests.pipeline.split.worlds import Place, Portrait, Reader, assert_same, two_crms
from worker import pipeline
from worker.identities import decide
from worker.observe import configure_logging
from worker.results import State

pytestmark = pytest.mark.timeout(600)

MONTHS = ("month", "quarter", "year")
UNSEEN = {
    "nps_invalid": "nobody in the seeded company answers what is no whole number from 0 to 10",
    "nps_passives": "in the small one nobody answers 7 or 8",
}
"""KPIs of which the seeded company has no value in either world."""
EDITS = 300
WRITEBACKS = """
writebacks:
  account_kpis:
    to: salesforce.Account
    fields: {KPI_Revenue__c: revenue, KPI_Purchases__c: purchases}
    approve: never
  company_kpis:
    to: hubspot.companies
    fields: {kpi_revenue: revenue, kpi_purchases: purchases}
    approve: never
"""


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> None:
    configure_logging(is_quiet=True)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("divided")
    database = f"sqlite:///{folder}/kpisync.db"
    with both_worlds(folder, database, seed=3, size=24, periods=["year"]) as worlds:
        worlds.pull()
        worlds.portrait()
        yield worlds


def accounts_of(place: Place) -> set[str]:
    _, _, dimension, key = place
    grouping = grouping_named(dimension)
    named = zip(grouping, values_of(grouping, key), strict=True)
    return {value for name, value in named if name == "account"}


def customers(both: Both) -> dict[str, list[Seen]]:
    """Key of each customer -> its records, by what the two CRMs hold."""
    identities = both.union.follow()
    accounts = [it for it in both.union.company.values() if it.stream == "accounts"]
    return {
        members[0].key: members
        for members in (identities.all_of(it) for it in accounts if it.is_alive)
    }


def three_in_one(both: Both) -> tuple[str, list[Seen]]:
    """The customer who has three records: under three domains in the seeded company."""
    found = customers(both)
    return max(found.items(), key=lambda it: len(it[1]))


def test_a_company_in_two_crms_has_value_by_value_the_kpis_of_the_same_in_one(both: Both) -> None:
    key, members = three_in_one(both)

    both.compare()

    kept = {kpi.name for kpi in both.reader.runtime.catalog.kpis}
    assert both.compared > 2_000
    assert kept - {place[0] for place in both.portrait().values} == UNSEEN.keys()
    assert [it.crm for it in members] == [FIRST, SECOND, SECOND]
    assert len({it.proofs["domain"] for it in members}) == 3
    assert both.portrait().values["revenue", "all", "account", key][0]


def test_no_value_changes_when_a_crm_delivers_everything_again_in_another_order(
    both: Both,
) -> None:
    before = both.portrait()
    for connection in (SECOND, FIRST):
        streams = pipeline.stream_names(both.reader.runtime, connection)
        for stream in reversed(streams):
            result = pipeline.pull_stream(both.reader.runtime, connection, stream, full=True)
            assert (result.state, result.stored) == (State.OK, 0), result

    assert both.portrait().touched(before) == set()


def test_unlinking_and_linking_change_exactly_the_values_of_the_customers_they_touch(
    both: Both,
) -> None:
    key, members = three_in_one(both)
    apart = members[1]
    before, whole_before = both.portrait(), both.as_whole()

    # A person says that they are two; the rules are asked no more.
    decide(both.reader.runtime, key, apart.key, is_same=False)
    both.union.apart.add(frozenset((key, apart.key)))
    split, whole_split = both.portrait(), both.as_whole()
    touched = split.touched(before)
    translated = both.translated(Portrait(dict.fromkeys(touched, ())))

    assert translated.keys() == whole_split.touched(whole_before)
    assert set().union(*map(accounts_of, touched)) == {key, apart.key}
    assert_same(both.translated(split), whole_split)

    # And takes it back: together they are what they were.
    decide(both.reader.runtime, apart.key, key, is_same=None)
    both.union.apart.clear()

    assert both.portrait().touched(before) == set()

    # A changed website and a cleared id do the same, from page to page.
    fields = {"salesforceaccountid": None, "domain": "nobody-else.example"}
    both.clock.advance()
    both.divided.hubspot.edit("companies", apart.key.partition(":")[2], fields)
    both.pull()

    assert both.portrait().touched(split) == set()

    fields = {"salesforceaccountid": key.partition(":")[2][:15]}
    both.clock.advance()
    both.divided.hubspot.edit("companies", apart.key.partition(":")[2], fields)
    both.pull()

    assert both.portrait().touched(before) == set()


def test_explain_shows_the_records_of_both_crms_behind_a_customer(both: Both) -> None:
    key, members = three_in_one(both)
    value = both.portrait().values["revenue", "all", "account", key][0]
    kpisync = Cli(both.folder)

    by = f"account={members[-1].key}"
    told = kpisync("explain", "revenue", "--period", "all", "--by", by, "--json").json

    (behind,) = told["entities"]
    assert behind["entity"] == told["key"] == key
    assert [one["ref"] for one in behind["records"]] == [it.key for it in members]
    assert Decimal(told["value"]) == value
    # Its purchases stand in both CRMs, too.
    assert {one["ref"].partition(":")[0] for one in told["records"]} == {FIRST, SECOND}


def test_a_write_back_reaches_every_record_of_a_customer_in_each_crm(both: Both) -> None:
    text = both.reader.path.read_text() + WRITEBACKS
    folder = both.folder / "writing"
    folder.mkdir()
    with Reader(folder, text) as writing:
        for name in writing.runtime.writebacks:
            pipeline.setup_writeback(writing.runtime, name, dry_run=False)
        wanted = writing.publish(both.clock.now)
        for name in writing.runtime.writebacks:
            assert pipeline.push_writeback(writing.runtime, name).state is State.OK

    held = {
        **_numbers(both.divided.salesforce.snapshot()["Account"], FIRST, "KPI_Revenue__c"),
        **_numbers(both.divided.hubspot.snapshot()["companies"], SECOND, "kpi_revenue"),
    }
    expected = {
        record.key: wanted.values["revenue", "all", "account", customer][0]
        for customer, records in customers(both).items()
        for record in records
        if ("revenue", "all", "account", customer) in wanted.values
    }
    assert held == expected
    assert len({key for key in held if key.startswith(SECOND)}) > 1


def _numbers(rows: list[dict[str, object]], crm: str, name: str) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for row in rows:
        held = row["fields"]
        assert isinstance(held, dict)
        if held.get(name) is not None:
            found[f"{crm}:{row['id']}"] = Decimal(str(held[name]))
    return found


def test_after_every_kind_of_change_the_kpis_are_still_those_of_one_crm(both: Both) -> None:
    """Edits, merges in one CRM while the other changes, links, splits, deletions, refreshes."""
    kinds = len(both.happenings.everything)

    for done in range(kinds):
        both.happen()
        if done == kinds // 2:
            both.pull()
    both.compare()

    assert len(both.names) == kinds
    assert both.reader.verify(both.clock.now) > 2_000


def read_in_another_order(both: Both) -> Portrait:
    """The values of an installation that met the second CRM first, and customers last."""
    folder = both.folder / "another-order"
    folder.mkdir()
    text = two_crms(both.divided, f"sqlite:///{folder}/kpisync.db", both.periods)
    with Reader(folder, text) as anew:
        for connection in (SECOND, FIRST):
            for stream in reversed(pipeline.stream_names(anew.runtime, connection)):
                pipeline.pull_stream(anew.runtime, connection, stream)
        return anew.publish(both.clock.now)


@pytest.mark.slow
def test_a_larger_company_has_the_same_bottlenecks_in_both_worlds(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/kpisync.db"
    with both_worlds(tmp_path, database, seed=6, size=300, periods=["year"]) as worlds:
        worlds.compare()

        named = {
            str(worth[1]).partition(":")[0]
            for place, worth in worlds.portrait().values.items()
            if place[0] == "bottleneck"
        }
        assert {FIRST, SECOND} <= named


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("store", "seed"), [("sqlite", 1), ("sqlite", 2), ("sqlite", 3), ("postgres", 4)]
)
def test_after_300_random_changes_the_kpis_are_still_those_of_one_crm(
    request: pytest.FixtureRequest, tmp_path: Path, store: str, seed: int
) -> None:
    database = str(request.getfixturevalue(f"{store}_database"))
    with both_worlds(tmp_path, database, seed=seed, size=40, periods=MONTHS) as worlds:
        worlds.compare()
        assert read_in_another_order(worlds).touched(worlds.portrait()) == set()
        for done in range(1, EDITS + 1):
            worlds.happen()
            if done % 5 == 0:
                worlds.pull()
            if done % 30 == 0:
                worlds.compare()
            if done % 150 == 0:
                worlds.reader.verify(worlds.clock.now)

        assert worlds.compared > 80_000
