"""Salesforce's standard objects as canonical streams: where each field comes from.

Decisions that a reader may wonder about:

* A stage's native id is its API name, for that is what ``Opportunity.StageName`` holds
  (``OpportunityStage.ApiName``; the label may be translated or renamed).
* A deal's or ticket's pipeline is its record type where the org has record types, else
  ``CONN:default``: Salesforce has no other notion of a pipeline. Stages are shared by all record
  types, so a stage's own pipeline is always ``CONN:default``.
* A deal is closed or won by its own flags, also where its stage is no longer in the list.
* A campaign member without a response is no touch where ``touch: responded`` is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from connectors.base import ConnectionSettings, FieldSource, Stream, StreamSettings
from connectors.errors import MisconfiguredConnection

DEFAULT_PIPELINE: Final = "default"

CURSOR_COLUMNS: Final = ("SystemModstamp", "LastModifiedDate", "CreatedDate")
"""The first that an object has orders it: only SystemModstamp cannot be back-dated."""

_KIND: Final = {"New Customer": "new", "Existing Customer - Upgrade": "upsell"}
_PRIORITY: Final = {
    "Low": "low", "Medium": "medium", "High": "high", "Urgent": "urgent", "Critical": "urgent",
}  # fmt: skip


def _from(source: str) -> FieldSource:
    return FieldSource(source)


def _required(source: str) -> FieldSource:
    return FieldSource(source, required=True)


_CREATED: Final = {"created_at": _from("CreatedDate")}
_AS_IT_IS: Final[Mapping[str, Callable[[str], str]]] = MappingProxyType({"stage": str})


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream as Salesforce has it when the configuration says nothing."""

    name: str
    object: str
    """Empty: the configuration must name one."""
    fields: Mapping[str, FieldSource]
    may_lack: frozenset[str] = frozenset()
    """Fields that many orgs do not have at all; their absence is no news."""
    needs: tuple[str, ...] = ()
    """Fields that only the configuration can map."""
    only: str = ""
    """A condition in SOQL that every row of this stream meets."""
    is_implied_by: frozenset[str] = frozenset()
    may_be_absent: bool = False
    """Orgs without a licence or feature do not have the object."""
    is_list: bool = False
    """A short list, read whole at every pull."""
    identify_of: Mapping[str, Callable[[str], str]] = field(default_factory=dict)


OWNERS: Final = StreamSpec(
    "owners",
    "User",
    {
        "name": _from("Name"),
        "email": _from("Email"),
        "team": _from("UserRole.Name"),
        "manager": _from("ManagerId"),
        "is_active": _from("IsActive"),
        **_CREATED,
    },
    may_lack=frozenset({"team"}),
    is_implied_by=frozenset({"accounts", "contacts", "leads", "deals", "tickets"}),
)

STAGES: Final = StreamSpec(
    "stages",
    "OpportunityStage",
    {},
    is_implied_by=frozenset({"deals", "tickets"}),
    is_list=True,
)

RATES: Final = StreamSpec("rates", "CurrencyType", {}, is_list=True)

ACCOUNTS: Final = StreamSpec(
    "accounts",
    "Account",
    {
        "name": _from("Name"),
        "domain": _from("Website"),
        "owner": _from("OwnerId"),
        "parent": _from("ParentId"),
        "type": _from("Type"),
        "industry": _from("Industry"),
        "country": _from("BillingCountry"),
        "employees": _from("NumberOfEmployees"),
        "annual_revenue": _from("AnnualRevenue"),
        "currency": _from("CurrencyIsoCode"),
        **_CREATED,
    },
    may_lack=frozenset({"currency"}),
)

CONTACTS: Final = StreamSpec(
    "contacts",
    "Contact",
    {
        "name": _from("Name"),
        "email": _from("Email"),
        "account": _from("AccountId"),
        "owner": _from("OwnerId"),
        "source": _from("LeadSource"),
        **_CREATED,
    },
)

LEADS: Final = StreamSpec(
    "leads",
    "Lead",
    {
        "name": _from("Name"),
        "email": _from("Email"),
        "company": _from("Company"),
        "owner": _from("OwnerId"),
        "source": _from("LeadSource"),
        "status": _required("Status"),
        "converted_at": _from("ConvertedDate"),
        "converted_account": _from("ConvertedAccountId"),
        "converted_contact": _from("ConvertedContactId"),
        "converted_deal": _from("ConvertedOpportunityId"),
        **_CREATED,
    },
    may_be_absent=True,
)

CAMPAIGNS: Final = StreamSpec(
    "campaigns",
    "Campaign",
    {
        "name": _from("Name"),
        "channel": _from("Type"),
        "status": _from("Status"),
        "parent": _from("ParentId"),
        "start_date": _from("StartDate"),
        "end_date": _from("EndDate"),
        "cost": _from("ActualCost"),
        "budget": _from("BudgetedCost"),
        "currency": _from("CurrencyIsoCode"),
        **_CREATED,
    },
    may_lack=frozenset({"currency"}),
    may_be_absent=True,
)

DEALS: Final = StreamSpec(
    "deals",
    "Opportunity",
    {
        "name": _from("Name"),
        "account": _from("AccountId"),
        "owner": _from("OwnerId"),
        "pipeline": _from("RecordTypeId"),
        "stage": _required("StageName"),
        "is_closed": _required("IsClosed"),
        "is_won": _required("IsWon"),
        "amount": _required("Amount"),
        "close_date": _required("CloseDate"),
        "currency": _from("CurrencyIsoCode"),
        "closed_at": _from("LastStageChangeDate"),
        "probability": _from("Probability"),
        "type": _from("Type"),
        "kind": FieldSource("Type", values=_KIND),
        "source": _from("LeadSource"),
        "campaign": _from("CampaignId"),
        "forecast_category": _from("ForecastCategoryName"),
        "last_activity_at": _from("LastActivityDate"),
        **_CREATED,
    },
    may_lack=frozenset({"pipeline", "currency", "closed_at", "campaign", "last_activity_at"}),
    identify_of=_AS_IT_IS,
)

DEAL_STAGE_CHANGES: Final = StreamSpec(
    "deal_stage_changes",
    "OpportunityHistory",
    {
        "deal": _required("OpportunityId"),
        "stage": _required("StageName"),
        "pipeline": _from("Opportunity.RecordTypeId"),
        "at": _required("CreatedDate"),
        **_CREATED,
    },
    may_lack=frozenset({"pipeline"}),
    is_implied_by=frozenset({"deals"}),
    may_be_absent=True,
    identify_of=_AS_IT_IS,
)

TRACKED_STAGES: Final = replace(
    DEAL_STAGE_CHANGES,
    object="OpportunityFieldHistory",
    fields={**DEAL_STAGE_CHANGES.fields, "stage": _required("NewValue")},
    only="Field = 'StageName'",
    is_implied_by=frozenset(),
)
"""Where snapshots (OpportunityHistory) are closed to the user: changes since tracking began."""

DEAL_CONTACTS: Final = StreamSpec(
    "deal_contacts",
    "OpportunityContactRole",
    {
        "deal": _required("OpportunityId"),
        "contact": _required("ContactId"),
        "role": _from("Role"),
        "is_primary": _from("IsPrimary"),
        **_CREATED,
    },
    is_implied_by=frozenset({"deals"}),
    may_be_absent=True,
)

DEAL_LINES: Final = StreamSpec(
    "deal_lines",
    "OpportunityLineItem",
    {
        "deal": _required("OpportunityId"),
        "product": _from("Product2.Name"),
        "quantity": _from("Quantity"),
        "unit_price": _from("UnitPrice"),
        "total": _from("TotalPrice"),
        "currency": _from("CurrencyIsoCode"),
        **_CREATED,
    },
    may_lack=frozenset({"currency"}),
    is_implied_by=frozenset({"deals"}),
    may_be_absent=True,
)

CAMPAIGN_MEMBERS: Final = StreamSpec(
    "campaign_members",
    "CampaignMember",
    {
        "campaign": _required("CampaignId"),
        "contact": _from("ContactId"),
        "lead": _from("LeadId"),
        "status": _from("Status"),
        "at": _required("CreatedDate"),
        **_CREATED,
    },
    may_be_absent=True,
)

TICKETS: Final = StreamSpec(
    "tickets",
    "Case",
    {
        "subject": _from("Subject"),
        "account": _from("AccountId"),
        "contact": _from("ContactId"),
        "owner": _required("OwnerId"),
        "category": _from("Reason"),
        "type": _from("Type"),
        "priority": FieldSource("Priority", values=_PRIORITY),
        "pipeline": _from("RecordTypeId"),
        "status": _from("Status"),
        "is_closed": _required("IsClosed"),
        "closed_at": _from("ClosedDate"),
        **_CREATED,
    },
    may_lack=frozenset({"pipeline"}),
    may_be_absent=True,
)

TICKET_STATUS_CHANGES: Final = StreamSpec(
    "ticket_status_changes",
    "CaseHistory",
    {
        "ticket": _required("CaseId"),
        "status": _required("NewValue"),
        "at": _required("CreatedDate"),
        **_CREATED,
    },
    only="Field = 'Status'",
    is_implied_by=frozenset({"tickets"}),
    may_be_absent=True,
)

SURVEY_RESPONSES: Final = StreamSpec(
    "survey_responses",
    "",
    {"submitted_at": _required("CreatedDate"), **_CREATED},
    needs=("score",),
)

CONTRACTS: Final = StreamSpec(
    "contracts",
    "Contract",
    {
        "account": _from("AccountId"),
        "start_date": _from("StartDate"),
        "end_date": _from("EndDate"),
        "currency": _from("CurrencyIsoCode"),
        **_CREATED,
    },
    may_lack=frozenset({"currency"}),
    may_be_absent=True,
)

EMAIL_STATISTICS: Final = StreamSpec(
    "email_statistics",
    "",
    {**_CREATED},
    needs=("email", "date"),
)

COSTS: Final = StreamSpec(
    "costs",
    "",
    {"currency": _from("CurrencyIsoCode"), **_CREATED},
    may_lack=frozenset({"currency"}),
    needs=("date", "amount"),
)

SPECS: Final[Mapping[str, StreamSpec]] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            OWNERS, STAGES, RATES, ACCOUNTS, CONTACTS, LEADS, CAMPAIGNS, DEALS,
            DEAL_STAGE_CHANGES, DEAL_CONTACTS, DEAL_LINES, CAMPAIGN_MEMBERS, TICKETS,
            TICKET_STATUS_CHANGES, SURVEY_RESPONSES, CONTRACTS, EMAIL_STATISTICS, COSTS,
        )
    }
)  # fmt: skip
"""In the order in which to pull them."""

_ON_WITHOUT_SETTINGS: Final = ("accounts", "deals")
_PARENT_OF_HISTORY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "deal_stage_changes": "deals",
        "deal_contacts": "deals",
        "deal_lines": "deals",
        "ticket_status_changes": "tickets",
    }
)


def streams_of(settings: ConnectionSettings) -> tuple[Stream, ...]:
    """The streams of a connection in pulling order, implied ones included.

    Raises:
        MisconfiguredConnection: a stream is configured that cannot be read as it stands.
    """
    unknown = sorted(set(settings.streams) - set(SPECS))
    if unknown:
        raise MisconfiguredConnection(
            settings.name,
            f"The Salesforce connector does not read {', '.join(unknown)}; it reads"
            f" {', '.join(SPECS)}. Remove the rest from connections.{settings.name}.streams.",
        )
    wanted = set(settings.streams or _ON_WITHOUT_SETTINGS)
    if settings.gives_rates:
        wanted.add("rates")
    return tuple(
        Stream(spec.name, object_of(settings, spec.name), (spec.name,))
        for spec in SPECS.values()
        if spec.name in wanted or _is_implied(settings, spec, wanted)
    )


def _is_implied(settings: ConnectionSettings, spec: StreamSpec, wanted: set[str]) -> bool:
    if spec.is_implied_by.isdisjoint(wanted):
        return False
    parent = _PARENT_OF_HISTORY.get(spec.name)
    # An object of one's own in the place of opportunities or cases has no such history.
    return parent is None or object_of(settings, parent) == SPECS[parent].object


def object_of(settings: ConnectionSettings, stream: str) -> str:
    """The object that a stream is read from.

    Raises:
        MisconfiguredConnection: Salesforce has none of its own and none is configured.
    """
    named = stream_settings(settings, stream).object or SPECS[stream].object
    if not named:
        raise MisconfiguredConnection(
            settings.name,
            f"connections.{settings.name}.streams.{stream}.object is missing: Salesforce has no"
            f" standard object for {stream}. Name yours, such as Survey_Response__c, and map"
            f" {', '.join(SPECS[stream].needs)} in fields.",
        )
    return named


def default_objects(settings: ConnectionSettings) -> Mapping[str, str]:
    """Stream -> object, for every stream that has one."""
    named = {
        name: stream_settings(settings, name).object or spec.object for name, spec in SPECS.items()
    }
    return {name: found for name, found in named.items() if found}


def stream_settings(settings: ConnectionSettings, stream: str) -> StreamSettings:
    """What the configuration says of a stream."""
    return settings.streams.get(stream, StreamSettings())


def spec_of(settings: ConnectionSettings, stream: str) -> StreamSpec:
    """The stream's own rules under this configuration.

    Raises:
        MisconfiguredConnection: a field is not mapped that only the configuration can map.
    """
    spec, said = SPECS[stream], stream_settings(settings, stream)
    missing = [name for name in spec.needs if name not in said.fields]
    if missing:
        raise MisconfiguredConnection(
            settings.name,
            f"connections.{settings.name}.streams.{stream}.fields lacks {', '.join(missing)}:"
            f" say which field of {object_of(settings, stream)} holds it.",
        )
    if stream == "campaign_members" and said.touch == "responded":
        return replace(spec, fields={**spec.fields, "at": _required("FirstRespondedDate")})
    return spec
