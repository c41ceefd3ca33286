"""What every connector promises, as tests; a new connector is done when it passes them.

A CRM takes part by an `Org`, which says in its own words what people do there, and a class::

    class TestSalesforce(ConnectorContract):
        @pytest.fixture
        def org(self, sandbox: Sandbox) -> Org:
            return SalesforceOrg(sandbox.salesforce)
"""

from __future__ import annotations

import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from connectors.base import (
    ConnectionSettings,
    Connector,
    Cursor,
    FieldSource,
    FieldType,
    NewField,
    Page,
    Problem,
    PushOutcome,
    PushResult,
    Stream,
    StreamSettings,
    Tuning,
    WriteTarget,
)
from connectors.errors import (
    AuthenticationFailed,
    CrmUnavailable,
    MalformedAnswer,
    QuotaExhausted,
    StreamPaused,
)
from connectors.registry import connect
from store.canonical import (
    CanonicalRecord,
    Company,
    Deal,
    FieldUpdate,
    RejectedRecord,
    Scalar,
    StageChange,
)
from tests.fixtures.sandboxes import Crm

COMPANY = Company(ZoneInfo("Europe/Berlin"), "EUR")
QUICK = Tuning(
    read_timeout=timedelta(seconds=10),
    total_timeout=timedelta(seconds=20),
    retry_wait=timedelta(milliseconds=10),
    retry_wait_max=timedelta(milliseconds=50),
    page_size=200,
)


class Org(ABC):
    """One CRM of the sandbox as people and faults see it."""

    name = "crm"
    """Of the connection."""
    account_object: str
    kpi_field: str
    """A name that a KPI field on accounts may have."""
    reading: str
    """A part of the address of every call that reads records."""
    writing: str
    """A part of the address of every call that writes values."""

    def __init__(self, crm: Crm) -> None:
        self.crm = crm

    @abstractmethod
    def settings(
        self,
        *,
        tuning: Tuning = QUICK,
        streams: Mapping[str, StreamSettings] | None = None,
        auth: Mapping[str, str] | None = None,
        base_url: str | None = None,
    ) -> ConnectionSettings:
        """A connection with good credentials, or with those given."""

    @property
    @abstractmethod
    def wrong_credentials(self) -> Mapping[str, str]:
        """Credentials that the CRM refuses; every secret in them says ``wrong-secret``."""

    @abstractmethod
    def add_accounts(self, names: Sequence[str], **how: object) -> list[str]: ...

    @abstractmethod
    def rename_account(self, account_id: str, name: str, **how: object) -> None: ...

    @abstractmethod
    def add_deals(
        self, count: int, *, amount: float = 100, account: str | None = None
    ) -> list[str]: ...

    @abstractmethod
    def win(self, deal_id: str) -> None: ...

    @abstractmethod
    def to_unknown_stage(self, deal_id: str) -> str:
        """Put a deal into a stage that is in no list; return the stage's name for people."""

    @abstractmethod
    def add_text_to_deals(self, name: str, texts: Mapping[str, str]) -> None:
        """Give deals a text field, filled by deal id."""

    @abstractmethod
    def hide_amounts(self) -> str:
        """Take the amount of deals from the connected user; return the field's name."""

    @abstractmethod
    def use_up_the_quota(self) -> None:
        """Let the CRM refuse every call for lack of daily quota."""

    @abstractmethod
    def refuse_writes_of(self, record_id: str) -> None:
        """A rule of the CRM refuses writes of this record for good."""

    @abstractmethod
    def lock(self, record_id: str) -> None:
        """The next write of this record fails for a passing reason."""

    def stored(self, account_id: str, field_name: str) -> object:
        """What the CRM holds in a field of an account."""
        fields = self.crm.record(self.account_object, account_id)["fields"]
        assert isinstance(fields, dict)
        return fields.get(field_name)

    def delete_account(self, account_id: str) -> None:
        self.crm.delete(self.account_object, account_id)

    def update(self, account_id: str, value: Scalar, field_name: str | None = None) -> FieldUpdate:
        return FieldUpdate(
            self.name, self.account_object, account_id, field_name or self.kpi_field, value
        )


@dataclass
class Copy:
    """What a reader of a connector's pages has: the records, and where to go on."""

    records: dict[str, CanonicalRecord] = field(default_factory=dict)
    rejected: dict[str, RejectedRecord] = field(default_factory=dict)
    cursor: Cursor | None = None
    complete_until: datetime | None = None
    warnings: list[str] = field(default_factory=list)

    def take(self, page: Page) -> None:
        for record in page.records:
            held = self.records.get(record.ref.native_id)
            if not (held and held.modified_at and record.modified_at) or (
                record.modified_at >= held.modified_at
            ):
                self.records[record.ref.native_id] = record
        for ref in page.deleted:
            if ref.native_id in self.records:
                gone = replace(self.records[ref.native_id], deleted=True)
                self.records[ref.native_id] = gone
        self.rejected.update((each.ref.native_id, each) for each in page.rejected)
        self.cursor, self.complete_until = page.resume_at, page.complete_until
        self.warnings.extend(page.warnings)

    def pull(self, connector: Connector, stream: str, *, pages: int | None = None) -> int:
        """Take pages from where we stand; return how many came."""
        taken = 0
        pulling = connector.pull(stream_of(connector, stream), self.cursor)
        for page in itertools.islice(pulling, pages):
            self.take(page)
            taken += 1
        return taken

    @property
    def live(self) -> dict[str, CanonicalRecord]:
        return {key: record for key, record in self.records.items() if not record.deleted}

    def names(self) -> set[str | None]:
        return {getattr(record, "name", None) for record in self.live.values()}


def stream_of(connector: Connector, name: str) -> Stream:
    return next(stream for stream in connector.streams() if stream.name == name)


def writer(connector: Connector) -> WriteTarget:
    assert isinstance(connector, WriteTarget)
    return connector


def outcomes(results: Sequence[PushResult]) -> list[PushOutcome]:
    return [result.outcome for result in results]


class ConnectorContract:
    """The suite; `org` is given by the class that takes part."""

    @pytest.fixture
    def org(self) -> Org:
        raise NotImplementedError

    @pytest.fixture
    def connector(self, org: Org) -> Connector:
        return connect(org.settings())

    @pytest.fixture
    def writable(self, org: Org) -> Connector:
        """A connector to an org whose accounts have the KPI field."""
        connector = connect(org.settings())
        writer(connector).create(org.account_object, [kpi_field(org)], dry_run=False)
        return connector

    # ------------------------------------------------------------ reading everything

    def test_streams_come_before_those_that_point_to_them(self, connector: Connector) -> None:
        names = [stream.name for stream in connector.streams()]

        assert names[:4] == ["owners", "stages", "accounts", "deals"]

    def test_a_full_pull_brings_every_record_once(self, org: Org, connector: Connector) -> None:
        names = [f"Account {number:04}" for number in range(450)]
        org.add_accounts(names)

        pages = list(connector.pull(stream_of(connector, "accounts"), None))

        read = [getattr(record, "name", "") for page in pages for record in page.records]
        assert sorted(read) == names
        assert [page.complete_until is not None for page in pages] == (
            [False] * (len(pages) - 1) + [True]
        )

    def test_an_empty_stream_is_complete_too(self, connector: Connector) -> None:
        copy = Copy()

        copy.pull(connector, "deals")

        assert copy.records == {}
        assert copy.complete_until is not None

    def test_a_won_deal_has_its_stage_amount_day_and_history(
        self, org: Org, connector: Connector
    ) -> None:
        (account,) = org.add_accounts(["Account 0001"])
        (deal_id,) = org.add_deals(1, amount=99.5, account=account)
        org.win(deal_id)
        deals, stages, changes = Copy(), Copy(), Copy()

        deals.pull(connector, "deals")
        stages.pull(connector, "stages")
        for stream in connector.streams():
            if "deal_stage_changes" in stream.yields:
                for page in connector.pull(stream, None):
                    changes.take(page)

        deal = deals.records[deal_id]
        assert isinstance(deal, Deal)
        assert (deal.is_closed, deal.is_won, deal.amount) == (True, True, Decimal("99.5"))
        assert deal.account == f"{org.name}:{account}"
        assert deal.close_date is not None
        assert deal.stage in {record.ref.key for record in stages.records.values()}
        visited = [
            record.stage
            for record in changes.records.values()
            if isinstance(record, StageChange) and record.deal == f"{org.name}:{deal_id}"
        ]
        assert deal.stage in visited
        assert len(set(visited)) == 2

    @pytest.mark.parametrize("stop_after", [1, 2])
    def test_a_pull_goes_on_after_its_last_committed_page(self, org: Org, stop_after: int) -> None:
        names = {f"Account {number:04}" for number in range(450)}
        org.add_accounts(sorted(names))
        copy = Copy()
        copy.pull(connect(org.settings()), "accounts", pages=stop_after)
        before = len(copy.records)

        copy.pull(connect(org.settings()), "accounts")

        assert 0 < before < 450
        assert copy.names() == names
        assert copy.complete_until is not None

    def test_more_rows_of_one_instant_than_a_page_come_once_each(
        self, org: Org, connector: Connector
    ) -> None:
        names = [f"Account {number:04}" for number in range(450)]
        at = org.crm.clock(advance=-3600)
        org.add_accounts(names, at=at)
        org.crm.clock(advance=3600)

        pages = list(connector.pull(stream_of(connector, "accounts"), None))

        read = [getattr(record, "name", "") for page in pages for record in page.records]
        assert sorted(read) == names
        assert connector.calls.made < 20

    # ------------------------------------------------------------ increments

    def test_an_increment_sees_inserts_edits_deletions_and_returns(
        self, org: Org, connector: Connector
    ) -> None:
        edited, deleted, returning, merged, winner, _ = org.add_accounts(
            ["edited", "deleted", "returning", "merged", "winner", "untouched"]
        )
        org.delete_account(returning)
        copy = Copy()
        copy.pull(connector, "accounts")
        org.crm.clock(advance=3600)
        org.add_accounts(["inserted"])
        org.rename_account(edited, "renamed")
        org.delete_account(deleted)
        org.crm.undelete(org.account_object, returning)
        lives_on = org.crm.merge(org.account_object, winner, [merged])
        org.crm.clock(advance=60)

        self.follow(copy, org, connector)

        assert copy.names() == {"renamed", "returning", "inserted", "winner", "untouched"}
        assert copy.records[merged].merged_into == f"{org.name}:{lives_on}"
        assert copy.records[merged].deleted

    def follow(self, copy: Copy, org: Org, connector: Connector) -> None:
        """The next pull; where the CRM hides deletions, one that reconciles everything."""
        copy.pull(connector, "accounts")
        if not connector.capabilities.sees_deletions:
            everything = Copy()
            everything.pull(connector, "accounts")
            for native_id in set(copy.records) - set(everything.records):
                copy.records[native_id] = replace(copy.records[native_id], deleted=True)
        del org

    def test_a_record_deleted_for_good_is_told(self, org: Org, connector: Connector) -> None:
        kept, erased = org.add_accounts(["kept", "erased"])
        copy = Copy()
        copy.pull(connector, "accounts")
        org.crm.clock(advance=3600)
        org.crm.erase(org.account_object, erased)
        org.crm.clock(advance=3600)

        self.follow(copy, org, connector)

        assert set(copy.live) == {kept}

    def test_a_row_stamped_earlier_but_committed_later_is_in_the_next_pull(
        self, org: Org, connector: Connector
    ) -> None:
        org.add_accounts(["Account 0001"])
        org.crm.clock(advance=3600)
        org.add_accounts(["late"], commit_after=300)
        org.crm.clock(advance=200)
        copy = Copy()
        copy.pull(connector, "accounts")
        before = copy.names()
        org.crm.clock(advance=340)

        copy.pull(connector, "accounts")

        assert before == {"Account 0001"}
        assert copy.names() == {"Account 0001", "late"}

    def test_a_pull_from_a_date_brings_what_changed_since(
        self, org: Org, connector: Connector
    ) -> None:
        org.add_accounts(["old"])
        day_after = datetime.fromisoformat(org.crm.clock(advance=86_400))
        org.crm.clock(advance=86_400)
        org.add_accounts(["new"])
        org.crm.clock(advance=60)
        copy = Copy()

        for page in connector.pull(stream_of(connector, "accounts"), day_after):
            copy.take(page)

        assert copy.names() == {"new"}

    def test_a_pull_without_changes_brings_no_news(self, org: Org, connector: Connector) -> None:
        org.add_accounts(["Account 0001"])
        org.crm.clock(advance=3600)
        copy = Copy()
        copy.pull(connector, "accounts")

        pages = list(connector.pull(stream_of(connector, "accounts"), copy.cursor))

        assert [page.records for page in pages] == [[]]
        assert pages[0].complete_until is not None

    # ------------------------------------------------------------ bad days

    def test_a_passing_outage_is_waited_out_and_told(self, org: Org) -> None:
        org.add_accounts(["Account 0001"])
        waits: list[str] = []
        settings = replace(org.settings(), on_wait=lambda reason, _seconds: waits.append(reason))
        org.crm.fault("status", status=503, times=2, path=org.reading)
        copy = Copy()

        copy.pull(connect(settings), "accounts")

        assert copy.names() == {"Account 0001"}
        assert len(waits) == 2
        assert all("503" in reason for reason in waits)

    @pytest.mark.parametrize("kind", ["html", "cut_json", "empty"])
    def test_an_answer_that_is_not_one_is_asked_for_again(self, org: Org, kind: str) -> None:
        org.add_accounts(["Account 0001"])
        org.crm.fault(kind, status=200, path=org.reading)
        copy = Copy()

        copy.pull(connect(org.settings()), "accounts")

        assert copy.names() == {"Account 0001"}

    @pytest.mark.parametrize("kind", ["html", "cut_json"])
    def test_an_answer_that_is_never_one_is_a_fault_not_the_end(self, org: Org, kind: str) -> None:
        org.add_accounts(["Account 0001"])
        org.crm.fault(kind, status=200, times="forever", path=org.reading)

        with pytest.raises(MalformedAnswer):
            Copy().pull(connect(org.settings()), "accounts")

    def test_a_crm_that_never_answers_is_given_up_in_time(self, org: Org) -> None:
        tuning = replace(
            QUICK, read_timeout=timedelta(seconds=1), total_timeout=timedelta(seconds=3)
        )
        connector = connect(org.settings(tuning=tuning))
        org.crm.fault("hang", times="forever", path=org.reading, seconds=30)
        started = time.monotonic()

        with pytest.raises(CrmUnavailable, match="in time"):
            Copy().pull(connector, "accounts")

        assert time.monotonic() - started < 6
        org.crm.clear_faults()

    def test_a_used_up_quota_is_a_pause_not_the_end(self, org: Org, connector: Connector) -> None:
        org.add_accounts(["Account 0001"])
        org.use_up_the_quota()

        with pytest.raises(QuotaExhausted) as caught:
            Copy().pull(connector, "accounts")

        assert caught.value.until.tzinfo is not None

    def test_refused_credentials_say_so_without_showing_them(self, org: Org) -> None:
        connector = connect(org.settings(auth=org.wrong_credentials))

        with pytest.raises(AuthenticationFailed) as caught:
            Copy().pull(connector, "accounts")

        assert "wrong-secret" not in f"{caught.value!r} {caught.value}"

    def test_a_crm_that_is_down_is_named_with_its_address(self, org: Org) -> None:
        settings = org.settings(base_url="http://127.0.0.1:9")

        with pytest.raises(CrmUnavailable, match=r"127\.0\.0\.1:9"):
            Copy().pull(connect(settings), "accounts")

    # ------------------------------------------------------------ bad data

    def test_a_value_that_cannot_be_read_rejects_its_record_and_no_other(self, org: Org) -> None:
        good, bad, infinite = org.add_deals(3)
        org.add_text_to_deals("amount_text__c", {good: "12.50", bad: "abc", infinite: "1e400"})
        mapping = {"amount": FieldSource("amount_text__c", "money")}
        connector = connect(org.settings(streams={"deals": StreamSettings(fields=mapping)}))
        copy = Copy()

        copy.pull(connector, "deals")

        assert list(copy.records) == [good]
        assert set(copy.rejected) == {bad, infinite}
        fault = copy.rejected[bad]
        assert (fault.field, fault.code, fault.raw) == ("amount", "not_a_number", "abc")
        assert "amount_text__c" in fault.reason
        assert "Correct" in fault.reason

    def test_own_fields_are_read_by_their_type(self, org: Org) -> None:
        (deal_id,) = org.add_deals(1)
        org.add_text_to_deals("note__c", {deal_id: "77"})
        mapping = {
            "note": FieldSource("note__c"),
            "score": FieldSource("note__c", "integer"),
            "region": FieldSource("note__c", values={"77": "South"}),
        }
        connector = connect(org.settings(streams={"deals": StreamSettings(fields=mapping)}))
        copy = Copy()

        copy.pull(connector, "deals")

        deal = copy.records[deal_id]
        assert isinstance(deal, Deal)
        assert dict(deal.extra) == {"note": "77", "score": 77}
        assert deal.region == "South"

    def test_a_stage_nobody_knows_is_named_and_its_deal_lives(
        self, org: Org, connector: Connector
    ) -> None:
        (deal_id,) = org.add_deals(1)
        stage = org.to_unknown_stage(deal_id)
        copy = Copy()

        copy.pull(connector, "deals")

        assert deal_id in copy.records
        assert len([text for text in copy.warnings if stage in text]) == 1

    def test_a_missing_required_field_pauses_the_stream_and_is_named(
        self, org: Org, connector: Connector
    ) -> None:
        org.add_deals(1)
        name = org.hide_amounts()

        with pytest.raises(StreamPaused, match=name):
            Copy().pull(connector, "deals")

    def test_a_missing_own_field_is_a_warning_told_once(self, org: Org) -> None:
        org.add_deals(3)
        mapping = {"note": FieldSource("no_such_field__c")}
        connector = connect(org.settings(streams={"deals": StreamSettings(fields=mapping)}))
        copy = Copy()

        copy.pull(connector, "deals")

        assert len(copy.records) == 3
        assert len([text for text in copy.warnings if "no_such_field__c" in text]) == 1

    # ------------------------------------------------------------ writing

    def test_values_are_written_and_read_back(self, org: Org, writable: Connector) -> None:
        first, second = org.add_accounts(["Account 0001", "Account 0002"])

        results = writable.push(
            [org.update(first, Decimal("41.5")), org.update(second, Decimal("0.1"))]
        )

        assert outcomes(results) == [PushOutcome.WRITTEN] * 2
        live = writer(writable).read(org.account_object, [second, first], [org.kpi_field])
        assert {record.asked_id: record.values[org.kpi_field] for record in live} == {
            first: Decimal("41.5"),
            second: Decimal("0.1"),
        }

    def test_none_clears_a_field(self, org: Org, writable: Connector) -> None:
        (account,) = org.add_accounts(["Account 0001"])
        writable.push([org.update(account, Decimal("41.5"))])

        results = writable.push([org.update(account, None)])

        assert outcomes(results) == [PushOutcome.WRITTEN]
        (live,) = writer(writable).read(org.account_object, [account], [org.kpi_field])
        assert live.values == {org.kpi_field: None}

    def test_one_refused_record_of_many_is_one_failure(self, org: Org, writable: Connector) -> None:
        ids = org.add_accounts([f"Account {number:04}" for number in range(250)])
        org.refuse_writes_of(ids[120])
        updates = [org.update(account, Decimal(1)) for account in ids]

        results = writable.push(updates)

        assert [result.update for result in results] == updates
        (failed,) = [each for each in results if each.outcome is not PushOutcome.WRITTEN]
        assert failed.outcome is PushOutcome.FAILED
        assert failed.update.record_id == ids[120]
        assert failed.message
        assert failed.code

    def test_a_passing_refusal_is_to_be_sent_again(self, org: Org, writable: Connector) -> None:
        locked, free = org.add_accounts(["Account 0001", "Account 0002"])
        org.lock(locked)

        first = writable.push([org.update(locked, Decimal(1)), org.update(free, Decimal(1))])
        second = writable.push([first[0].update])

        assert outcomes(first) == [PushOutcome.RETRY, PushOutcome.WRITTEN]
        assert outcomes(second) == [PushOutcome.WRITTEN]

    def test_a_record_that_is_gone_is_told_beside_those_that_live(
        self, org: Org, writable: Connector
    ) -> None:
        gone, lives = org.add_accounts(["Account 0001", "Account 0002"])
        org.delete_account(gone)

        results = writable.push([org.update(gone, Decimal(1)), org.update(lives, Decimal(1))])

        assert outcomes(results) == [PushOutcome.GONE, PushOutcome.WRITTEN]

    def test_a_lost_answer_leaves_its_updates_unknown(self, org: Org, writable: Connector) -> None:
        (account,) = org.add_accounts(["Account 0001"])
        org.crm.fault("lost_answer", path=org.writing)

        results = writable.push([org.update(account, Decimal("41.5"))])

        assert outcomes(results) == [PushOutcome.UNKNOWN]
        (live,) = writer(writable).read(org.account_object, [account], [org.kpi_field])
        assert live.values == {org.kpi_field: Decimal("41.5")}

    def test_a_cut_answer_to_a_write_leaves_its_updates_unknown(
        self, org: Org, writable: Connector
    ) -> None:
        (account,) = org.add_accounts(["Account 0001"])
        org.crm.fault("cut_json", path=org.writing)

        results = writable.push([org.update(account, Decimal("41.5"))])

        assert outcomes(results) == [PushOutcome.UNKNOWN]

    def test_several_fields_of_a_record_share_its_fate(self, org: Org, writable: Connector) -> None:
        (account,) = org.add_accounts(["Account 0001"])
        other = replace(kpi_field(org), name=org.kpi_field.replace("test", "other"))
        writer(writable).create(org.account_object, [other], dry_run=False)
        org.refuse_writes_of(account)

        results = writable.push(
            [org.update(account, Decimal(1)), org.update(account, Decimal(2), other.name)]
        )

        assert outcomes(results) == [PushOutcome.FAILED] * 2

    def test_nothing_is_pushed_into_a_crm_that_is_down(self, org: Org) -> None:
        connector = connect(org.settings(base_url="http://127.0.0.1:9"))

        with pytest.raises(CrmUnavailable):
            connector.push([org.update("1", Decimal(1))])

    def test_a_deleted_record_is_left_out_and_a_merged_one_shows_its_winner(
        self, org: Org, writable: Connector
    ) -> None:
        deleted, merged, winner = org.add_accounts(["deleted", "merged", "winner"])
        writable.push([org.update(winner, Decimal(7))])
        org.delete_account(deleted)
        lives_on = org.crm.merge(org.account_object, winner, [merged])

        live = writer(writable).read(org.account_object, [deleted, merged], [org.kpi_field])

        assert [(record.asked_id, record.record_id) for record in live] == [(merged, lives_on)]

    # ------------------------------------------------------------ fields

    def test_fields_are_created_once(self, org: Org, connector: Connector) -> None:
        target = writer(connector)

        rehearsed = target.create(org.account_object, [kpi_field(org)], dry_run=True)
        seen_before = org.kpi_field in target.fields(org.account_object)
        first = target.create(org.account_object, [kpi_field(org)], dry_run=False)
        second = target.create(org.account_object, [kpi_field(org)], dry_run=False)

        assert [result.outcome for result in rehearsed] == ["would_create"]
        assert not seen_before
        assert [result.outcome for result in first] == ["created"]
        assert [result.outcome for result in second] == ["present"]
        created = target.fields(org.account_object)[org.kpi_field]
        assert created.writable
        assert created.type is FieldType.NUMBER

    # ------------------------------------------------------------ check

    def test_a_good_connection_has_no_problem(self, connector: Connector) -> None:
        report = connector.check()

        assert but_rights(report.problems) == []
        assert report.org_id

    def test_check_names_wrong_credentials_and_the_remedy(self, org: Org) -> None:
        report = connect(org.settings(auth=org.wrong_credentials)).check()

        (problem,) = report.problems
        assert problem.is_error
        assert problem.place == f"connections.{org.name}.auth"
        assert problem.remedy
        assert "wrong-secret" not in repr(report)

    def test_check_names_a_crm_that_is_down(self, org: Org) -> None:
        report = connect(org.settings(base_url="http://127.0.0.1:9")).check()

        assert not report.is_ok
        assert "127.0.0.1:9" in report.problems[0].message

    def test_check_of_a_crm_in_trouble_reports_instead_of_raising(
        self, org: Org, connector: Connector
    ) -> None:
        org.crm.fault("html", status=502, times="forever")

        assert not connector.check().is_ok

    def test_check_names_every_missing_field(self, org: Org) -> None:
        mapping = {"note": FieldSource("no_such_field__c")}
        hidden = org.hide_amounts()
        connector = connect(org.settings(streams={"deals": StreamSettings(fields=mapping)}))

        problems = but_rights(connector.check().problems)

        (required,) = (problem for problem in problems if problem.is_error)
        (optional,) = (problem for problem in problems if not problem.is_error)
        assert hidden in required.message
        assert "no_such_field__c" in optional.message

    def test_settings_and_connector_show_no_secret(self, org: Org) -> None:
        settings = org.settings(auth=org.wrong_credentials)

        assert "wrong-secret" not in f"{settings!r} {connect(settings)!r}"


def but_rights(problems: Sequence[Problem]) -> list[Problem]:
    """Problems other than the rights of the sandbox's user, which may set fields up as well."""
    return [each for each in problems if each.is_error or not each.place.endswith(".auth")]


def kpi_field(org: Org) -> NewField:
    return NewField(
        name=org.kpi_field,
        label="KPI test",
        help_text="A number of the tests",
        type=FieldType.NUMBER,
        precision=18,
        scale=4,
    )
