"""The fake Salesforce org: what Salesforce adds to the common model of a tenant.

Ids with prefixes, whole-second stamps, derived fields and history rows, deletions that take
children along, merges, sessions and query cursors. The admin endpoints and the loaders act on
it by the common verbs, by any object's native name; `configure` takes Salesforce's settings.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from sandbox.org import (
    API,
    PEOPLE,
    Clock,
    Fields,
    FieldType,
    Org,
    Record,
    StageSpec,
    State,
    Value,
)
from sandbox.salesforce_access import Access
from sandbox.salesforce_effects import add_up_line_items, follow_up
from sandbox.salesforce_entities import entity_definitions
from sandbox.salesforce_features import Features
from sandbox.salesforce_fields import FieldSpec, ObjectSpec
from sandbox.salesforce_guards import Guards
from sandbox.salesforce_history import History
from sandbox.salesforce_ids import is_id, long_id, make_id
from sandbox.salesforce_indexes import Indexes
from sandbox.salesforce_jobs import Jobs
from sandbox.salesforce_refusals import Refusals
from sandbox.salesforce_relatives import Relatives
from sandbox.salesforce_rules import defaults, derived, user_defaults
from sandbox.salesforce_schema import standard_objects, tooling_objects
from sandbox.salesforce_sessions import Sessions
from sandbox.salesforce_settings import change_setting
from sandbox.salesforce_stages import STANDARD_STAGES, Stages
from sandbox.salesforce_usage import Usage
from sandbox.salesforce_values import stored

MERGED_AT_ONCE: Final = 3  # SOAP API guide, merge(): one winner and up to two more
CASE_STATUSES: Final = ("New", "Working", "Escalated", "Closed")
LEAD_STATUSES: Final = (
    "Open - Not Contacted", "Working - Contacted", "Closed - Converted", "Closed - Not Converted",
)  # fmt: skip


class SalesforceOrg(Org):
    """One Salesforce org, with one integration user behind the API."""

    def __init__(self, *, clock: Clock | None = None, seed: int = 0) -> None:
        super().__init__(crm="salesforce", clock=clock, seed=seed)
        self.schema: dict[str, ObjectSpec] = standard_objects()
        self._tooling = tooling_objects()
        self.usage = Usage(self.now)
        self.refusals = Refusals()
        self.page_rows = 2000
        self.assignment_owner: str | None = None
        self.compresses = False
        """Whether answers are gzipped for clients that take that."""
        self.query_timeout_rows: int | None = None
        """How many rows a query's conditions may fit before it runs for too long."""
        self.replication_lag = timedelta()
        """By how much latestDateCovered trails."""
        self.replication_ids_max = 600_000  # REST guide, "sObject Get Deleted": EXCEEDED_ID_LIMIT
        self.deletion_log_since: datetime | None = None
        self.indexes = Indexes(self.rows)
        self.access = Access(self)
        self.stages = Stages(self)
        self.history = History(self)
        self.relatives = Relatives(self)
        self.features = Features(self)
        self.guards = Guards()
        self.jobs = Jobs(self)
        self.older_changes: dict[str, datetime] = {}
        """LastModifiedDate by id, where only the system touched the record since."""
        self._open: list[tuple[datetime, datetime]] = []
        self._numbers: dict[str, itertools.count[int]] = {}
        self._standing: dict[str, tuple[int, dict[str, Value]]] = {}
        self.org_id = make_id("00D", seed)
        self.sessions = Sessions(self)
        self.admin_id = self.new_id("User")
        self.api_user_id = self.new_id("User")
        self.profile_id = self.new_id("Profile")
        self.profile_permissions_id = self.new_id("PermissionSet")
        self._furnish()

    # What every org has from its first day.

    def _furnish(self) -> None:
        self.create(
            "Organization",
            {
                "Name": "Sandbox Company",
                "TimeZoneSidKey": "UTC",
                "DefaultLocaleSidKey": "en_US",
                "LanguageLocaleKey": "en_US",
                "FiscalYearStartMonth": 1,
                "OrganizationType": "Developer Edition",
                "InstanceName": "SBX1",
            },
            record_id=self.org_id,
        )
        self.create("Profile", {"Name": "Integration"}, record_id=self.profile_id)
        self.create(
            "PermissionSet",
            {
                "Name": "X_Integration",
                "Label": "Integration",
                "ProfileId": self.profile_id,
                "IsOwnedByProfile": True,
                "PermissionsCustomizeApplication": True,
                "PermissionsManageUsers": True,
                "PermissionsApiEnabled": True,
            },
            record_id=self.profile_permissions_id,
        )
        self.create("User", user_defaults("Admin"), record_id=self.admin_id)
        self.create("User", user_defaults("Integration"), record_id=self.api_user_id)
        for spec in self.schema.values():
            self.grant_fields(spec)
        self.set_stages(STANDARD_STAGES)
        self._add_statuses("CaseStatus", CASE_STATUSES, "IsClosed", {"Closed"})
        self._add_statuses("LeadStatus", LEAD_STATUSES, "IsConverted", {"Closed - Converted"})

    def grant_fields(self, spec: ObjectSpec, fields: Iterable[FieldSpec] | None = None) -> None:
        """Let the integration user's profile read and write an object's fields."""
        if not spec.custom_fields:
            return
        for each in spec.fields.values() if fields is None else fields:
            if each.has_permissions:
                self.grant(spec, each, self.profile_permissions_id, edit=each.updateable)

    def _add_statuses(
        self, object_name: str, names: Sequence[str], mark: str, marked: set[str]
    ) -> None:
        for place, name in enumerate(names, start=1):
            row: dict[str, Value] = {"MasterLabel": name, "ApiName": name, "SortOrder": place}
            self.create(object_name, {**row, "IsDefault": place == 1, mark: name in marked})

    # Ids, names, stamps

    def object_spec(self, name: str, *, tooling: bool = False) -> ObjectSpec | None:
        """The object of this name; case does not matter, as in SOQL and in URLs."""
        return (self._tooling if tooling else self.schema).get(name.lower())

    def visible_spec(self, name: str, *, tooling: bool = False) -> ObjectSpec | None:
        """The object as the integration user meets it: unknown where it has no Read permission."""
        spec = self.object_spec(name, tooling=tooling)
        return spec if spec is not None and self.access.sees_object(spec) else None

    def known_spec(self, object_name: str) -> ObjectSpec:
        """The object of this name.

        Raises:
            ValueError: there is none.
        """
        spec = self.object_spec(object_name) or self.object_spec(object_name, tooling=True)
        if spec is None:
            known = ", ".join(sorted(each.name for each in self.schema.values()))
            raise ValueError(f"the org has no object {object_name!r}; it has {known}")
        return spec

    def new_id(self, object_name: str) -> str:
        """A fresh 18-character id; see `Org.new_id`."""
        # Objects that share a prefix, such as the field histories, share its numbers too.
        prefix = self.known_spec(object_name).prefix
        return make_id(prefix, next(self._numbers.setdefault(prefix, itertools.count(1))))

    def next_number(self, kind: str) -> int:
        """The next number of a counter of its own, for ids and numbers of what has no prefix."""
        return next(self._numbers.setdefault(f"#{kind}", itertools.count(1)))

    def canonical_id(self, object_name: str, record_id: str) -> str:
        """The 18-character form; a CustomField may also be named, as `Account.KPI__c`."""
        if object_name == "CustomField" and "." in record_id:
            return next((r.id for r in self.all(object_name) if r["FullName"] == record_id), "")
        return long_id(record_id)

    def stamp(self, instant: datetime) -> datetime:
        """Stamps are whole seconds (SOAP API guide, "dateTime")."""
        return instant.replace(microsecond=0)

    def user_of(self, actor: str) -> str:
        """The id of the user behind an actor's name."""
        if actor == API:
            return self.api_user_id
        return long_id(actor) if is_id(actor) else self.admin_id

    def name_of(self, record_id: Value) -> Value:
        """The Name of a record of any object, for histories."""
        if not isinstance(record_id, str):
            return None
        return next(
            (
                self._records[name][record_id]["Name"]
                for name in self._records
                if record_id in self._records[name]
            ),
            record_id,
        )

    # Writing

    def standing_defaults(self, spec: ObjectSpec) -> Mapping[str, Value]:
        """The values that every new record of an object starts with."""
        kept = self._standing.get(spec.name)
        if kept is None or kept[0] != len(spec.fields):
            values: dict[str, Value] = {
                each.name: False
                for each in spec.fields.values()
                if each.type == "boolean" and each.name != "IsDeleted" and each.compute is None
            }
            if spec.get("OwnerId") is not None:
                values["OwnerId"] = self.admin_id
            kept = (len(spec.fields), values)
            self._standing[spec.name] = kept
        return kept[1]

    def prepared(self, object_name: str, values: Fields, record: Record | None) -> Fields:
        """Checked, typed values with defaults and derived fields; see `Org.prepared`.

        Raises:
            ValueError: for a field the object does not have, or a value it does not take.
        """
        spec = self.known_spec(object_name)
        typed = self._typed(spec, values)
        if record is None:
            typed = {**defaults(self, spec, typed), **typed}
        return derived(self, spec, typed, record)

    def _typed(self, spec: ObjectSpec, values: Fields) -> dict[str, Value]:
        typed: dict[str, Value] = {}
        for name, value in values.items():
            found = spec.get(name)
            if found is None:
                raise ValueError(f"{spec.name} has no field {name!r}; add_field creates one")
            if found.name in COMPUTED_MARKS or found.compute is not None or found.is_compound:
                raise ValueError(f"{spec.name}.{found.name} is kept by the org itself")
            typed[found.name] = stored(found, value)
        return typed

    def changed(self, record: Record, before: Fields, at: datetime, by: str) -> None:
        """Write history rows and what else follows from a write; see `Org.changed`."""
        self.older_changes.pop(record.id, None)
        follow_up(self, record, before, at)
        self.history.write(record, before, at, by)
        self.features.changed(record, before, at, by)

    def touch(self, object_name: str, record_id: str, *, at: datetime | None = None) -> None:
        """Move SystemModstamp alone, as the system's own work does (Help 000387261)."""
        record = self.get(object_name, record_id)
        self.older_changes.setdefault(record.id, record.state.modified_at)
        stamped = self.stamp(at or self.now())
        self.put(record, record.state, modified=stamped, by=record.state.modified_by)

    def put_silently(self, object_name: str, record_id: str, values: Fields) -> None:
        """Change stored values without any stamp, as the recalculation of a roll-up does."""
        record = self.get(object_name, record_id)
        typed = self._typed(self.known_spec(object_name), values)
        fields = {k: v for k, v in {**record.fields, **typed}.items() if v is not None}
        self.put(record, replace(record.state, fields=fields))

    # Deleting

    def delete(
        self,
        object_name: str,
        record_id: str,
        *,
        merged_into: str | None = None,
        by: str = PEOPLE,
        at: datetime | None = None,
        commit_after: timedelta | None = None,
    ) -> None:
        """Put a record into the bin with its children, or remove it where there is none."""
        spec = self.known_spec(object_name)
        if not spec.get("IsDeleted") or spec.deletion != "bin":
            self.erase(object_name, record_id)
            if spec.deletion == "traceless":
                self.erasures.pop()
            return
        record = self.get(object_name, record_id)
        if merged_into is None:
            self.relatives.delete_with(record, by=by, at=at, commit_after=commit_after)
        super().delete(
            object_name, record_id, merged_into=merged_into, by=by, at=at, commit_after=commit_after
        )
        if spec.name == "OpportunityLineItem" and commit_after is None:
            add_up_line_items(self, record["OpportunityId"], self.stamp(at or self.now()))

    def undelete(
        self,
        object_name: str,
        record_id: str,
        *,
        by: str = PEOPLE,
        at: datetime | None = None,
        commit_after: timedelta | None = None,
    ) -> None:
        """Take a record out of the bin, and what went there with it; see `Org.undelete`."""
        record = self.get(object_name, record_id)
        self.relatives.undelete_with(record, by=by, at=at, commit_after=commit_after)
        super().undelete(object_name, record_id, by=by, at=at, commit_after=commit_after)

    def bin_directly(
        self, record: Record, *, by: str, at: datetime | None, commit_after: timedelta | None
    ) -> None:
        """Put a record into the bin because its parent goes there."""
        super().delete(record.object_name, record.id, by=by, at=at, commit_after=commit_after)

    def unbin_directly(
        self, record: Record, *, by: str, at: datetime | None, commit_after: timedelta | None
    ) -> None:
        """Take a record out of the bin because its parent comes back."""
        super().undelete(record.object_name, record.id, by=by, at=at, commit_after=commit_after)

    def erase(self, object_name: str, record_id: str) -> None:
        """Remove a record and its children for good; `deleted/` shows when it went to the bin."""
        record = self.get(object_name, record_id)
        self.relatives.erase_with(record)
        self.history.forget(record)
        if object_name == "CustomField":
            self._remove_field(str(record["FullName"]))
        super().erase(object_name, record.id)
        if record.state.deleted_at is not None:
            self.erasures[-1] = replace(self.erasures[-1], at=record.state.deleted_at)
        self.indexes.note(object_name, record.id)

    def merge(
        self, object_name: str, winner_id: str, loser_ids: Iterable[str], *, by: str = PEOPLE
    ) -> str:
        """Merge records: losers go into the bin, their children move to the winner.

        The children keep their stamps: who trusts stamps does not see that they moved.

        Raises:
            ValueError: for an object that has no merge, or more rows than one merge takes.
        """
        spec = self.known_spec(object_name)
        losers = [self.canonical_id(object_name, each) for each in loser_ids]
        if not spec.mergeable:
            raise ValueError(f"Salesforce does not merge records of {object_name}")
        if len(losers) >= MERGED_AT_ONCE:
            raise ValueError(f"Salesforce merges at most {MERGED_AT_ONCE} records at once")
        winner = super().merge(object_name, winner_id, losers, by=by)
        self.relatives.move(spec.name, set(losers), winner)
        return winner

    # Stages and fields

    def set_stages(self, stages: Sequence[StageSpec]) -> None:
        """Replace the opportunity stages, in order; see `Org.set_stages`."""
        self.stages.replace(stages)

    def add_object(self, spec: ObjectSpec) -> None:
        """Add an object that the integration user may read and write.

        Raises:
            ValueError: there is one of this name.
        """
        if self.object_spec(spec.name) is not None:
            raise ValueError(f"the org has an object {spec.name} already")
        self.schema[spec.name.lower()] = spec
        self.features.furnish(spec)
        self.grant_fields(spec)

    def add_field(
        self,
        object_name: str,
        name: str,
        *,
        label: str,
        type: FieldType,  # noqa: A002 - the field's word
        choices: Sequence[str] = (),
    ) -> None:
        """Add a custom field that the integration user may read and write; see `Org.add_field`.

        Raises:
            ValueError: for a name without `__c`, or an object that takes no custom fields.
        """
        kind, length, precision, scale = _CUSTOM_TYPES[type]
        each = FieldSpec(
            name,
            kind,
            label,
            length=length,
            precision=precision,
            scale=scale,
            nillable=kind != "boolean",
            custom=True,
            choices=tuple(choices),
            default=False if kind == "boolean" else None,
        )
        self.add_custom(object_name, each)

    def add_custom(self, object_name: str, each: FieldSpec) -> None:
        """Add a custom field of any kind; one of this name that exists already stays.

        Raises:
            ValueError: for a name without `__c`, or an object that takes no custom fields.
        """
        spec = self.known_spec(object_name)
        if not each.name.endswith("__c"):
            raise ValueError(f"a custom field's name ends in __c: {each.name}__c, not {each.name}")
        if not spec.custom_fields:
            raise ValueError(f"{spec.name} takes no custom fields")
        if spec.get(each.name) is not None:
            return
        self.install_field(spec, each)
        self.grant(spec, each, self.profile_permissions_id, edit=each.updateable)
        if spec.name == "Contact":
            self.features.mirror(each)

    def install_field(self, spec: ObjectSpec, each: FieldSpec) -> str:
        """Add a custom field that nobody may see yet; returns the id of its Tooling record."""
        spec.add(each)
        row = {
            "DeveloperName": each.name.removesuffix("__c"),
            "FullName": f"{spec.name}.{each.name}",
            "TableEnumOrId": spec.name,
            "ManageableState": "unmanaged",
        }
        return self.create("CustomField", row)

    def _remove_field(self, full_name: str) -> None:
        object_name, _, name = full_name.partition(".")
        self.known_spec(object_name).fields.pop(name.lower(), None)
        for row in list(self.all("FieldPermissions")):
            if row["Field"] == full_name:
                self.erase("FieldPermissions", row.id)

    # Rights

    def grant(self, spec: ObjectSpec, each: FieldSpec, parent_id: str, *, edit: bool) -> None:
        """See `Access.grant`."""
        self.access.grant(spec, each, parent_id, edit=edit)

    # Settings

    def configure(self, settings: Mapping[str, object]) -> None:
        """Change settings of the org, listed in docs/sandbox-salesforce.md; see `Org.configure`."""
        for name, value in settings.items():
            change_setting(self, name, value)

    def rename_org(self, org_id: str) -> None:
        """Become another org with the same records, as a sandbox refresh makes it."""
        facts = dict(self.get("Organization", self.org_id).fields)
        self.erase("Organization", self.org_id)
        self.org_id = self.create("Organization", facts, record_id=org_id)

    def purge_deletion_log(self) -> None:
        """Forget what was deleted so far, as the vendor does when the log grows."""
        self.deletion_log_since = self.stamp(self.now())
        self.erasures.clear()

    # What queries read

    def rows(self, object_name: str) -> Mapping[str, Record]:
        """All visible records of an object by id, deleted ones included."""
        if object_name == "EntityDefinition":
            return entity_definitions(self)
        return self._records.get(object_name, {})

    def children(self, object_name: str, field: str, parent_id: Value) -> Sequence[Record]:
        """The records whose reference field holds this id, deleted ones included."""
        return list(self.indexes.referring(object_name, field).get(str(parent_id), {}).values())

    def holding(self, object_name: str, field: str, value: Value) -> Sequence[Record]:
        """The records whose field holds this value, deleted ones included."""
        if isinstance(value, str):
            return list(self.indexes.referring(object_name, field).get(value, {}).values())
        return [record for record in self.rows(object_name).values() if record[field] == value]

    def put_many(self, object_name: str, records: Iterable[Record]) -> None:
        """Take over many new records at once, without history rows (for generated data)."""
        table = self._records.setdefault(object_name, {})
        for record in records:
            record.indexed = record.state
            table[record.id] = record
            self.indexes.note(object_name, record.id)

    def oldest_open_transaction(self) -> datetime | None:
        """When the oldest transaction that is not yet committed began, if one is open."""
        now = self.now()
        self._open = [(begun, ends) for begun, ends in self._open if ends > now]
        return min((begun for begun, _ in self._open), default=None)

    def put(
        self, record: Record, state: State, *, modified: datetime | None = None, by: str = PEOPLE
    ) -> None:
        """See `Org.put`; the orders and look-ups learn of the change."""
        super().put(record, state, modified=modified, by=by)
        self.indexes.note(record.object_name, record.id)

    def _commit(self, apply: Callable[[], None], commit_after: timedelta | None) -> None:
        if commit_after is not None:
            now = self.now()
            self._open.append((self.stamp(now), now + commit_after))
        super()._commit(apply, commit_after)

    def _show(self, record: Record) -> None:
        super()._show(record)
        self.indexes.note(record.object_name, record.id)


COMPUTED_MARKS: Final = frozenset(
    {
        "Id", "IsDeleted", "MasterRecordId", "CreatedDate", "CreatedById", "LastModifiedDate",
        "LastModifiedById", "SystemModstamp",
    }
)  # fmt: skip
"""Fields that show a record's own marks and are never set as values."""

_CUSTOM_TYPES: Final[Mapping[FieldType, tuple[str, int, int, int]]] = {
    FieldType.TEXT: ("string", 255, 0, 0),
    FieldType.NUMBER: ("double", 0, 18, 4),
    FieldType.MONEY: ("currency", 0, 18, 2),
    FieldType.PERCENT: ("percent", 0, 16, 2),
    FieldType.DATE: ("date", 0, 0, 0),
    FieldType.DATETIME: ("datetime", 0, 0, 0),
    FieldType.BOOLEAN: ("boolean", 0, 0, 0),
    FieldType.CHOICE: ("picklist", 255, 0, 0),
}
