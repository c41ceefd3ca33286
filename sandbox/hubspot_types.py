"""The kinds of records a portal has, and how each may be named ("Using object APIs").

Type ids, and which property tells when a record was made or changed: "Using object APIs" and
"Search the CRM" guides. Contacts call the latter `lastmodifieddate`, everything else
`hs_lastmodifieddate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

CUSTOM_SCOPE = "custom"
FIRST_CUSTOM_ID = 1_001


@dataclass(frozen=True, slots=True)
class ObjectType:
    """One kind of record."""

    name: str
    """The plural one of paths, for a custom object its own name; the key in the portal."""
    singular: str
    type_id: str
    group: str
    """The property group of its standard properties."""
    defaults: tuple[str, ...]
    """The properties of an answer where none were asked for."""
    modified: str = "hs_lastmodifieddate"
    created: str = "hs_createdate"
    pipeline: str | None = None
    """The property that names the pipeline, where there are pipelines."""
    stage: str | None = None
    is_writable: bool = True
    hub: str = ""
    """The hub without which a portal does not have it."""
    unique: tuple[str, ...] = ()
    searched: tuple[str, ...] = ()
    """The properties in which `query` of a search looks."""
    history_depth: int = 20
    """Values kept of a property's past, as peers report it."""
    is_custom: bool = False
    label: str = ""

    @property
    def scope(self) -> str:
        """Its word in scopes: `crm.objects.<word>.read`."""
        return CUSTOM_SCOPE if self.is_custom else self.name

    @property
    def always(self) -> tuple[str, ...]:
        """The properties that come with every answer."""
        return (self.created, self.modified, "hs_object_id")


STANDARD_TYPES: tuple[ObjectType, ...] = (
    ObjectType(
        "contacts",
        "contact",
        "0-1",
        "contactinformation",
        (
            "createdate",
            "email",
            "firstname",
            "hs_object_id",
            "lastmodifieddate",
            "lastname",
        ),
        modified="lastmodifieddate",
        created="createdate",
        unique=("email",),
        searched=("firstname", "lastname", "email", "phone", "company"),
        history_depth=45,
    ),
    ObjectType(
        "companies",
        "company",
        "0-2",
        "companyinformation",
        ("createdate", "domain", "hs_lastmodifieddate", "hs_object_id", "name"),
        created="createdate",
        searched=("name", "domain", "website", "phone"),
    ),
    ObjectType(
        "deals",
        "deal",
        "0-3",
        "dealinformation",
        (
            "amount",
            "closedate",
            "createdate",
            "dealname",
            "dealstage",
            "hs_lastmodifieddate",
            "hs_object_id",
            "pipeline",
        ),
        created="createdate",
        pipeline="pipeline",
        stage="dealstage",
        searched=("dealname", "pipeline", "dealstage", "description", "dealtype"),
    ),
    ObjectType(
        "tickets",
        "ticket",
        "0-5",
        "ticketinformation",
        (
            "content",
            "createdate",
            "hs_lastmodifieddate",
            "hs_object_id",
            "hs_pipeline",
            "hs_pipeline_stage",
            "hs_ticket_category",
            "hs_ticket_priority",
            "subject",
        ),
        created="createdate",
        pipeline="hs_pipeline",
        stage="hs_pipeline_stage",
        searched=("subject", "content", "hs_pipeline_stage", "hs_ticket_category"),
    ),
    ObjectType(
        "products",
        "product",
        "0-7",
        "productinformation",
        ("createdate", "description", "hs_lastmodifieddate", "hs_object_id", "name", "price"),
        created="createdate",
        searched=("name", "description", "price", "hs_sku"),
    ),
    ObjectType(
        "line_items",
        "line_item",
        "0-8",
        "lineiteminformation",
        (
            "amount",
            "createdate",
            "hs_lastmodifieddate",
            "hs_object_id",
            "hs_product_id",
            "quantity",
        ),
        created="createdate",
        searched=("name", "description"),
    ),
    ObjectType(
        "feedback_submissions",
        "feedback_submission",
        "0-19",
        "feedbacksubmissioninformation",
        ("hs_createdate", "hs_lastmodifieddate", "hs_object_id"),
        is_writable=False,
        hub="service",
        searched=("hs_submission_name", "hs_content"),
    ),
    ObjectType(
        "invoices",
        "invoice",
        "0-53",
        "invoiceinformation",
        ("hs_createdate", "hs_lastmodifieddate", "hs_object_id"),
        hub="commerce",
    ),
    ObjectType(
        "subscriptions",
        "subscription",
        "0-69",
        "subscriptioninformation",
        ("hs_createdate", "hs_lastmodifieddate", "hs_object_id"),
        hub="commerce",
    ),
    ObjectType(
        "orders",
        "order",
        "0-123",
        "orderinformation",
        ("hs_createdate", "hs_lastmodifieddate", "hs_object_id"),
        pipeline="hs_pipeline",
        stage="hs_pipeline_stage",
        hub="commerce",
        searched=("hs_order_name",),
    ),
    ObjectType(
        "carts",
        "cart",
        "0-142",
        "cartinformation",
        ("hs_createdate", "hs_lastmodifieddate", "hs_object_id"),
        hub="commerce",
    ),
)


class ObjectTypes:
    """The kinds of one portal: the standard ones, and those its people defined."""

    def __init__(self, portal_id: int) -> None:
        self.portal_id = portal_id
        self._by_key: dict[str, ObjectType] = {}
        self._by_name: dict[str, ObjectType] = {}
        for one in STANDARD_TYPES:
            self._add(one, (one.name, one.singular, one.type_id))

    def __iter__(self) -> Iterator[ObjectType]:
        return iter(self._by_key.values())

    def __getitem__(self, key: str) -> ObjectType:
        """The type kept under this key; a KeyError for what is none (owners, campaigns)."""
        return self._by_key[key]

    def get(self, key: str) -> ObjectType | None:
        """The type kept under this key; None: there is none."""
        return self._by_key.get(key)

    def named(self, name: str) -> ObjectType | None:
        """The type that a path, a filter or a request calls so; None: nothing is called so."""
        return self._by_name.get(name)

    def define(self, name: str, label: str, *, defaults: tuple[str, ...]) -> ObjectType:
        """Add a custom object, named by its id, its full name or `p_<name>`.

        Raises:
            ValueError: for a name that is taken.
        """
        if name in self._by_name or name in self._by_key:
            raise ValueError(f"the portal has an object {name!r} already")
        number = FIRST_CUSTOM_ID + sum(1 for one in self if one.is_custom)
        one = ObjectType(
            name,
            name,
            f"2-{number}",
            f"{name}_information",
            (*defaults, "hs_createdate", "hs_lastmodifieddate", "hs_object_id"),
            is_custom=True,
            label=label,
        )
        self._add(one, (one.type_id, self.full_name(one), f"p_{name}"))
        return one

    def full_name(self, one: ObjectType) -> str:
        """The fully qualified name: of a custom object `p<portal>_<name>`."""
        return f"p{self.portal_id}_{one.name}" if one.is_custom else one.singular.upper()

    def rename_for(self, portal_id: int) -> None:
        """The portal has another id now: full names of custom objects follow."""
        self.portal_id = portal_id
        for one in self:
            if one.is_custom:
                self._by_name[self.full_name(one)] = one

    def _add(self, one: ObjectType, names: tuple[str, ...]) -> None:
        self._by_key[one.name] = one
        self._by_name |= dict.fromkeys(names, one)


OTHER_RECORDS: Mapping[str, str] = {
    "owners": "people who own records",
    "exchange_rates": "what a currency is worth from an instant on",
    "campaigns": "marketing campaigns",
    "campaign_budget": "budget items of campaigns",
    "campaign_spend": "spend items of campaigns",
    "campaign_touches": "contacts that a campaign reached",
    "campaign_visits": "days of web visits that came from a campaign",
    "campaign_assets": "assets of campaigns",
    "marketing_emails": "marketing e-mails",
    "email_days": "what became of a marketing e-mail on one day",
}
"""What the portal keeps beside the object types, with endpoints of their own."""
