"""The same company in one CRM: an org that holds once what two CRMs hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from tests.fixtures.sandboxes import Crm, Sandbox
from tests.pipeline.split.crms import (
    EMAIL_COUNTERS,
    FIRST,
    OBJECTS,
    SECOND,
    SECOND_STAGE,
    STAGES,
    STEP_FIELDS,
    Company,
    Link,
    Seen,
    Value,
    read_both,
)
from tests.pipeline.split.people import Identities

FALLEN_BACK: Final = {
    "accounts": ("OwnerId", "Region__c", "Segment__c"),
    "deals": (
        "Amount", "Type", "LeadSource", "Product__c", "Region__c", "Segment__c", "Lost_Reason__c",
    ),
}  # fmt: skip
"""Fields of which a copy's value counts where the preferred record has none."""
SECOND_FIRST: Final = {("deals", "Segment__c")}
"""Fields of which the second CRM's value counts first."""
OWN_FIELDS: Final = (
    ("Account", "Region__c", "string"),
    ("Account", "Segment__c", "string"),
    ("Opportunity", "Region__c", "string"),
    ("Opportunity", "Segment__c", "string"),
    ("Opportunity", "Lost_Reason__c", "string"),
    ("Lead", "Qualified_At__c", "datetime"),
)
ONLY_HERE: Final = (
    ("Opportunity", "Product__c", "string"),
    ("Case", "First_Response__c", "datetime"),
    ("Contract", "Amount__c", "currency"),
    # A subscription says its end itself; a contract's EndDate follows from its term.
    ("Contract", "Ends__c", "date"),
)


def add_own_fields(org: Crm) -> None:
    """The company's own fields, which Salesforce has in both worlds."""
    for name, field_name, kind in OWN_FIELDS:
        org.admin("field", object=name, name=field_name, type=kind)


class Union:
    """Follows the two CRMs: every record of theirs has a twin here.

    Of accounts and people that are one only the first twin is referred to; of copied deals the
    others lie in the bin.
    """

    def __init__(self, split: Sandbox, org: Crm) -> None:
        self._split = split
        self._org = org
        self.twins: dict[tuple[str, str], str] = {}
        """(stream, key) -> id of the twin."""
        self.company: Company = {}
        self.apart: set[frozenset[str]] = set()
        self.together: set[frozenset[str]] = set()
        """What people decided of accounts."""
        self._written: dict[tuple[str, str], dict[str, Value]] = {}
        self._steps: dict[tuple[str, str], int] = {}
        self._binned: set[tuple[str, str]] = set()
        self.pipelines: dict[str, str] = {}
        self._furnish()

    # ------------------------------------------------------------ the org

    def _furnish(self) -> None:
        add_own_fields(self._org)
        for name, field_name, kind in ONLY_HERE:
            self._org.admin("field", object=name, name=field_name, type=kind)
        fields = [
            {"name": "Kind__c", "type": "string"},
            {"name": "Score__c", "type": "double", "precision": 3, "scale": 0},
            {"name": "Submitted_At__c", "type": "datetime"},
            {"name": "Account__c", "type": "reference", "to": "Account"},
            {"name": "Contact__c", "type": "reference", "to": "Contact"},
        ]
        self._org.admin(
            "add_object", name="Survey_Response__c", label="Survey Response", fields=fields
        )
        self._org.admin(
            "add_object",
            name="Email_Day__c",
            label="E-mail on a day",
            fields=[
                {"name": "Email__c", "type": "string"},
                {"name": "Campaign__c", "type": "reference", "to": "Campaign"},
                {"name": "Day__c", "type": "date"},
                *(
                    {"name": name, "type": "double", "precision": 9, "scale": 0}
                    for name in EMAIL_COUNTERS.values()
                ),
            ],
        )
        stages = [
            {
                "name": words.format(label),
                "is_closed": label.startswith("Closed"),
                "is_won": label == "Closed Won",
                "probability": probability,
            }
            for words in ("{}", SECOND_STAGE)
            for label, probability in zip(
                STAGES.values(), (0.1, 0.25, 0.5, 0.75, 1.0, 0.0), strict=True
            )
        ]
        self._org.admin("set_stages", stages=stages)
        for name in ("Opportunity", "Case"):
            made = self._org.admin("record_type", object=name, name="There")
            self.pipelines[name] = str(made["id"])
        known = {
            str(_fields(row)["Username"]): str(row["id"]) for row in self._org.snapshot()["User"]
        }
        for user in read_both(self._split).values():
            if user.stream == "owners":
                address = str(user.fields["Email"])
                if address not in known:
                    person = {"LastName": address, "Email": address, "Username": address}
                    known[address] = self._org.create("User", person)
                self.twins["owners", user.key] = known[address]

    # ------------------------------------------------------------ following

    def follow(self) -> Identities:
        """Bring everything here up to what the two CRMs hold now; who is one with whom."""
        self.look()
        identities = Identities(self.company, self.apart, self.together)
        for place in [it for it in self.twins if it[0] == "deal_contacts"]:
            if place not in self.company:
                # A part in a deal that is taken back leaves no trace in either CRM.
                self._bin(*place)
        for stream in OBJECTS:
            for record in self._in_order(stream):
                self._follow(record, identities)
        return identities

    def look(self) -> None:
        """See what the two CRMs hold, and change nothing here."""
        self.company = read_both(self._split)

    def _in_order(self, stream: str) -> Iterable[Seen]:
        # Of purchases on one day that with the lower id is the first, so ids keep their order.
        found = [it for it in self.company.values() if it.stream == stream]
        return sorted(found, key=lambda it: it.key)

    def _follow(self, record: Seen, identities: Identities) -> None:
        place = record.stream, record.key
        counts = record.is_alive and self._counts(record, identities)
        if place not in self.twins and not record.is_alive and not _may_be_named(record):
            return
        if not counts and place in self._binned:
            return
        wanted = self._wanted(record, identities)
        if place not in self.twins:
            if record.stream == "deal_contacts" and None in wanted.values():
                return
            self._create(record, wanted)
        if place in self._binned:
            self._org.undelete(OBJECTS[record.stream], self.twins[place])
            self._binned.discard(place)
        self._walk(record, wanted)
        changed = {
            name: value for name, value in wanted.items() if self._written[place].get(name) != value
        }
        if changed:
            self._org.edit(OBJECTS[record.stream], self.twins[place], changed)
            self._written[place] |= changed
        if not counts and record.stream not in ("accounts", "contacts"):  # left unreferred to
            self._bin(*place)

    def _counts(self, record: Seen, identities: Identities) -> bool:
        if record.stream == "deals":
            return identities.all_of(record)[0] is record
        if record.stream == "deal_contacts":
            deal = record.fields["OpportunityId"]
            assert isinstance(deal, Link)
            person = record.fields["ContactId"]
            assert isinstance(person, Link)
            return identities.head(deal) == deal and identities.head(person) is not None
        return True

    def _create(self, record: Seen, wanted: dict[str, Value]) -> None:
        place = record.stream, record.key
        first = {name: value for name, value in wanted.items() if value is not None}
        if record.stream in STEP_FIELDS:
            first[STEP_FIELDS[record.stream]] = record.steps[0][1]
            if record.crm == SECOND:
                first["RecordTypeId"] = self.pipelines[OBJECTS[record.stream]]
        self.twins[place] = self._org.create(OBJECTS[record.stream], first, at=record.created)
        self._written[place] = {**dict.fromkeys(wanted), **first}
        self._steps[place] = 1

    def _walk(self, record: Seen, wanted: dict[str, Value]) -> None:
        """Through the stages that it entered since it was looked at last."""
        place = record.stream, record.key
        for at, stage in record.steps[self._steps[place] :]:
            change = {STEP_FIELDS[record.stream]: stage}
            self._org.edit(OBJECTS[record.stream], self.twins[place], change, at=at)
            # A stage brings values of its own along; what the record says counts.
            self._written[place] = dict.fromkeys(wanted, "unknown")
        self._steps[place] = max(self._steps[place], len(record.steps))

    def _bin(self, stream: str, key: str) -> None:
        place = stream, key
        self._org.delete(OBJECTS[stream], self.twins[place])
        if stream == "deal_contacts":
            del self.twins[place], self._written[place]
        else:
            self._binned.add(place)

    # ------------------------------------------------------------ values

    def _wanted(self, record: Seen, identities: Identities) -> dict[str, Value]:
        fields = dict(record.fields)
        copies = identities.all_of(record) if self._is_head(record, identities) else []
        for name in FALLEN_BACK.get(record.stream, ()):
            if copies:
                fields[name] = _said_first(record.stream, name, copies)
        if record.stream == "contacts" and copies:
            # A person belongs to the account of the preferred record, if that has one.
            accounts = (identities.head(_link(it.fields["AccountId"])) for it in copies)
            fields["AccountId"] = next((it for it in accounts if it is not None), None)
        return {name: self._resolved(value, identities) for name, value in fields.items()}

    @staticmethod
    def _is_head(record: Seen, identities: Identities) -> bool:
        return (
            record.stream in ("accounts", "contacts", "deals")
            and record.is_alive
            and identities.all_of(record)[0] is record
        )

    def _resolved(self, value: Value | Link | None, identities: Identities) -> Value:
        if not isinstance(value, Link):
            return value
        named = self.company.get((value.stream, value.key))
        # What a lead was converted into is what it was, though it lies in the bin by now.
        is_binned = value.stream == "deals" and named is not None and named.is_gone
        head = value if is_binned else identities.head(value)
        return None if head is None else self.twins.get((head.stream, head.key))


def _may_be_named(record: Seen) -> bool:
    """A deal in the bin, which a lead was converted into."""
    return record.stream == "deals" and record.crm == FIRST


def _said_first(stream: str, name: str, copies: list[Seen]) -> Value | Link | None:
    # The preferred record's own, else that of the first copy by key.
    copies = [copies[0], *sorted(copies[1:], key=lambda it: it.key)]
    if (stream, name) in SECOND_FIRST:
        copies = sorted(copies, key=lambda it: it.crm == FIRST)
    said: Iterator[Value | Link | None] = (it.fields[name] for it in copies)
    return next((value for value in said if value is not None), None)


def _link(value: Value | Link | None) -> Link | None:
    return value if isinstance(value, Link) else None


def _fields(row: dict[str, object]) -> dict[str, object]:
    held = row["fields"]
    assert isinstance(held, dict)
    return held
