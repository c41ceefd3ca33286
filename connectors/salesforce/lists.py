"""The org's short lists, read whole: stages, record types, queues, currencies.

They are asked for without a describe: their columns are Salesforce's own and open to every user
who sees the object at all. One that is not there (no licence, no permission) is a warning.

Pages: Object Reference, "OpportunityStage", "CaseStatus", "RecordType", "Group", "CurrencyType",
"DatedConversionRate".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from connectors.base import ConnectionSettings
from connectors.errors import (
    MalformedAnswer,
    MisconfiguredConnection,
    PermissionMissing,
    RequestRefused,
)
from connectors.salesforce.client import SalesforceClient
from connectors.salesforce.ids import long_id
from connectors.salesforce.streams import DEFAULT_PIPELINE
from connectors.salesforce.tally import Tally
from store.canonical import CanonicalRecord, Owner, Rate, RecordRef, Stage

Row = Mapping[str, Any]

CASES: Final = "cases"
"""The pipeline of the statuses of cases."""
_FIRST_DAY: Final = date(1900, 1, 1)
"""Where a rate has no beginning; Salesforce dates the first one to the year 1 or 1700."""

_STAGES: Final = (
    "SELECT Id, ApiName, MasterLabel, SortOrder, IsClosed, IsWon, DefaultProbability, IsActive"
    " FROM OpportunityStage"
)
_STATUSES: Final = "SELECT Id, ApiName, MasterLabel, SortOrder, IsClosed FROM CaseStatus"
_RECORD_TYPES: Final = (
    "SELECT Id, Name, DeveloperName, SobjectType, IsActive FROM RecordType"
    " WHERE SobjectType IN ('Opportunity','Case')"
)
_QUEUES: Final = "SELECT Id, Name, Email, CreatedDate FROM Group WHERE Type = 'Queue'"
_CURRENCIES: Final = "SELECT Id, IsoCode, ConversionRate, IsCorporate, IsActive FROM CurrencyType"
_DATED_RATES: Final = "SELECT Id, IsoCode, ConversionRate, StartDate FROM DatedConversionRate"


@dataclass(slots=True)
class Listing:
    """Records of a list, and what is to be said about it."""

    records: list[CanonicalRecord] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    is_whole: bool = True
    """Nothing of it was closed to us."""


class Lists:
    """Reads the short lists of one org."""

    def __init__(self, client: SalesforceClient, settings: ConnectionSettings, tally: Tally):
        self._client = client
        self._settings = settings
        self._name = settings.name
        self._tally = tally

    # ------------------------------------------------------------ stages

    def stages(self, *, with_deals: bool, with_tickets: bool) -> Listing:
        """Stages of opportunities, statuses of cases, and record types with their names."""
        listing = Listing()
        if with_deals:
            for row in self._rows(_STAGES, "OpportunityStage", listing):
                listing.records.append(self._stage(row))
        if with_tickets:
            for row in self._rows(_STATUSES, "CaseStatus", listing):
                listing.records.append(self._status(row))
        for row in self._rows(_RECORD_TYPES, "RecordType", listing):
            listing.records.append(self._record_type(row))
        return listing

    def stage_names(self) -> frozenset[str]:
        """API names of all stages, retired ones included; empty where they cannot be seen."""
        rows = self._rows(_STAGES, "OpportunityStage", Listing())
        return frozenset(str(row.get("ApiName")) for row in rows)

    def closed_statuses(self) -> Mapping[str, bool]:
        """Name or label of a case's status -> whether it is a closed one."""
        rows = self._rows(_STATUSES, "CaseStatus", Listing())
        return {
            str(row.get(name)): row.get("IsClosed") is True
            for name in ("MasterLabel", "ApiName")
            for row in rows
        }

    def _stage(self, row: Row) -> Stage:
        name = str(row.get("ApiName") or row["MasterLabel"])
        return Stage(
            ref=RecordRef(self._name, Stage.STREAM, name),
            pipeline=f"{self._name}:{DEFAULT_PIPELINE}",
            pipeline_label="Default",
            label=row.get("MasterLabel"),
            position=_whole(row.get("SortOrder")),
            is_closed=row.get("IsClosed") is True,
            is_won=row.get("IsWon") is True,
            probability=_ratio(row.get("DefaultProbability")),
            is_active=row.get("IsActive") is not False,
        )

    def _status(self, row: Row) -> Stage:
        return Stage(
            ref=RecordRef(self._name, Stage.STREAM, long_id(str(row["Id"]))),
            pipeline=f"{self._name}:{CASES}",
            pipeline_label="Cases",
            label=row.get("MasterLabel"),
            position=_whole(row.get("SortOrder")),
            is_closed=row.get("IsClosed") is True,
        )

    def _record_type(self, row: Row) -> Stage:
        """A pipeline without stages of its own, which gives its key a name."""
        own_id = long_id(str(row["Id"]))
        return Stage(
            ref=RecordRef(self._name, Stage.STREAM, own_id),
            pipeline=f"{self._name}:{own_id}",
            pipeline_label=row.get("Name") or row.get("DeveloperName"),
            is_active=row.get("IsActive") is not False,
        )

    # ------------------------------------------------------------ queues

    def queues(self) -> Listing:
        """Queues, which own leads and cases as users do."""
        listing = Listing()
        for row in self._rows(_QUEUES, "Group", listing):
            listing.records.append(
                Owner(
                    ref=RecordRef(self._name, Owner.STREAM, long_id(str(row["Id"]))),
                    name=row.get("Name"),
                    email=row.get("Email"),
                    created_at=_instant(row.get("CreatedDate")),
                )
            )
        return listing

    # ------------------------------------------------------------ rates

    def rates(self) -> Listing:
        """What one unit of each currency is worth in the company's, day by day where dated.

        Salesforce keeps units of a currency for one unit of the corporate one; the company's
        books may be kept in yet another.
        """
        listing = Listing()
        known = self._known_rates(listing)
        company = self._settings.company.currency
        if company not in known:
            if known:
                listing.warnings.append(
                    f"The org keeps no rate of {company}, the currency of company.currency, so no"
                    " amount of another currency can be converted. Add it in Setup > Company"
                    " Information > Currency Setup, or use company.fx.table."
                )
                listing.is_whole = False
            return listing
        for currency, own in sorted(known.items()):
            if currency != company:
                listing.records += self._in_company_units(currency, own, known[company])
        return listing

    def _known_rates(self, listing: Listing) -> Mapping[str, Mapping[date, Decimal]]:
        """Currency -> from which day on how many units of it are one corporate unit."""
        rates: dict[str, dict[date, Decimal]] = defaultdict(dict)
        standing = {
            str(row.get("IsoCode")): self._rate(row, listing)
            for row in self._rows(_CURRENCIES, "CurrencyType", listing)
        }
        if not standing:
            return rates
        for row in self._rows(_DATED_RATES, "DatedConversionRate", Listing()):
            rate, begins = self._rate(row, listing), _day(row.get("StartDate"))
            if rate is not None and begins is not None:
                rates[str(row.get("IsoCode"))][begins] = rate
        for currency, rate in standing.items():
            if currency not in rates and rate is not None:
                rates[currency][_FIRST_DAY] = rate
        return rates

    def _rate(self, row: Row, listing: Listing) -> Decimal | None:
        try:
            rate = Decimal(str(row.get("ConversionRate")))
        except InvalidOperation:
            rate = Decimal(0)
        if rate.is_finite() and rate > 0:
            return rate
        listing.warnings.append(
            f"The conversion rate of {row.get('IsoCode')} in Salesforce is"
            f" {row.get('ConversionRate')}, which is none; it is left out. Correct it in Setup >"
            " Company Information > Currency Setup."
        )
        return None

    def _in_company_units(
        self, currency: str, own: Mapping[date, Decimal], company: Mapping[date, Decimal]
    ) -> Iterator[Rate]:
        for begins in sorted({*own, *company}):
            of_own, of_company = _on(own, begins), _on(company, begins)
            if of_own is None or of_company is None:
                continue
            yield Rate(
                ref=RecordRef(self._name, Rate.STREAM, f"{currency}-{begins.isoformat()}"),
                currency=currency,
                date=begins,
                rate=of_company / of_own,
            )

    # ------------------------------------------------------------ asking

    def _rows(self, soql: str, object_name: str, listing: Listing) -> list[Row]:
        self._tally.calls()
        try:
            return list(self._client.query_all(soql, deleted_too=False))
        except MalformedAnswer:
            raise
        except (MisconfiguredConnection, PermissionMissing, RequestRefused) as error:
            listing.is_whole = False
            listing.warnings.append(
                f"{object_name} cannot be read ({error.message}). What is known of it stays as it"
                " is. If the org has it, give the connected user read access."
            )
            return []


def _on(rates: Mapping[date, Decimal], day: date) -> Decimal | None:
    """The rate that holds on a day."""
    begun = [begins for begins in rates if begins <= day]
    return rates[max(begun)] if begun else None


def _day(text: object) -> date | None:
    try:
        return max(date.fromisoformat(str(text)[:10]), _FIRST_DAY)
    except ValueError:
        return None


def _instant(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except ValueError:
        return None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _ratio(value: object) -> Decimal | None:
    return Decimal(str(value)) / 100 if isinstance(value, (int, Decimal)) else None
