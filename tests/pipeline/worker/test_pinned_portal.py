"""A token of another HubSpot portal behind the name of a connection: nothing is read or written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.cli import Cli
from tests.fixtures.sandboxes import Sandbox, launch
from tests.pipeline.worker.site import Site
from worker.results import State

OTHER_TOKEN = "pat-na1-of-another-portal"
OTHER_PORTAL = 1234567
SMALL = ("--seed", "3", "--size", "8", "--today", "2026-06-30", "--split", "hubspot")


@pytest.fixture
def pulled(tmp_path: Path) -> Iterator[Site]:
    """An installation that has read a portal and written to it."""
    with launch(*SMALL) as sandbox:
        site = Site(tmp_path, sandbox, f"sqlite:///{tmp_path}/kpisync.db", crms=("hubspot",))
        site.with_fields().path  # noqa: B018 - writes the file
        Cli(tmp_path)("check", "--online")
        assert not (tmp_path / "kpisync.db").exists(), "looking creates no database"
        assert site.full_pass().exit_code == 0
        yield site


def swapped(sandbox: Sandbox) -> dict[str, str]:
    """Another portal's token stands where the first one's stood."""
    crm = sandbox.hubspot
    crm.settings(tokens=[OTHER_TOKEN], portal_id=OTHER_PORTAL)
    companies = [str(one["id"]) for one in crm.snapshot()["companies"]]
    crm.edit("companies", companies, {"name": "Somebody else's", "kpi_revenue": None})
    crm.forget()
    return {"HS_TOKEN": OTHER_TOKEN}


def test_a_token_swapped_for_another_portals_reads_and_writes_nothing_until_a_person_says_so(
    pulled: Site,
) -> None:
    crm = pulled.sandbox.hubspot
    before = pulled.stored()
    elsewhere = pulled.but(environment=swapped(pulled.sandbox))
    elsewhere.path  # noqa: B018 - writes the file
    kpisync = Cli(pulled.folder, dict(elsewhere.environment))

    refused = elsewhere.full_pass()
    pushed = elsewhere.push("company_kpis")
    asked = {str(one["path"]) for one in crm.requests()}
    checked = kpisync("check", "--online", expect_exit=1)

    streams = [one for one in refused.results if one.connection == "hubspot" and one.stream]
    assert {one.state for one in streams} == {pushed.state} == {State.FAILED}
    for one in (*streams, pushed):
        assert f"came from org 7654321, but the credentials lead to org {OTHER_PORTAL}" in str(
            one.error
        )
        assert "kpisync state reset hubspot --org" in str(one.error)
    assert asked == {"/account-info/v3/details"}
    assert crm.journal() == []
    assert pulled.stored() == before
    assert f"lead to org {OTHER_PORTAL}" in checked.err
    assert "kpisync state reset hubspot --org" in checked.err

    kpisync("state", "reset", "hubspot", "--org")
    after = elsewhere.full_pass()

    assert {one.state for one in after.results if one.stream} == {State.OK}
    names = {getattr(one, "name", None) for one in elsewhere.stored()["accounts"]}
    assert "Somebody else's" in names
    assert crm.journal() != []
    kpisync("check", "--online")
