"""What two CRMs hold, read from them directly: records, links and histories in one shape.

Nothing here uses the product: what it says of a customer is checked against this.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from tests.fixtures.sandboxes import Crm, Sandbox

FIRST, SECOND = "salesforce", "hubspot"
ZONE: Final = ZoneInfo("Europe/Berlin")
TOKEN: Final = "pat-na1-sandbox"
LINKS_AT_ONCE, HISTORIES_AT_ONCE = 500, 50

Value: TypeAlias = str | int | float | bool | None
Row: TypeAlias = Mapping[str, object]


@dataclass(frozen=True)
class Link:
    """The key of another record."""

    stream: str
    key: str


@dataclass
class Seen:
    """A record of either CRM, in the words of Salesforce."""

    stream: str
    key: str
    created: str
    fields: dict[str, Value | Link | None]
    is_gone: bool
    merged_into: str | None = None
    steps: list[tuple[str, str]] = field(default_factory=list)
    """When it entered which stage or status."""
    proofs: dict[str, str] = field(default_factory=dict)
    """What shows who it is: domain, email, twin (the id of a record of Salesforce)."""

    @property
    def crm(self) -> str:
        return self.key.partition(":")[0]

    @property
    def is_alive(self) -> bool:
        return not self.is_gone and self.merged_into is None


Company: TypeAlias = dict[tuple[str, str], Seen]
"""(stream, key) -> record."""


def read_both(sandbox: Sandbox) -> Company:
    """Everything that KPIs are made of, in both CRMs."""
    found: Company = {}
    for one in (*_of_salesforce(sandbox.salesforce), *_of_hubspot(sandbox.hubspot)):
        found[one.stream, one.key] = one
    return found


# ---------------------------------------------------------------- Salesforce

STEP_FIELDS: Final[Mapping[str, str]] = {"deals": "StageName", "tickets": "Status"}
OBJECTS: Final[Mapping[str, str]] = {
    "accounts": "Account",
    "contacts": "Contact",
    "campaigns": "Campaign",
    "deals": "Opportunity",
    "deal_contacts": "OpportunityContactRole",
    "leads": "Lead",
    "campaign_members": "CampaignMember",
    "tickets": "Case",
    "survey_responses": "Survey_Response__c",
    "contracts": "Contract",
    "email_statistics": "Email_Day__c",
}
"""Stream -> object; in the order in which records can be created."""
PLAIN: Final[Mapping[str, tuple[str, ...]]] = {
    "accounts": ("Name", "Region__c", "Segment__c"),
    "contacts": ("LastName", "Email"),
    "leads": (
        "LastName", "Company", "Email", "LeadSource", "Status", "IsConverted", "ConvertedDate",
        "Qualified_At__c",
    ),
    "campaigns": ("Name", "Type", "Status", "StartDate", "EndDate", "ActualCost", "BudgetedCost"),
    "campaign_members": ("Status", "HasResponded"),
    "deals": (
        "Name", "Amount", "CloseDate", "Type", "LeadSource", "Product__c", "Region__c",
        "Segment__c", "Lost_Reason__c",
    ),
    "deal_contacts": (),
    "tickets": ("Subject", "Type", "Priority", "Origin", "First_Response__c"),
    "survey_responses": ("Kind__c", "Score__c", "Submitted_At__c"),
    "contracts": ("StartDate", "ContractTerm", "Status", "Amount__c"),
    "email_statistics": (),
}  # fmt: skip
LINKED: Final[Mapping[str, Mapping[str, str]]] = {
    "accounts": {"OwnerId": "owners"},
    "contacts": {"OwnerId": "owners", "AccountId": "accounts"},
    "leads": {
        "OwnerId": "owners",
        "ConvertedAccountId": "accounts",
        "ConvertedContactId": "contacts",
        "ConvertedOpportunityId": "deals",
    },
    "campaigns": {},
    "campaign_members": {
        "CampaignId": "campaigns",
        "ContactId": "contacts",
        "LeadId": "leads",
    },
    "deals": {"OwnerId": "owners", "AccountId": "accounts", "CampaignId": "campaigns"},
    "deal_contacts": {"OpportunityId": "deals", "ContactId": "contacts"},
    "tickets": {"OwnerId": "owners", "AccountId": "accounts", "ContactId": "contacts"},
    "survey_responses": {"Account__c": "accounts", "Contact__c": "contacts"},
    "contracts": {"AccountId": "accounts"},
    "email_statistics": {},
}
EMAIL_COUNTERS: Final[Mapping[str, str]] = {
    "sent": "Sent__c",
    "delivered": "Delivered__c",
    "open": "Opens__c",
    "click": "Clicks__c",
    "unsubscribed": "Unsubscribes__c",
    "bounce": "Bounces__c",
}
"""What the portal counts of an e-mail each day -> where the org that holds all keeps it."""


def _of_salesforce(crm: Crm) -> Iterator[Seen]:
    content = crm.snapshot()
    for row in content["User"]:
        yield _owner(FIRST, row, str(_fields(row)["Username"]))
    history = _steps(content, "OpportunityHistory", "OpportunityId", "StageName")
    history |= _steps(
        {"CaseHistory": [it for it in content["CaseHistory"] if _fields(it)["Field"] == "Status"]},
        "CaseHistory",
        "CaseId",
        "NewValue",
    )
    for stream, name in OBJECTS.items():
        for row in content.get(name, []):
            yield _salesforce_record(stream, row, history)


def _salesforce_record(stream: str, row: Row, history: Mapping[str, list[tuple[str, str]]]) -> Seen:
    held = _fields(row)
    fields: dict[str, Value | Link | None] = {name: held.get(name) for name in PLAIN[stream]}
    for name, to in LINKED[stream].items():
        linked = held.get(name)
        fields[name] = Link(to, f"{FIRST}:{linked}") if linked else None
    proofs: dict[str, str] = {}
    if stream == "accounts" and held.get("Website"):
        proofs["domain"] = registered(str(held["Website"]))
    if stream == "contacts" and held.get("Email"):
        proofs["email"] = str(held["Email"]).lower()
    if stream == "contracts":
        fields["Ends__c"] = held.get("EndDate")
    merged_into = row["merged_into"]
    record_id = str(row["id"])
    steps = history.get(record_id, [])
    if stream == "tickets":
        # The history of a case begins with its first change.
        steps = [(str(row["created"]), "New"), *steps]
    return Seen(
        stream,
        f"{FIRST}:{record_id}",
        str(row["created"]),
        fields,
        row["deleted"] is not None,
        f"{FIRST}:{merged_into}" if merged_into else None,
        steps if stream in STEP_FIELDS else [],
        proofs,
    )


def _steps(
    content: Mapping[str, Sequence[Row]], name: str, parent: str, value: str
) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for row in sorted(content.get(name, ()), key=lambda it: (str(it["created"]), str(it["id"]))):
        held = _fields(row)
        steps = found.setdefault(str(held[parent]), [])
        if not steps or steps[-1][1] != held[value]:
            steps.append((str(row["created"]), str(held[value])))
    return found


# ---------------------------------------------------------------- HubSpot

SOURCES: Final[Mapping[str, str]] = {
    "ORGANIC_SEARCH": "Web",
    "REFERRALS": "Partner Referral",
    "PAID_SEARCH": "Purchased List",
    "EMAIL_MARKETING": "Other",
    "OFFLINE": "Phone Inquiry",
}
DEAL_TYPES: Final = {
    "newbusiness": "New Customer",
    "existingbusiness": "Existing Customer - Upgrade",
}
CATEGORIES: Final = {
    "PRODUCT_ISSUE": "Problem",
    "GENERAL_INQUIRY": "Question",
    "FEATURE_REQUEST": "Feature Request",
}
ORIGINS: Final = {"EMAIL": "Email", "PHONE": "Phone", "FORM": "Web"}
TICKET_STATUSES: Final = {"1": "New", "2": "Working", "3": "Working", "4": "Closed"}


def _of_hubspot(crm: Crm) -> Iterator[Seen]:
    portal = _Portal(crm)
    for row in portal.content["owners"]:
        yield _owner(SECOND, row, str(_fields(row)["email"]))
    for row in portal.content["companies"]:
        yield portal.company(row)
    for row in portal.content["contacts"]:
        yield from portal.contact(row)
    for row in portal.content["campaigns"]:
        yield portal.campaign(row)
    for row in portal.content["deals"]:
        yield from portal.deal(row)
    for row in portal.content["tickets"]:
        yield portal.ticket(row)
    for row in portal.content.get("feedback_submissions", []):
        yield portal.answer(row)
    for row in portal.content.get("subscriptions", []):
        yield portal.contract(row)
    for row in portal.content["email_days"]:
        yield portal.email_day(row)


class _Portal:
    """One look at a portal."""

    def __init__(self, crm: Crm) -> None:
        self._url = crm.url
        self.content = crm.snapshot()
        self._links = {
            (name, to): self._linked(name, to)
            for name in ("deals", "tickets", "feedback_submissions")
            for to in ("companies", "contacts")
        }
        for name in ("contacts", "subscriptions"):
            self._links[name, "companies"] = self._linked(name, "companies")
        self._histories = {
            "deals": self._history("deals", "dealstage"),
            "tickets": self._history("tickets", "hs_pipeline_stage"),
        }

    def company(self, row: Row) -> Seen:
        held = _fields(row)
        proofs: dict[str, str] = {}
        if held.get("domain"):
            proofs["domain"] = registered(str(held["domain"]))
        if held.get("salesforceaccountid"):
            proofs["twin"] = f"{FIRST}:{long_id(str(held['salesforceaccountid']))}"
        fields: dict[str, Value | Link | None] = {
            "Name": held.get("name"),
            "Region__c": held.get("region"),
            "Segment__c": held.get("segment"),
            "OwnerId": _owner_link(held),
        }
        return self._seen("accounts", row, fields, proofs=proofs)

    def contact(self, row: Row) -> Iterator[Seen]:
        held = _fields(row)
        proofs: dict[str, str] = {}
        if held.get("email"):
            proofs["email"] = str(held["email"]).lower()
        if held.get("salesforcecontactid"):
            proofs["twin"] = f"{FIRST}:{long_id(str(held['salesforcecontactid']))}"
        account = self._one("contacts", row, "companies")
        person: dict[str, Value | Link | None] = {
            "LastName": held.get("lastname"),
            "Email": held.get("email"),
            "OwnerId": _owner_link(held),
        }
        yield self._seen("contacts", row, {**person, "AccountId": account}, proofs=proofs)
        began = held.get("hs_v2_date_entered_lead")
        if began:
            qualified = [
                str(at)
                for stage in ("marketingqualifiedlead", "salesqualifiedlead")
                if (at := held.get(f"hs_v2_date_entered_{stage}"))
            ]
            converted = held.get("hs_v2_date_entered_customer")
            lead: dict[str, Value | Link | None] = {
                **person,
                "Company": str(held.get("company") or "[not provided]"),
                "LeadSource": SOURCES.get(str(held.get("hs_analytics_source"))),
                "Status": "Open - Not Contacted",
                "Qualified_At__c": min(qualified) if qualified else None,
                "IsConverted": converted is not None,
                "ConvertedDate": str(converted)[:10] if converted else None,
                "ConvertedAccountId": account if converted else None,
                "ConvertedContactId": (
                    Link("contacts", f"{SECOND}:{row['id']}") if converted else None
                ),
                "ConvertedOpportunityId": None,
            }
            yield self._seen("leads", row, lead, created=str(began))

    def campaign(self, row: Row) -> Seen:
        held = _fields(row)
        spent = [
            float(str(_fields(it)["amount"]))
            for it in self.content["campaign_spend"]
            if _fields(it)["campaign"] == row["id"]
        ]
        fields: dict[str, Value | Link | None] = {
            "Name": held["hs_name"],
            "Type": None,
            "Status": "In Progress",
            "StartDate": held.get("hs_start_date"),
            "EndDate": held.get("hs_end_date"),
            "ActualCost": sum(spent) if spent else None,
            "BudgetedCost": None,
        }
        return self._seen("campaigns", row, fields)

    def deal(self, row: Row) -> Iterator[Seen]:
        held = _fields(row)
        closes = held.get("closedate")
        amount = held.get("amount")
        fields: dict[str, Value | Link | None] = {
            "Name": held.get("dealname"),
            "Amount": None if amount in (None, "") else float(str(amount)),
            "CloseDate": _local_day(str(closes)) if closes else None,
            "Type": DEAL_TYPES.get(str(held.get("dealtype"))),
            "LeadSource": SOURCES.get(str(held.get("hs_analytics_source"))),
            "Product__c": held.get("product"),
            "Region__c": held.get("region"),
            "Segment__c": held.get("segment"),
            "Lost_Reason__c": held.get("closed_lost_reason"),
            "OwnerId": _owner_link(held),
            "AccountId": self._one("deals", row, "companies"),
            "CampaignId": None,
        }
        twin = held.get("hs_salesforceopportunityid")
        proofs = {"twin": f"{FIRST}:{long_id(str(twin))}"} if twin else {}
        deal = self._seen("deals", row, fields, proofs=proofs)
        yield deal
        for person in self._links["deals", "contacts"].get(str(row["id"]), ()):
            contact = Link("contacts", f"{SECOND}:{person}")
            part = {"OpportunityId": Link("deals", deal.key), "ContactId": contact}
            key = f"{deal.key}-{person}"
            yield Seen("deal_contacts", key, deal.created, {**part}, not deal.is_alive)

    def ticket(self, row: Row) -> Seen:
        held = _fields(row)
        fields: dict[str, Value | Link | None] = {
            "Subject": held.get("subject"),
            "Type": CATEGORIES.get(str(held.get("hs_ticket_category"))),
            "Priority": str(held.get("hs_ticket_priority") or "").capitalize() or None,
            "Origin": ORIGINS.get(str(held.get("source_type"))),
            "First_Response__c": held.get("first_agent_reply_date"),
            "OwnerId": _owner_link(held),
            "AccountId": self._one("tickets", row, "companies"),
            "ContactId": self._one("tickets", row, "contacts"),
        }
        return self._seen("tickets", row, fields, created=str(held["createdate"]))

    def answer(self, row: Row) -> Seen:
        held = _fields(row)
        fields: dict[str, Value | Link | None] = {
            "Kind__c": held["hs_survey_type"],
            "Score__c": float(str(held["hs_value"])),
            "Submitted_At__c": held["hs_submission_timestamp"],
            "Account__c": self._one("feedback_submissions", row, "companies"),
            "Contact__c": self._one("feedback_submissions", row, "contacts"),
        }
        return self._seen("survey_responses", row, fields)

    def contract(self, row: Row) -> Seen:
        held = _fields(row)
        fields: dict[str, Value | Link | None] = {
            "StartDate": held["hs_recurring_billing_start_date"],
            "Ends__c": held["hs_recurring_billing_end_date"],
            "ContractTerm": 12,
            "Status": "Activated",
            "Amount__c": float(str(held["hs_recurring_revenue"])),
            "AccountId": self._one("subscriptions", row, "companies"),
        }
        return self._seen("contracts", row, fields)

    def email_day(self, row: Row) -> Seen:
        held = _fields(row)
        email = next(it for it in self.content["marketing_emails"] if it["id"] == held["email"])
        fields: dict[str, Value | Link | None] = {
            "Email__c": held["email"],
            "Campaign__c": Link("campaigns", f"{SECOND}:{_fields(email)['campaign']}"),
            "Day__c": held["day"],
        }
        counted = {mine: float(str(held[name])) for name, mine in EMAIL_COUNTERS.items()}
        return self._seen("email_statistics", row, {**fields, **counted})

    def _seen(
        self,
        stream: str,
        row: Row,
        fields: dict[str, Value | Link | None],
        *,
        created: str = "",
        proofs: dict[str, str] | None = None,
    ) -> Seen:
        merged_into = row["merged_into"]
        return Seen(
            stream,
            f"{SECOND}:{row['id']}",
            created or str(row["created"]),
            fields,
            row["deleted"] is not None,
            f"{SECOND}:{merged_into}" if merged_into else None,
            self._histories.get(stream, {}).get(str(row["id"]), []),
            proofs or {},
        )

    def _one(self, name: str, row: Row, to: str) -> Link | None:
        linked = self._links[name, to].get(str(row["id"]), ())
        stream = {"companies": "accounts", "contacts": "contacts"}[to]
        return Link(stream, f"{SECOND}:{linked[0]}") if linked else None

    def _linked(self, name: str, to: str) -> dict[str, list[str]]:
        """Id -> ids of records it is linked to, the primary one first."""
        found: dict[str, list[str]] = {}
        ids = [{"id": row["id"]} for row in self.content.get(name, ()) if row["deleted"] is None]
        for some in _portions(ids, LINKS_AT_ONCE):
            path = f"/crm/v4/associations/{name}/{to}/batch/read"
            for result in _list(self._post(path, {"inputs": some})["results"]):
                linked = sorted(_list(result["to"]), key=_is_second)
                found[str(_fields(result, "from")["id"])] = [str(it["toObjectId"]) for it in linked]
        return found

    def _history(self, name: str, field_name: str) -> dict[str, list[tuple[str, str]]]:
        stream = {"deals": "deals", "tickets": "tickets"}[name]
        found: dict[str, list[tuple[str, str]]] = {}
        ids = [{"id": row["id"]} for row in self.content.get(name, ()) if row["deleted"] is None]
        for some in _portions(ids, HISTORIES_AT_ONCE):
            body = {"inputs": some, "properties": [], "propertiesWithHistory": [field_name]}
            answer = self._post(f"/crm/v3/objects/{name}/batch/read", body)
            for result in _list(answer["results"]):
                held = _fields(result, "propertiesWithHistory")[field_name]
                steps: list[tuple[str, str]] = []
                for it in reversed(_list(held)):
                    value = stage_words(stream, str(it["value"]))
                    if not steps or steps[-1][1] != value:
                        steps.append((str(it["timestamp"]), value))
                found[str(result["id"])] = steps
        return found

    def _post(self, path: str, body: object) -> Row:
        request = urllib.request.Request(  # noqa: S310 - http on loopback
            self._url + path,
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
            content: Row = json.load(answer)
        return content


STAGES: Final[Mapping[str, str]] = {
    "".join(word.lower() for word in label.split()): label
    for label in (
        "Prospecting", "Qualification", "Proposal", "Negotiation", "Closed Won", "Closed Lost",
    )
}  # fmt: skip
"""Id of a stage in the portal -> its label there, which a stage of Salesforce has, too."""
SECOND_STAGE: Final = "{} there"
"""What the portal's stages are called beside those of Salesforce, in one list of stages."""


def stage_words(stream: str, native: str) -> str:
    """A stage or status of HubSpot as the org that holds all calls it."""
    if stream == "tickets":
        return TICKET_STATUSES[native]
    return SECOND_STAGE.format(STAGES[native])


# ---------------------------------------------------------------- both


def registered(address: str) -> str:
    """The registered domain of the addresses that occur here."""
    return address.removeprefix("https://").removeprefix("www.").strip("/").lower()


def long_id(native_id: str) -> str:
    """An id of Salesforce with 18 characters: the last three tell which of the 15 are capitals.

    https://help.salesforce.com/s/articleView?id=000383278
    """
    bits = [sum(c.isupper() << n for n, c in enumerate(native_id[s : s + 5])) for s in (0, 5, 10)]
    return native_id[:15] + "".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"[it] for it in bits)


def _owner(crm: str, row: Row, address: str) -> Seen:
    return Seen("owners", f"{crm}:{row['id']}", str(row["created"]), {"Email": address}, False)


def _owner_link(held: Mapping[str, Value]) -> Link | None:
    owner = held.get("hubspot_owner_id")
    return Link("owners", f"{SECOND}:{owner}") if owner else None


def _local_day(instant: str) -> str:
    return datetime.fromisoformat(instant).astimezone(ZONE).date().isoformat()


def _is_second(linked: Row) -> bool:
    return not any(it.get("label") == "Primary" for it in _list(linked["associationTypes"]))


def _fields(row: Row, name: str = "fields") -> Mapping[str, Value]:
    held = row[name]
    assert isinstance(held, dict)
    return held


def _list(content: object) -> list[Row]:
    assert isinstance(content, list)
    return content


def _portions(items: Sequence[Row], size: int) -> Iterable[Sequence[Row]]:
    return (items[start : start + size] for start in range(0, len(items), size))
