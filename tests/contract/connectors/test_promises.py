"""The suite's promises of optional abilities fail for connectors that break them."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from connectors.contract.extras import Extras
from connectors.contract.org import Ability
from connectors.registry import connect
from tests.contract.connectors.memory_crm import MemoryOrg

LISTED = "test_all_live_records_are_listed_once_and_no_other"
FETCHED = "test_records_are_fetched_by_id_as_a_pull_brings_them"
COUNTED = "test_the_count_is_that_of_the_records_a_pull_of_everything_brings"
SHOWN = "test_objects_are_shown_with_their_fields_and_nobody_is_recognised"
OWN = "test_own_fields_are_shown_with_how_often_they_are_filled"
NAMED = "test_an_object_that_is_not_there_is_named"
GENUINE = "test_a_genuine_notification_names_the_streams_it_concerns"
FORGED = "test_a_notification_that_is_not_genuine_is_refused"
SAID = "test_what_a_connector_can_do_beside_is_said_as_it_is"

BROKEN = (
    (LISTED, "deleted records are listed"),
    (LISTED, "ids are of another connection"),
    (LISTED, "pages overlap"),
    (LISTED, "the last page is missed"),
    (LISTED, "live records are explained as gone"),
    (LISTED, "the total is that of a page"),
    (FETCHED, "all records are fetched"),
    (FETCHED, "names are not fetched"),
    (FETCHED, "what is gone is fetched empty"),
    (COUNTED, "deleted records are counted"),
    (COUNTED, "later records are counted"),
    (SHOWN, "objects are listed with their fields"),
    (SHOWN, "accounts are not listed"),
    (SHOWN, "more is filled than was looked at"),
    (SHOWN, "nothing counts as filled"),
    (SHOWN, "samples are shown in the clear"),
    (OWN, "own fields are not shown"),
    (OWN, "whatever is there counts as filled"),
    (OWN, "stages are not shown"),
    (NAMED, "every object is there"),
    (NAMED, "what is not there has no name"),
    (GENUINE, "other streams are named"),
    (GENUINE, "strange streams are named"),
    (FORGED, "everybody is believed"),
    (FORGED, "any signature will do"),
    (FORGED, "the address is not signed"),
    (FORGED, "age does not matter"),
    (FORGED, "without a secret everybody is believed"),
)
PROMISES = sorted(name for name in vars(Extras) if name.startswith("test_"))


@pytest.fixture
def org(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryOrg:
    """A CRM whose connector is installed as that of another package is."""
    told = tmp_path / "memory-1.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: memory\nVersion: 1\n")
    entry = "memory = tests.contract.connectors.memory_crm:connect"
    (told / "entry_points.txt").write_text(f"[kpisync.connectors]\n{entry}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return MemoryOrg()


def ask(org: MemoryOrg, promise: str) -> None:
    method = getattr(Extras(), promise)
    known = {"org": org, "connector": connect(org.settings())}
    method(**{name: known[name] for name in inspect.signature(method).parameters})


@pytest.mark.parametrize("promise", PROMISES)
def test_a_connector_that_keeps_them_passes(org: MemoryOrg, promise: str) -> None:
    ask(org, promise)


@pytest.mark.parametrize(("promise", "defect"), BROKEN)
def test_a_connector_that_breaks_one_fails_it(org: MemoryOrg, promise: str, defect: str) -> None:
    org.defect = defect

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        ask(org, promise)


def test_an_ability_that_is_said_to_be_lacking_though_it_is_there_fails(org: MemoryOrg) -> None:
    for ability in (Ability.IDS, Ability.COUNTS, Ability.DISCOVERY, Ability.DOORBELL):
        org.lacks = {ability: "for want of looking"}
        with pytest.raises(AssertionError):
            ask(org, SAID)


def test_every_promise_is_broken_by_somebody() -> None:
    assert {promise for promise, _ in BROKEN} | {SAID} == set(PROMISES)
