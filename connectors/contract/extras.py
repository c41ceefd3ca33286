"""Promises of what a connector may do beside the seam: list, count, show, and be rung."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from connectors.base import (
    ConnectionSettings,
    Connector,
    CountsRecords,
    DiscoveredObject,
    Discovers,
    Doorbell,
    IdPage,
    ListsIds,
    WebRequest,
)
from connectors.contract.copies import Copy, stream_of
from connectors.contract.org import Ability, Org
from connectors.contract.part import NOT_SHOWN, Part, needs
from connectors.errors import MisconfiguredConnection, RequestRefused
from connectors.registry import connect
from store.canonical import RecordRef

_EXTRAS: Final[Mapping[Ability, type]] = {
    Ability.IDS: ListsIds,
    Ability.COUNTS: CountsRecords,
    Ability.DISCOVERY: Discovers,
    Ability.DOORBELL: Doorbell,
}


class Extras(Part):
    """What makes reconciling cheap, losses visible, mapping easy and pulls early."""

    def test_what_a_connector_can_do_beside_is_said_as_it_is(
        self, org: Org, connector: Connector
    ) -> None:
        can = {ability: isinstance(connector, kind) for ability, kind in _EXTRAS.items()}

        assert can == {ability: ability not in org.lacks for ability in _EXTRAS}

    # ------------------------------------------------------------ ids

    @needs(Ability.IDS)
    def test_all_live_records_are_listed_once_and_no_other(
        self, org: Org, connector: Connector
    ) -> None:
        names = [f"Account {number:04}" for number in range(230)]
        gone: set[str] = set()
        deleted, erased, *_ = org.add_accounts(names)
        if Ability.DELETIONS not in org.lacks:
            org.delete_account(deleted)
            gone.add(deleted)
        if Ability.ERASURES not in org.lacks:
            org.erase_account(erased)
            gone.add(erased)
        org.later(60)
        copy = Copy()
        copy.pull(connector, "accounts")

        pages = list(_ids(connector, "accounts"))

        listed = [ref for page in pages for ref in page.refs]
        assert len(listed) == len(set(listed)), "an id comes twice"
        assert {ref.native_id for ref in listed} == set(copy.live)
        assert gone.isdisjoint(ref.native_id for ref in listed), "a record that is gone is listed"
        assert {(ref.connection, ref.stream) for ref in listed} == {(org.name, "accounts")}
        explained = {ref for page in pages for ref in page.explained}
        assert explained.isdisjoint(listed), "a record is live and explained as gone"
        assert {page.total for page in pages} <= {None, len(listed)}

    @needs(Ability.IDS)
    def test_records_are_fetched_by_id_as_a_pull_brings_them(
        self, org: Org, connector: Connector
    ) -> None:
        wanted, _ = org.add_accounts(["wanted", "not asked for"])
        org.later(60)
        copy = Copy()
        copy.pull(connector, "accounts")
        stream = stream_of(connector, "accounts")
        known = copy.records[wanted].ref
        unknown = RecordRef(org.name, "accounts", _never_given(wanted))
        assert isinstance(connector, ListsIds)

        page = connector.fetch(stream, [known, unknown])

        assert [one for one in page.records if one.ref.stream == "accounts"] == [
            copy.records[wanted]
        ]
        assert list(page.rejected) == []

    # ------------------------------------------------------------ counts

    @needs(Ability.COUNTS)
    def test_the_count_is_that_of_the_records_a_pull_of_everything_brings(
        self, org: Org, connector: Connector
    ) -> None:
        first, *_ = org.add_accounts([f"Account {number:04}" for number in range(5)])
        org.later(3600)
        copy = Copy()
        copy.pull(connector, "accounts")
        stream, until = stream_of(connector, "accounts"), copy.complete_until
        assert isinstance(connector, CountsRecords)
        assert until is not None
        counted = connector.count(stream, until)
        if counted is None:
            pytest.skip(f"{NOT_SHOWN}counts: of accounts there is none")
        org.later(3600)
        org.add_accounts(["created later"])
        org.later(60)

        later = connector.count(stream, until)
        gone = 0
        if Ability.DELETIONS not in org.lacks:
            org.delete_account(first)
            org.later(60)
            gone = 1

        assert counted == len(copy.live)
        if Ability.CLOCK not in org.lacks:
            assert later == counted, "what was created after the instant is none of them"
            assert connector.count(stream, until) == counted - gone

    # ------------------------------------------------------------ what there is to map

    @needs(Ability.DISCOVERY)
    def test_objects_are_shown_with_their_fields_and_nobody_is_recognised(
        self, org: Org, connector: Connector
    ) -> None:
        names = ["Quillfeather Instruments", "Brackenbury Castings"]
        org.add_accounts(names)
        org.later(60)
        assert isinstance(connector, Discovers)

        listed = _object_of(connector, "accounts")
        shown = connector.discover(listed.name)

        assert list(listed.fields) == []
        assert shown.stream == "accounts"
        assert shown.sampled == len(names)
        assert shown.fields
        assert all(one.name and one.type for one in shown.fields)
        filled = [one.filled for one in shown.fields if one.filled is not None]
        assert len(names) in filled, "no field is filled in both accounts, though both have names"
        assert max(filled) <= shown.sampled
        assert _recognised(shown, names) == []

    @needs(Ability.DISCOVERY, Ability.OWN_FIELDS)
    def test_own_fields_are_shown_with_how_often_they_are_filled(
        self, org: Org, connector: Connector
    ) -> None:
        filled, _ = org.add_deals(2)
        org.add_text_to_deals("note__c", {filled: "Quillfeather"})
        org.later(60)
        connector = connect(org.settings())
        assert isinstance(connector, Discovers)

        shown = connector.discover(_object_of(connector, "deals").name)

        assert [one.filled for one in shown.fields if one.name == "note__c"] == [1]
        assert shown.sampled == 2
        assert _recognised(shown, ["Quillfeather"]) == []
        if Ability.STAGES not in org.lacks:
            assert {(one.is_closed, one.is_won) for one in shown.stages} >= {
                (False, False),
                (True, True),
            }

    @needs(Ability.DISCOVERY)
    def test_an_object_that_is_not_there_is_named(self, connector: Connector) -> None:
        assert isinstance(connector, Discovers)

        with pytest.raises(MisconfiguredConnection, match="no_such_thing"):
            connector.discover("no_such_thing")

    # ------------------------------------------------------------ the doorbell

    @needs(Ability.DOORBELL)
    def test_a_genuine_notification_names_the_streams_it_concerns(self, org: Org) -> None:
        settings, request = org.notification()
        connector = connect(settings)
        assert isinstance(connector, Doorbell)

        rung = connector.rung(request, datetime.now(UTC))

        assert "accounts" in rung
        assert rung <= {stream.name for stream in connector.streams()}

    @needs(Ability.DOORBELL)
    def test_a_notification_that_is_not_genuine_is_refused(self, org: Org) -> None:
        settings, request = org.notification()
        now = datetime.now(UTC)
        forged = {
            "another body": replace(request, body=request.body + b" "),
            "no signature": replace(request, headers={}),
            "another address": replace(request, url=request.url + "2"),
            "another method": replace(request, method="PUT"),
        }

        believed = {how for how, one in forged.items() if _is_believed(settings, one, now)}
        is_old_believed = _is_believed(settings, request, now + timedelta(days=1))
        # The suite's own credentials hold no secret of notifications.
        is_believed_without_secret = _is_believed(org.settings(), request, now)

        assert believed == set()
        assert not is_old_believed, "a recorded notification is believed a day later"
        assert not is_believed_without_secret, "without a secret nothing can be told"


def _is_believed(settings: ConnectionSettings, request: WebRequest, now: datetime) -> bool:
    connector = connect(settings)
    assert isinstance(connector, Doorbell)
    try:
        connector.rung(request, now)
    except RequestRefused:
        return False
    return True


def _ids(connector: Connector, stream: str) -> Iterator[IdPage]:
    assert isinstance(connector, ListsIds)
    found = connector.ids(stream_of(connector, stream))
    if found is None:
        pytest.skip(f"{NOT_SHOWN}ids: every pull of {stream} reads everything")
    return found


def _object_of(connector: Discovers, stream: str) -> DiscoveredObject:
    listed = [one for one in connector.objects() if one.stream == stream]
    assert len(listed) == 1, f"one object is read as {stream}"
    return listed[0]


def _never_given(native_id: str) -> str:
    """An id of the same form that no record has."""
    return "".join("9" if letter.isdigit() else letter for letter in native_id)


def _recognised(shown: DiscoveredObject, secrets: list[str]) -> list[str]:
    """Samples that give a value away."""
    return [
        one.sample
        for one in shown.fields
        if one.sample is not None and any(secret in one.sample for secret in secrets)
    ]
