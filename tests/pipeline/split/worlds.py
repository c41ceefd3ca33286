"""A company in two CRMs and the same one in one, each with the product reading it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from config.loader import load
from metrics import rebuild as rebuilding
from metrics import values
from metrics.dimensions import grouping_named, key_of, values_of
from metrics.verify import verify
from store.engine import reading, writing
from tests.fixtures.sandboxes import Crm, Sandbox
from tests.pipeline.split.crms import FIRST, SECOND, SECOND_STAGE, STAGES
from tests.pipeline.split.union import Union, add_own_fields
from worker import pipeline
from worker.results import State
from worker.runtime import Runtime, open_runtime

Place = tuple[str, str, str, str]
"""kpi, period, dimension, key."""
Worth = tuple[object, ...]

TODAY: Final = "2026-06-30"
NOON: Final = datetime.fromisoformat(f"{TODAY}T12:00:00+00:00")

_HEAD = """\
version: 1
database: {database}
company: {{name: Test Company, currency: USD, timezone: Europe/Berlin}}
security: {{allow_hosts: [127.0.0.1]}}
advanced: {{retry_wait: 1s, retry_attempts: 2}}
kpis:
  use: [sales, customer, marketing, service]
  periods: {periods}
  settings:
    campaign_revenue: {{models: [first, last, linear, primary]}}
    campaign_deals: {{models: [first, last, linear, primary]}}
    win_rate: {{by: [owner, account, region, segment, kind, [owner, region]]}}
    won_value: {{by: [account, product, type, source, campaign, size_band, pipeline, stage]}}
    lost_count: {{by: [lost_reason, deal]}}
    sales_cycle_days: {{by: [decision_makers, pipeline]}}
    nps: {{by: [account, contact]}}
    tickets_created: {{by: [account, contact, category, type, priority, pipeline, owner]}}
    contract_retention_rate: {{by: [account, owner, region, segment]}}
    email_open_rate: {{by: [campaign, email]}}
connections:
"""
_SALESFORCE = """\
  salesforce:
    type: salesforce
    base_url: {url}
    auth: {{flow: client_credentials, domain: sandbox.my, client_id: sandbox-client,
           client_secret: sandbox-secret}}
    streams:
      accounts: {{fields: {{region: Region__c, segment: Segment__c}}}}
      contacts: {{}}
      leads: {{fields: {{qualified_at: Qualified_At__c}}}}
      campaigns: {{}}
      campaign_members: {{}}
      deals: {{fields: {{product: Product__c, region: Region__c, segment: Segment__c,
                        lost_reason: Lost_Reason__c}}}}
      tickets: {{fields: {{category: Type, type: Origin, first_response_at: First_Response__c}}}}
      survey_responses:
        object: Survey_Response__c
        fields: {{kind: {{from: Kind__c, values: {{nps: [NPS]}}}}, score: Score__c,
                 submitted_at: Submitted_At__c, account: Account__c, contact: Contact__c}}
      contracts: {{fields: {{amount: Amount__c{end}}}}}
"""
_EMAILS = """\
      email_statistics:
        object: Email_Day__c
        fields: {email: Email__c, campaign: Campaign__c, date: Day__c, sent: Sent__c,
                 delivered: Delivered__c, opens: Opens__c, clicks: Clicks__c,
                 unsubscribes: Unsubscribes__c, bounces: Bounces__c}
"""
_SOURCES = """{from: hs_analytics_source, values: {Web: [ORGANIC_SEARCH],
                   Partner Referral: [REFERRALS], Purchased List: [PAID_SEARCH],
                   Other: [EMAIL_MARKETING], Phone Inquiry: [OFFLINE]}}"""
_HUBSPOT = """\
  hubspot:
    type: hubspot
    base_url: {url}
    auth: {{flow: token, token: pat-na1-sandbox}}
    streams:
      accounts: {{fields: {{region: region, segment: segment}}}}
      contacts: {{}}
      leads: {{fields: {{source: {sources}}}}}
      campaigns: {{}}
      email_statistics: {{}}
      deals:
        fields:
          product: product
          region: region
          segment: segment
          source: {sources}
          type: {{from: dealtype, values: {{New Customer: [newbusiness],
                 Existing Customer - Upgrade: [existingbusiness]}}}}
      tickets:
        fields:
          category: {{from: hs_ticket_category, values: {{Problem: [PRODUCT_ISSUE],
                     Question: [GENERAL_INQUIRY], Feature Request: [FEATURE_REQUEST]}}}}
          type: {{from: source_type, values: {{Email: [EMAIL], Phone: [PHONE], Web: [FORM]}}}}
      survey_responses: {{}}
      contracts: {{}}
"""
_IDENTITY = """\
identity:
  accounts:
    match:
      - {same: hubspot.salesforceaccountid = salesforce.Id}
      - {domain: website}
    prefer: salesforce
  contacts:
    match:
      - {same: hubspot.salesforcecontactid = salesforce.Id}
      - {email: email}
    prefer: salesforce
  deals:
    match: [{same: hubspot.hs_salesforceopportunityid = salesforce.Id}]
    prefer: salesforce
    fields: {segment: hubspot}
  owners: {match: [{email: email}]}
"""


@dataclass(frozen=True)
class Portrait:
    """All values that are believed, by where they stand."""

    values: Mapping[Place, Worth]

    def touched(self, other: Portrait) -> set[Place]:
        """Where the two differ."""
        return {
            place
            for place in self.values.keys() | other.values.keys()
            if self.values.get(place) != other.values.get(place)
        }


class Reader:
    """An installation of the product: it pulls, publishes as of a given instant, and is checked."""

    def __init__(self, folder: Path, text: str) -> None:
        self.path = folder / "kpisync.yaml"
        self.path.write_text(text, encoding="utf-8")
        self.runtime: Runtime = open_runtime(load(self.path, {}))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.runtime.close()

    def pull(self, *, full: bool = False, only: str | None = None) -> None:
        """Every stream of every connection; each has to succeed."""
        for connection in self.runtime.config.connections:
            if only in (None, connection):
                for result in pipeline.pull_connection(self.runtime, connection, full=full):
                    assert result.state is State.OK, result

    def publish(self, at: datetime) -> Portrait:
        """Compute whatever is due and look at all values."""
        engine, catalog = self.runtime.engine, self.runtime.catalog
        with writing(engine) as conn:
            stale = rebuilding.stale_families(conn, catalog)
            if stale:
                rebuilding.rebuild(conn, catalog, stale, at=at)
        remaining = 1
        while remaining:
            with writing(engine) as conn:
                remaining = values.publish(conn, catalog, run="run", as_of=at).remaining
        with reading(engine) as conn:
            found = values.current(conn, catalog)
        return Portrait(
            {
                (one.kpi, one.period, one.dimension, one.key): _worth(one)
                for one in found
                if not _is_emptied(one)
            }
        )

    def verify(self, at: datetime) -> int:
        """Let the product recompute everything; how many values agree."""
        with reading(self.runtime.engine) as conn:
            found = verify(conn, self.runtime.catalog, as_of=at)
        assert found.differences == []
        return found.checked


def _worth(one: values.KpiValue) -> Worth:
    left_out = tuple(sorted((reason, count) for reason, count in one.left_out.items() if count))
    return one.value, one.words, one.numerator, one.denominator, one.n, left_out


def _is_emptied(one: values.KpiValue) -> bool:
    """A group that had records once keeps a row of 0 or nothing; one that never had has none."""
    return not one.n and not any(one.left_out.values()) and one.value in (None, Decimal(0))


def two_crms(sandbox: Sandbox, database: str, periods: Sequence[str]) -> str:
    """The configuration of the divided company."""
    return (
        _head(database, periods)
        + _SALESFORCE.format(url=sandbox.salesforce.url, end="")
        + _HUBSPOT.format(url=sandbox.hubspot.url, sources=_SOURCES)
        + _IDENTITY
    )


def one_crm(org: Crm, database: str, periods: Sequence[str]) -> str:
    """The configuration of the same company in one CRM."""
    salesforce = _SALESFORCE.format(url=org.url, end=", end_date: Ends__c")
    return _head(database, periods) + salesforce + _EMAILS


def _head(database: str, periods: Sequence[str]) -> str:
    return _HEAD.format(database=database, periods=f"[{', '.join(periods)}]")


def prepare(split: Sandbox) -> None:
    """Give the divided company its own fields, and take away limits that cost a test time."""
    add_own_fields(split.salesforce)
    for name in ("deals", "companies"):
        for field_name in ("region", "segment"):
            split.hubspot.add_field(name, field_name, "text")
    split.hubspot.settings(burst=1_000_000, search_per_second=100_000)


class Clock:
    """The one time of all CRMs, which moves by hand."""

    def __init__(self, *crms: Crm) -> None:
        self._crms = crms
        self.now = NOON
        self._set()

    def advance(self, by: timedelta = timedelta(seconds=90)) -> None:
        self.now += by
        self._set()

    def _set(self) -> None:
        for crm in self._crms:
            crm.clock(fix=self.now.isoformat())


class Translation:
    """Keys of the divided company as the one that is in one CRM has them."""

    def __init__(self, union: Union) -> None:
        self._records: dict[tuple[str, str], str] = {
            place: f"{FIRST}:{twin}" for place, twin in union.twins.items()
        }
        self._stages = {f"{FIRST}:{label}": f"{FIRST}:{label}" for label in STAGES.values()} | {
            f"{SECOND}:{native}": f"{FIRST}:{SECOND_STAGE.format(label)}"
            for native, label in STAGES.items()
        }
        self._pipelines = {
            f"{FIRST}:default": f"{FIRST}:default",
            f"{SECOND}:default": f"{FIRST}:{union.pipelines['Opportunity']}",
            f"{SECOND}:0": f"{FIRST}:{union.pipelines['Case']}",
        }

    def of(self, portrait: Portrait) -> dict[Place, Worth]:
        """The values under the keys of the other world; two under one key are told."""
        found: dict[Place, Worth] = {}
        for (kpi, period, dimension, key), worth in portrait.values.items():
            place = kpi, period, dimension, self._key(dimension, key)
            assert place not in found, place
            found[place] = self._named(worth) if kpi == "bottleneck" else worth
        return found

    def _key(self, dimension: str, key: str) -> str:
        grouping = grouping_named(dimension)
        return key_of(
            [
                self._value(name, value)
                for name, value in zip(grouping, values_of(grouping, key), strict=True)
            ]
        )

    def _value(self, name: str, value: str) -> str:
        if name == "stage":
            return self._stages[value]
        if name == "pipeline":
            return self._pipelines[value]
        stream = _STREAMS.get(name)
        if stream is None or value == "(none)":
            return value
        return self._records[stream, value]

    def _named(self, worth: Worth) -> Worth:
        value, stage, *rest = worth
        return (value, self._stages.get(str(stage), stage), *rest)


_STREAMS: Final[Mapping[str, str]] = {
    "owner": "owners",
    "account": "accounts",
    "contact": "contacts",
    "deal": "deals",
    "campaign": "campaigns",
    "ticket": "tickets",
}
"""Dimensions whose keys are those of records."""

INCOMPARABLE: Final[Mapping[tuple[str, str], str]] = {
    ("stage_count", "pipeline"): (
        "stages of Salesforce belong to the org and so to its default pipeline, whichever record"
        " types use them; those of HubSpot belong to a pipeline"
    ),
}
"""(KPI, dimension) -> why the two worlds differ there by what CRMs are."""


def assert_same(divided: Mapping[Place, Worth], whole: Portrait, after: Sequence[str] = ()) -> None:
    """Find each value equal in both worlds, but for the incomparable ones.

    Args:
        divided: by the keys of the whole company.
        whole: its values.
        after: what has happened, to tell of it.
    """
    differ = [
        place
        for place in sorted(divided.keys() | whole.values.keys())
        if divided.get(place) != whole.values.get(place)
        and (place[0], place[2]) not in INCOMPARABLE
    ]
    kinds = sorted({(kpi, dimension) for kpi, _, dimension, _ in differ})
    shown = "\n".join(
        f"{place}: {divided.get(place)} in two CRMs, {whole.values.get(place)} in one"
        for place in differ[:SHOWN]
    )
    assert not differ, f"{len(differ)} of {kinds} after {', '.join(after)}\n{shown}"


SHOWN: Final = 12
"""Differences that a failed test tells."""
