"""What 10,000 changed deals cost in calls, as `kpisync runs show` prints it."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import pytest

from tests.fixtures.cli import Cli
from tests.fixtures.sandboxes import launch
from tests.pipeline.worker.site import Site
from worker.observe import configure_logging

CHANGED = 10_000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_10_000_changed_deals_with_their_links_cost_hardly_more_calls_than_they_must(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(is_quiet=True)
    with launch() as sandbox:
        database = f"sqlite:///{tmp_path}/kpisync.db"
        site = Site(tmp_path, sandbox, database, crms=("hubspot",)).with_fields()
        crm = sandbox.hubspot
        crm.settings(burst=1_000_000, search_per_second=1_000)
        company = crm.create("companies", {"name": "C"})
        contact = crm.create("contacts", {"email": "p@x.example"})
        deals = crm.create_many("deals", [{"dealname": "D", "amount": "1"}] * CHANGED)
        crm.edit("deals", deals, {"dealstage": "contractsent"})
        crm.associate("companies", company, "deals", deals, primary=True)
        crm.associate("contacts", contact, "deals", deals)
        crm.clock(advance=86_400)
        site.pull_all("hubspot")
        crm.clock(advance=43_200)
        crm.edit("deals", deals, {"dealstage": "closedwon"})
        crm.clock(advance=3_600)
        crm.forget()

        pulled = site.pull("hubspot", "deals")

        asked = len(crm.requests())
        run = str(pulled.run)
        shown = Cli(tmp_path)("--json", "--config", str(site.path), "runs", "show", run).json

    # Searches of 200; values of 50, for their history comes along; links of 1,000, to two objects.
    least = ceil(CHANGED / 200) + ceil(CHANGED / 50) + 2 * ceil(CHANGED / 1_000)
    with capsys.disabled():
        print(f"\n{shown['calls']} calls, {shown['minimum_calls']} at least, {least} in theory")  # noqa: T201 - figures to quote
    assert pulled.stored >= CHANGED
    assert asked == shown["calls"]
    assert least <= shown["minimum_calls"] <= shown["calls"] <= 1.15 * least
