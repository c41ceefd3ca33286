"""Streams that the configuration names no more: kept, listed, never counted twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from config.loader import load
from store import records
from store.engine import reading
from tests.pipeline.worker.site import Site
from worker import leftovers, pipeline
from worker.results import RunResult, State
from worker.runtime import Runtime, open_runtime
from worker.status import gather

RENAMED = ((" salesforce:", " salesforce2:"), ("to: salesforce.", "to: salesforce2."))


@contextmanager
def edited(site: Site, *changes: tuple[str, str]) -> Iterator[Runtime]:
    """The installation after somebody has edited its file."""
    path = site.path
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    with open_runtime(load(path, dict(site.environment))) as runtime:
        yield runtime


def pulled(runtime: Runtime, connection: str) -> RunResult:
    return pipeline.pull_stream(runtime, connection, "accounts")


def counted(runtime: Runtime) -> int:
    with reading(runtime.engine) as conn:
        return records.count(conn, "accounts")


def test_an_org_that_is_read_under_a_new_name_does_not_count_twice(empty_site: Site) -> None:
    accounts = [{"Name": f"Account {n:04d}"} for n in range(30)]
    empty_site.sandbox.salesforce.create_many("Account", accounts)
    empty_site.pull("salesforce", "accounts")

    with edited(empty_site, *RENAMED) as renamed:
        refused = pulled(renamed, "salesforce2")
        seen = gather(renamed)
        stored_meanwhile = counted(renamed)
        gone = leftovers.forget(renamed, "salesforce")
        pulled_anew = pulled(renamed, "salesforce2")
        stored = counted(renamed)
        told = gather(renamed).sentences

    assert refused.state is State.FAILED
    assert "stored already, as those of the connection salesforce" in str(refused.error)
    assert "kpisync state forget salesforce" in str(refused.error)
    assert stored_meanwhile == 30
    assert "salesforce" not in {one.connection for one in seen.streams}
    assert any("stored records (accounts 30) stay and count" in one for one in seen.sentences)
    assert (gone, pulled_anew.state, pulled_anew.stored, stored) == (30, State.OK, 30, 30)
    assert not any("forget" in one for one in told)


def test_a_stream_that_is_taken_out_is_listed_and_never_late(empty_site: Site) -> None:
    empty_site.sandbox.salesforce.create_many("Account", [{"Name": "Account 0001"}])
    empty_site.pull("salesforce", "accounts")

    with edited(empty_site, ("{accounts: {}", "{contacts: {}")) as runtime:
        seen = gather(runtime)

    assert ("salesforce", "accounts") not in {(one.connection, one.stream) for one in seen.streams}
    assert any("salesforce.accounts: not in the configuration" in one for one in seen.sentences)


def test_kpis_that_are_left_out_of_the_configuration_are_listed_and_keep_their_past(
    empty_site: Site,
) -> None:
    empty_site.pull("salesforce", "accounts")
    empty_site.compute()

    with edited(empty_site, ("customer], ", "customer], skip: [avg_deal_value], ")) as runtime:
        pipeline.compute(runtime)
        told = [one for one in gather(runtime).sentences if "avg_deal_value" in one]
    with edited(empty_site) as runtime:
        told_again = [one for one in gather(runtime).sentences if "avg_deal_value" in one]

    assert len(told) == 1
    assert told[0].startswith("not in the configuration any more: avg_deal_value; ")
    assert told_again == []
