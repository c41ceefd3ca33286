"""Salesforce's objects as canonical streams: every stream the KPIs are computed from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType

import pytest

from connectors.base import (
    ConnectionSettings,
    Connector,
    CountsRecords,
    FieldSource,
    ListsIds,
    StreamSettings,
)
from connectors.contract.copies import Copy, stream_of
from connectors.errors import MisconfiguredConnection, StreamPaused
from connectors.registry import connect
from store.canonical import (
    Campaign,
    CampaignMember,
    CanonicalRecord,
    Contact,
    Contract,
    Cost,
    Deal,
    DealContact,
    DealLine,
    Lead,
    Owner,
    Rate,
    Stage,
    SurveyResponse,
    Ticket,
    TicketStatusChange,
)
from tests.contract.connectors.salesforce_org import SalesforceOrg
from tests.fixtures.sandboxes import Crm, Sandbox, launch

PLAIN = StreamSettings()
LATE = timedelta(hours=1)
ALL = MappingProxyType(
    dict.fromkeys(
        (
            "accounts", "contacts", "leads", "deals", "campaigns", "campaign_members", "tickets",
            "contracts",
        ),
        PLAIN,
    )
)  # fmt: skip


@pytest.fixture
def org(sandbox: Sandbox) -> SalesforceOrg:
    return SalesforceOrg(sandbox.salesforce)


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    """One sandbox for tests whose records do not meet."""
    started = launch()
    yield started
    started.end()


@pytest.fixture
def shared(running: Sandbox) -> SalesforceOrg:
    return SalesforceOrg(running.salesforce)


def read(
    org: SalesforceOrg,
    stream: str,
    *,
    settings: ConnectionSettings | None = None,
    copy: Copy | None = None,
    **own: StreamSettings,
) -> Copy:
    """Pull a stream once and have what came."""
    connector = connect(settings or org.settings(streams={**ALL, **own}))
    copy = copy or Copy()
    copy.pull(connector, stream)
    return copy


def one(copy: Copy, native_id: str) -> CanonicalRecord:
    return copy.records[native_id]


def deal_in(crm: Crm, **fields: str | float | None) -> str:
    base = {"Name": "Deal", "StageName": "Prospecting", "CloseDate": "2026-12-31"}
    return crm.create("Opportunity", {**base, **fields})


# ---------------------------------------------------------------- people and companies


def test_users_and_queues_own_records(shared: SalesforceOrg) -> None:
    crm = shared.crm
    user = crm.create("User", {"Name": "Rep 07", "Email": "rep07@sandbox.example"})
    queue = crm.create(
        "Group", {"Name": "Hotline", "Type": "Queue", "Email": "hot@sandbox.example"}
    )
    crm.create("Group", {"Name": "All of us", "Type": "Regular"})

    owners = read(shared, "owners")

    rep = one(owners, user)
    assert isinstance(rep, Owner)
    assert (rep.name, rep.email, rep.is_active) == ("Rep 07", "rep07@sandbox.example", True)
    hotline = one(owners, queue)
    assert isinstance(hotline, Owner)
    assert (queue[:3], hotline.name, hotline.email) == ("00G", "Hotline", "hot@sandbox.example")
    assert "All of us" not in owners.names()


def test_contacts_know_their_account(shared: SalesforceOrg) -> None:
    (account,) = shared.add_accounts(["Account 0001"])
    fields = {"FirstName": "Contact", "LastName": "12", "Email": "c12@sandbox.example"}
    contact = shared.crm.create("Contact", {**fields, "AccountId": account, "LeadSource": "Web"})
    alone = shared.crm.create("Contact", {"LastName": "Alone"})

    contacts = read(shared, "contacts")

    found = one(contacts, contact)
    assert isinstance(found, Contact)
    assert (found.name, found.email, found.source, found.account) == (
        "Contact 12",
        "c12@sandbox.example",
        "Web",
        f"salesforce:{account}",
    )
    lonely = one(contacts, alone)
    assert isinstance(lonely, Contact)
    assert lonely.account is None


def test_a_converted_lead_names_what_it_became(shared: SalesforceOrg) -> None:
    lead = shared.crm.create("Lead", {"LastName": "Lead 3", "Company": "Account 0003"})
    before = read(shared, "leads")
    made = shared.crm.admin("convert_lead", lead=lead, opportunity="First deal")

    leads = read(shared, "leads")

    open_lead = one(before, lead)
    assert isinstance(open_lead, Lead)
    assert (open_lead.converted_at, open_lead.converted_deal) == (None, None)
    found = one(leads, lead)
    assert isinstance(found, Lead)
    assert found.converted_account == f"salesforce:{made['account']}"
    assert found.converted_contact == f"salesforce:{made['contact']}"
    assert found.converted_deal == f"salesforce:{made['opportunity']}"
    # ConvertedDate is a calendar day: midnight of the company's zone, not of UTC.
    assert found.converted_at is not None
    day = shared.crm.record("Lead", lead)["fields"]
    assert isinstance(day, dict)
    local = found.converted_at.astimezone(shared.settings().company.timezone)
    assert (str(local.date()), local.hour) == (day["ConvertedDate"], 0)


def test_a_person_account_is_counted_once(org: SalesforceOrg) -> None:
    org.crm.settings(person_accounts=True)
    kind = org.crm.admin("record_type", object="Account", name="Person", is_person=True)["id"]
    person = org.crm.create("Account", {"LastName": "Person 1", "RecordTypeId": str(kind)})
    contact = org.crm.create("Contact", {"LastName": "Contact 1"})
    settings = org.settings(streams=ALL)

    accounts, contacts = read(org, "accounts"), read(org, "contacts")

    assert person in accounts.live
    assert set(contacts.live) == {contact}
    (shadow,) = set(contacts.records) - {contact}
    assert contacts.records[shadow].merged_into == f"salesforce:{person}"
    connector = connect(settings)
    assert counted(connector, "contacts") == 1
    assert listed(connector, "contacts") == {contact}


# ---------------------------------------------------------------- deals and their parts


def test_contact_roles_and_lines_of_deals(shared: SalesforceOrg) -> None:
    crm = shared.crm
    contact = crm.create("Contact", {"LastName": "Contact 1"})
    book = crm.create("Pricebook2", {"Name": "Book", "IsActive": True})
    product = crm.create("Product2", {"Name": "Pump 3", "IsActive": True})
    entry = crm.create(
        "PricebookEntry",
        {"Pricebook2Id": book, "Product2Id": product, "UnitPrice": 12.5, "IsActive": True},
    )
    deal = deal_in(crm, Pricebook2Id=book)
    role = crm.create(
        "OpportunityContactRole",
        {"OpportunityId": deal, "ContactId": contact, "Role": "Decision Maker", "IsPrimary": True},
    )
    line = crm.create(
        "OpportunityLineItem",
        {"OpportunityId": deal, "PricebookEntryId": entry, "Quantity": 3, "UnitPrice": 12.5},
    )

    roles, lines = read(shared, "deal_contacts"), read(shared, "deal_lines")

    found = one(roles, role)
    assert isinstance(found, DealContact)
    assert (found.deal, found.contact, found.role, found.is_primary) == (
        f"salesforce:{deal}",
        f"salesforce:{contact}",
        "Decision Maker",
        True,
    )
    item = one(lines, line)
    assert isinstance(item, DealLine)
    assert (item.deal, item.product, item.quantity, item.unit_price, item.total) == (
        f"salesforce:{deal}",
        "Pump 3",
        Decimal(3),
        Decimal("12.5"),
        Decimal("37.5"),
    )


def test_record_types_are_pipelines_with_names(org: SalesforceOrg) -> None:
    kind = org.crm.admin("record_type", object="Opportunity", name="Renewal deals")["id"]
    renewal, plain = deal_in(org.crm, RecordTypeId=str(kind)), deal_in(org.crm)

    deals, stages = read(org, "deals"), read(org, "stages")

    found = one(deals, renewal)
    assert isinstance(found, Deal)
    assert found.pipeline == f"salesforce:{kind}"
    other = one(deals, plain)
    assert isinstance(other, Deal)
    assert other.pipeline == "salesforce:default"
    labels = {
        stage.pipeline: stage.pipeline_label
        for stage in stages.records.values()
        if isinstance(stage, Stage)
    }
    assert labels[found.pipeline] == "Renewal deals"
    assert labels["salesforce:default"] == "Default"


@pytest.mark.parametrize("pipeline", ["Renewal deals", "Renewal_deals", "id"])
def test_only_the_pipelines_asked_for_are_read(org: SalesforceOrg, pipeline: str) -> None:
    kind = str(org.crm.admin("record_type", object="Opportunity", name="Renewal deals")["id"])
    renewal, _ = deal_in(org.crm, RecordTypeId=kind), deal_in(org.crm)
    wanted = StreamSettings(pipelines=(kind if pipeline == "id" else pipeline,))

    deals = read(org, "deals", deals=wanted)

    assert set(deals.records) == {renewal}


def test_stage_changes_come_from_tracked_fields_where_snapshots_are_closed(
    org: SalesforceOrg,
) -> None:
    org.crm.settings(track_fields={"Opportunity": ["StageName", "Amount"]})
    deal = deal_in(org.crm, Amount=5)
    org.crm.edit("Opportunity", deal, {"StageName": "Qualification", "Amount": 7})
    org.crm.settings(hide_objects=["OpportunityHistory"])

    changes = read(org, "deal_stage_changes")

    stages = [getattr(change, "stage", None) for change in changes.records.values()]
    assert stages == ["salesforce:Qualification"]
    assert any("OpportunityFieldHistory" in warning for warning in changes.warnings)


# ---------------------------------------------------------------- marketing


def test_campaigns_and_their_members(shared: SalesforceOrg) -> None:
    crm = shared.crm
    campaign = crm.create(
        "Campaign",
        {
            "Name": "Campaign 5", "Type": "Email", "Status": "Completed", "ActualCost": 120.5,
            "BudgetedCost": 200, "StartDate": "2026-03-01", "EndDate": "2026-03-31",
        },
    )  # fmt: skip
    contact = crm.create("Contact", {"LastName": "Contact 1"})
    lead = crm.create("Lead", {"LastName": "Lead 1", "Company": "Account 0001"})
    sent = crm.create("CampaignMember", {"CampaignId": campaign, "ContactId": contact})
    answered = crm.create("CampaignMember", {"CampaignId": campaign, "LeadId": lead})
    crm.edit("CampaignMember", answered, {"Status": "Responded"})

    campaigns = read(shared, "campaigns")
    members = read(shared, "campaign_members")
    touch = StreamSettings(touch="responded")
    responses = read(shared, "campaign_members", campaign_members=touch)

    found = one(campaigns, campaign)
    assert isinstance(found, Campaign)
    assert (found.channel, found.status, found.cost, found.budget) == (
        "Email",
        "Completed",
        Decimal("120.5"),
        Decimal(200),
    )
    assert (found.start_date, found.end_date) == (date(2026, 3, 1), date(2026, 3, 31))
    first = one(members, sent)
    assert isinstance(first, CampaignMember)
    assert (first.campaign, first.contact) == (f"salesforce:{campaign}", f"salesforce:{contact}")
    assert first.at == first.created_at
    assert sent not in responses.records
    response = one(responses, answered)
    assert isinstance(response, CampaignMember)
    assert response.lead == f"salesforce:{lead}"
    assert response.at.astimezone(shared.settings().company.timezone).hour == 0


def test_a_response_taken_back_is_no_touch_any_more(org: SalesforceOrg) -> None:
    campaign = org.crm.create("Campaign", {"Name": "Campaign 5"})
    contact = org.crm.create("Contact", {"LastName": "Contact 1"})
    member = org.crm.create("CampaignMember", {"CampaignId": campaign, "ContactId": contact})
    org.crm.edit("CampaignMember", member, {"Status": "Responded"})
    touch = StreamSettings(touch="responded")
    members = read(org, "campaign_members", campaign_members=touch)
    assert set(members.live) == {member}
    org.crm.admin("put_silently", object="CampaignMember", id=member,
                  fields={"FirstRespondedDate": None, "HasResponded": False})  # fmt: skip
    org.crm.admin("touch", object="CampaignMember", id=member)

    read(org, "campaign_members", copy=members, campaign_members=touch)

    assert members.live == {}


# ---------------------------------------------------------------- service


def test_tickets_and_their_status_changes(shared: SalesforceOrg) -> None:
    crm = shared.crm
    (account,) = shared.add_accounts(["Account 0001"])
    ticket = crm.create(
        "Case", {"Subject": "Broken", "AccountId": account, "Priority": "High", "Status": "New"}
    )
    crm.edit("Case", ticket, {"Status": "Closed"})

    tickets, changes = read(shared, "tickets"), read(shared, "ticket_status_changes")
    stages = read(shared, "stages")

    found = one(tickets, ticket)
    assert isinstance(found, Ticket)
    assert (found.subject, found.account, found.priority, found.status, found.is_closed) == (
        "Broken",
        f"salesforce:{account}",
        "high",
        "Closed",
        True,
    )
    assert found.closed_at is not None
    of_ticket = [
        change
        for change in changes.records.values()
        if isinstance(change, TicketStatusChange) and change.ticket == f"salesforce:{ticket}"
    ]
    assert [(change.status, change.is_closed) for change in of_ticket] == [("Closed", True)]
    labels = {stage.label for stage in stages.records.values() if isinstance(stage, Stage)}
    assert {"New", "Closed", "Prospecting"} <= labels


def test_contracts_survey_answers_and_costs_of_custom_objects(org: SalesforceOrg) -> None:
    crm = org.crm
    (account,) = org.add_accounts(["Account 0001"])
    contract = crm.create(
        "Contract", {"AccountId": account, "StartDate": "2026-01-01", "ContractTerm": 12}
    )
    crm.admin(
        "add_object",
        name="Survey_Response__c",
        fields=[
            {"name": "Score__c", "type": "double"},
            {"name": "Submitted__c", "type": "datetime"},
            {"name": "Account__c", "type": "reference", "to": ["Account"]},
        ],
    )
    answer = crm.create(
        "Survey_Response__c",
        {"Score__c": 9, "Submitted__c": "2026-05-04T10:00:00Z", "Account__c": account[:15]},
    )
    crm.admin(
        "add_object",
        name="Spending__c",
        fields=[{"name": "Day__c", "type": "date"}, {"name": "Sum__c", "type": "currency"}],
    )
    cost = crm.create("Spending__c", {"Day__c": "2026-05-04", "Sum__c": 99.5})
    surveys = StreamSettings(
        object="Survey_Response__c",
        fields={
            "score": FieldSource("Score__c"),
            "submitted_at": FieldSource("Submitted__c"),
            "account": FieldSource("Account__c"),
        },
    )
    costs = StreamSettings(
        object="Spending__c",
        fields={"date": FieldSource("Day__c"), "amount": FieldSource("Sum__c")},
    )

    found = read(org, "contracts"), read(org, "survey_responses", survey_responses=surveys)
    spent = read(org, "costs", costs=costs)

    signed = one(found[0], contract)
    assert isinstance(signed, Contract)
    assert (signed.account, signed.start_date) == (f"salesforce:{account}", date(2026, 1, 1))
    nps = one(found[1], answer)
    assert isinstance(nps, SurveyResponse)
    assert (nps.score, nps.account) == (Decimal(9), f"salesforce:{account}")
    assert nps.submitted_at == datetime(2026, 5, 4, 10, tzinfo=UTC)
    money = one(spent, cost)
    assert isinstance(money, Cost)
    assert (money.date, money.amount) == (date(2026, 5, 4), Decimal("99.5"))


def test_costs_say_what_has_to_be_mapped(shared: SalesforceOrg) -> None:
    costs = StreamSettings(object="Campaign", fields={"date": FieldSource("StartDate")})

    with pytest.raises(MisconfiguredConnection, match=r"costs\.fields lacks amount"):
        read(shared, "costs", costs=costs)


# ---------------------------------------------------------------- currencies


def rates(org: SalesforceOrg, copy: Copy | None = None) -> Mapping[tuple[str, date], Decimal]:
    settings = replace(org.settings(streams=ALL), gives_rates=True)
    found = read(org, "rates", settings=settings, copy=copy)
    return {
        (rate.currency, rate.date): rate.rate
        for rate in found.records.values()
        if isinstance(rate, Rate)
    }


def test_rates_are_in_units_of_the_companys_currency(org: SalesforceOrg) -> None:
    # The company keeps its books in EUR, the org's corporate currency is USD.
    org.crm.settings(multi_currency={"corporate": "USD", "rates": {"EUR": 0.8, "GBP": 0.5}})

    found = rates(org)

    standing = date(1900, 1, 1)
    assert found == {("USD", standing): Decimal("0.8"), ("GBP", standing): Decimal("1.6")}


def test_dated_rates_begin_on_their_days(org: SalesforceOrg) -> None:
    org.crm.settings(multi_currency={"corporate": "EUR", "rates": {"USD": 1.25}, "dated": True})
    for day, rate in (("2026-01-01", 2), ("2026-07-01", 1.6)):
        org.crm.create(
            "DatedConversionRate", {"IsoCode": "USD", "StartDate": day, "ConversionRate": rate}
        )

    found = rates(org)

    assert found[("USD", date(2026, 1, 1))] == Decimal("0.5")
    assert found[("USD", date(2026, 7, 1))] == Decimal("0.625")


def test_records_keep_their_own_currency(org: SalesforceOrg) -> None:
    org.crm.settings(multi_currency={"corporate": "USD", "rates": {"EUR": 0.8}})
    deal = deal_in(org.crm, Amount=10, CurrencyIsoCode="EUR")

    deals = read(org, "deals")

    found = one(deals, deal)
    assert isinstance(found, Deal)
    assert (found.amount, found.currency) == (Decimal(10), "EUR")


def test_an_org_of_one_currency_has_no_rates_and_says_so(shared: SalesforceOrg) -> None:
    copy = Copy()

    assert rates(shared, copy) == {}

    assert copy.complete_until is not None
    assert any("CurrencyType" in warning for warning in copy.warnings)


# ---------------------------------------------------------------- what is not there


@pytest.mark.parametrize(
    ("stream", "objects"),
    [
        ("campaigns", ["Campaign", "CampaignMember"]),
        ("deal_lines", ["OpportunityLineItem"]),
        ("tickets", ["Case"]),
    ],
)
def test_an_object_without_its_licence_switches_its_stream_off(
    org: SalesforceOrg, stream: str, objects: list[str]
) -> None:
    org.crm.settings(hide_objects=objects)

    copy = read(org, stream)

    assert (copy.records, copy.complete_until is not None) == ({}, True)
    (warning,) = copy.warnings
    assert objects[0] in warning
    assert "switched off" in warning


def test_an_object_that_comes_back_is_read_from_its_beginning(org: SalesforceOrg) -> None:
    campaign = org.crm.create("Campaign", {"Name": "Campaign 5"})
    org.crm.settings(hide_objects=["Campaign"])
    org.crm.clock(advance=86_400)
    copy = read(org, "campaigns")
    org.crm.settings(show_objects=["Campaign"])

    read(org, "campaigns", copy=copy)

    assert set(copy.live) == {campaign}


def test_an_object_that_disappears_pauses_its_stream(org: SalesforceOrg) -> None:
    org.crm.create("Campaign", {"Name": "Campaign 5"})
    copy = read(org, "campaigns")
    org.crm.settings(hide_objects=["Campaign"])

    with pytest.raises(StreamPaused, match=r"Campaign.*could be read before"):
        read(org, "campaigns", copy=copy)


def test_a_misspelt_object_is_a_fault(shared: SalesforceOrg) -> None:
    with pytest.raises(MisconfiguredConnection, match="Kampagne__c"):
        read(shared, "campaigns", campaigns=StreamSettings(object="Kampagne__c"))


# ---------------------------------------------------------------- merges


def test_children_of_a_merged_account_follow_it(org: SalesforceOrg) -> None:
    winner, loser = org.add_accounts(["Winner", "Loser"])
    deal = deal_in(org.crm, AccountId=loser)
    org.crm.clock(advance=86_400)
    connector = connect(org.settings(streams=ALL))
    accounts, deals = Copy(), Copy()
    accounts.pull(connector, "accounts")
    deals.pull(connector, "deals")
    org.crm.merge("Account", winner, [loser])

    accounts.pull(connector, "accounts")
    deals.pull(connector, "deals")

    assert accounts.records[loser].merged_into == f"salesforce:{winner}"
    found = one(deals, deal)
    assert isinstance(found, Deal)
    assert found.account == f"salesforce:{winner}"


# ---------------------------------------------------------------- describes


def test_each_stream_describes_its_own_object_once_a_run(shared: SalesforceOrg) -> None:
    connector = connect(shared.settings(streams=ALL))
    copies = {stream.name: Copy() for stream in connector.streams()}
    for name, copy in copies.items():
        copy.pull(connector, name)
    shared.crm.forget()

    for name, copy in copies.items():
        copy.pull(connector, name)

    described = [
        str(one["path"]).split("/")[-2]
        for one in shared.crm.requests()
        if str(one["path"]).endswith("/describe")
    ]
    assert len(described) == len(set(described)) == len(copies) - 1  # stages need none


def test_a_parents_new_field_is_found_at_once(org: SalesforceOrg) -> None:
    (account,) = org.add_accounts(["Account 0001"])
    deal = deal_in(org.crm, AccountId=account)
    fields = {"region": FieldSource("Account.Region__c")}
    connector = connect(org.settings(streams={"deals": StreamSettings(fields=fields)}))
    Copy().pull(connector, "deals")
    org.crm.add_field("Account", "Region__c", "text")
    org.crm.edit("Account", account, {"Region__c": "North"})
    deals = Copy()

    deals.pull(connector, "deals")

    found = one(deals, deal)
    assert isinstance(found, Deal)
    assert found.region == "North"


# ---------------------------------------------------------------- counting and listing


def counted(connector: Connector, stream: str) -> int | None:
    assert isinstance(connector, CountsRecords)
    until = datetime.now(UTC) + LATE
    return connector.count(stream_of(connector, stream), until)


def listed(connector: Connector, stream: str) -> set[str]:
    assert isinstance(connector, ListsIds)
    pages = connector.ids(stream_of(connector, stream))
    assert pages is not None
    return {ref.native_id for page in pages for ref in page.refs}


def test_stages_need_no_column_of_their_changes(org: SalesforceOrg) -> None:
    described = {
        "name": "OpportunityStage",
        "fields": [{"name": "Id", "type": "id"}, {"name": "ApiName", "type": "string"}],
    }
    body = json.dumps(described)
    org.crm.fault(
        "status", status=200, path="OpportunityStage/describe", body=body, times="forever"
    )
    connector = connect(org.settings())
    stages = Copy()

    stages.pull(connector, "stages")

    assert "salesforce:Prospecting" in {record.ref.key for record in stages.records.values()}
    assert connector.check().is_ok
