"""The fake Salesforce org: what Salesforce adds to the common model of a tenant.

Ids with prefixes, whole-second stamps, fields derived from the stage, opportunity history,
field-level security, sessions, query cursors and merges. The admin endpoints and the loaders
act on it by the common verbs; `configure` lists the settings that are Salesforce's own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sandbox.org import (
    API,
    NO_FIELDS,
    PEOPLE,
    Clock,
    Fields,
    FieldType,
    Org,
    Record,
    StageSpec,
    Value,
)
from sandbox.salesforce_ids import is_id, long_id, make_id
from sandbox.salesforce_schema import (
    FORECASTS,
    FieldSpec,
    ObjectSpec,
    standard_objects,
    tooling_objects,
)
from sandbox.salesforce_sessions import Sessions
from sandbox.salesforce_values import stamp_text, stored

MERGED_AT_ONCE: Final = 3  # SOAP API guide, merge(): one winner and up to two more
HISTORY_CAUSES: Final = ("StageName", "Amount", "Probability", "CloseDate")
STANDARD_STAGES: Final = (
    StageSpec("Prospecting", is_closed=False, is_won=False, probability=0.1),
    StageSpec("Qualification", is_closed=False, is_won=False, probability=0.1),
    StageSpec("Needs Analysis", is_closed=False, is_won=False, probability=0.2),
    StageSpec("Value Proposition", is_closed=False, is_won=False, probability=0.5),
    StageSpec("Id. Decision Makers", is_closed=False, is_won=False, probability=0.6),
    StageSpec("Perception Analysis", is_closed=False, is_won=False, probability=0.7),
    StageSpec("Proposal/Price Quote", is_closed=False, is_won=False, probability=0.75),
    StageSpec("Negotiation/Review", is_closed=False, is_won=False, probability=0.9),
    StageSpec("Closed Won", is_closed=True, is_won=True, probability=1.0),
    StageSpec("Closed Lost", is_closed=True, is_won=False, probability=0.0),
)


@dataclass(frozen=True, slots=True)
class Grant:
    """What field-level security gives the run-time user on one field."""

    read: bool = False
    edit: bool = False


class SalesforceOrg(Org):
    """One Salesforce org in a single currency, with one integration user behind the API."""

    def __init__(self, *, clock: Clock | None = None, seed: int = 0) -> None:
        super().__init__(crm="salesforce", clock=clock, seed=seed)
        self.schema: dict[str, ObjectSpec] = standard_objects()
        self._tooling = tooling_objects()
        self.api_calls = 0
        self.api_calls_max = 100_000
        self.page_rows = 2000
        self.assignment_owner: str | None = None
        self.deletion_log_since: datetime | None = None
        self._open: list[tuple[datetime, datetime]] = []
        self._numbers: dict[str, itertools.count[int]] = {}
        self._revisions: dict[str, int] = {}
        self._stamp_index: dict[str, tuple[int, list[tuple[datetime, str, Record]]]] = {}
        self._grants: tuple[tuple[int, ...], dict[tuple[str, str], Grant]] = ((), {})
        self._history: dict[str, list[str]] = {}
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
            },
            record_id=self.profile_permissions_id,
        )
        self.create("User", _user("Admin"), record_id=self.admin_id)
        self.create("User", _user("Integration"), record_id=self.api_user_id)
        for spec in self.schema.values():
            if spec.custom_fields:
                self._grant_standard_fields(spec)
        self.set_stages(STANDARD_STAGES)

    def _grant_standard_fields(self, spec: ObjectSpec) -> None:
        for each in spec.fields.values():
            if each.has_permissions:
                self.grant(spec, each, self.profile_permissions_id, edit=each.updateable)

    # Ids, names, stamps

    def object_spec(self, name: str, *, tooling: bool = False) -> ObjectSpec | None:
        """The object of this name; case does not matter, as in SOQL and in URLs."""
        return (self._tooling if tooling else self.schema).get(name.lower())

    def new_id(self, object_name: str) -> str:
        """A fresh 18-character id; see `Org.new_id`."""
        numbers = self._numbers.setdefault(object_name, itertools.count(1))
        return make_id(self._spec(object_name).prefix, next(numbers))

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

    def _spec(self, object_name: str) -> ObjectSpec:
        spec = self.object_spec(object_name) or self.object_spec(object_name, tooling=True)
        if spec is None:
            known = ", ".join(sorted(each.name for each in self.schema.values()))
            raise ValueError(f"the org has no object {object_name!r}; it has {known}")
        return spec

    # Writing: what Salesforce derives

    def prepared(self, object_name: str, values: Fields, record: Record | None) -> Fields:
        """Checked, typed values with defaults and derived fields; see `Org.prepared`.

        Raises:
            ValueError: for a field the object does not have, or a value it does not take.
        """
        spec = self._spec(object_name)
        typed = self._typed(spec, values)
        if record is None:
            typed = {**self._defaults(spec, typed), **typed}
        if spec.name == "Opportunity":
            return self._with_stage(typed, record)
        if spec.name == "User":
            return _with_name(typed, record)
        return typed

    def _typed(self, spec: ObjectSpec, values: Fields) -> dict[str, Value]:
        typed: dict[str, Value] = {}
        for name, value in values.items():
            found = spec.get(name)
            if found is None:
                raise ValueError(f"{spec.name} has no field {name!r}; add_field creates one")
            if found.name in COMPUTED_MARKS:
                raise ValueError(f"{spec.name}.{found.name} is kept by the org itself")
            typed[found.name] = stored(found, value)
        return typed

    def _defaults(self, spec: ObjectSpec, given: Fields) -> dict[str, Value]:
        values: dict[str, Value] = {
            each.name: False
            for each in spec.fields.values()
            if each.type == "boolean" and each.name != "IsDeleted"
        }
        if spec.get("OwnerId") is not None:
            values["OwnerId"] = self.admin_id
        if spec.name == "Account" and "Name" not in given:
            values["Name"] = "Account"
        if spec.name == "Opportunity":
            values |= self._opportunity_defaults()
        if spec.name == "User":
            values |= _user(f"User {self.next_number('username')}")
            values |= {"ProfileId": self.profile_id}
        if spec.name == "PermissionSet":
            values["IsCustom"] = not given.get("IsOwnedByProfile", False)
        return values

    def _opportunity_defaults(self) -> dict[str, Value]:
        stages = sorted(self.all("OpportunityStage"), key=_sort_order)
        return {
            "Name": "Opportunity",
            "StageName": str(stages[0]["ApiName"]) if stages else None,
            "CloseDate": self.now().date().isoformat(),
        }

    def _with_stage(self, typed: dict[str, Value], record: Record | None) -> dict[str, Value]:
        """Fields that follow from the stage and the amount (Object Reference, "Opportunity")."""
        before = record.fields if record else NO_FIELDS
        out = dict(typed)
        if "StageName" in typed and (record is None or typed["StageName"] != record["StageName"]):
            follows = self._stage_fields(typed["StageName"])
            out = {**follows, **out} | {name: follows[name] for name in ("IsClosed", "IsWon")}
        amount, probability = (
            out.get(name, before.get(name)) for name in ("Amount", "Probability")
        )
        if isinstance(amount, float) and isinstance(probability, float):
            out["ExpectedRevenue"] = round(amount * probability / 100, 2)
        else:
            out["ExpectedRevenue"] = None
        return out

    def _stage_fields(self, stage_name: Value) -> dict[str, Value]:
        stage = self.stage(stage_name)
        if stage is None:
            # StageName is an unrestricted picklist: a value of no known stage is kept, open.
            return {"IsClosed": False, "IsWon": False, "ForecastCategory": "Pipeline"}
        return {
            "IsClosed": stage["IsClosed"],
            "IsWon": stage["IsWon"],
            "Probability": stage["DefaultProbability"],
            "ForecastCategory": stage["ForecastCategory"],
            "ForecastCategoryName": stage["ForecastCategoryName"],
        }

    def stage(self, name: Value) -> Record | None:
        """The opportunity stage of this API name."""
        return next((s for s in self.all("OpportunityStage") if s["ApiName"] == name), None)

    def changed(self, record: Record, before: Fields, at: datetime, by: str) -> None:
        """Write the history row of an opportunity; see `Org.changed`.

        A row is added at creation and at each change of stage, amount, probability or close
        date; the row before it is then stamped anew (Object Reference, "OpportunityHistory").
        """
        if record.object_name != "Opportunity":
            return
        if before and all(before.get(name) == record[name] for name in HISTORY_CAUSES):
            return
        if before:
            self._put_stage_change_date(record, before, at)
        self._supersede_history(record.id, at)
        row = {name: record[name] for name in (*HISTORY_CAUSES, "ExpectedRevenue")}
        row |= {"ForecastCategory": record["ForecastCategory"], "OpportunityId": record.id}
        created = self.create("OpportunityHistory", row, at=at, by=by)
        self._history.setdefault(record.id, []).append(created)

    def _put_stage_change_date(self, record: Record, before: Fields, at: datetime) -> None:
        if before.get("StageName") != record["StageName"]:
            fields = {**record.fields, "LastStageChangeDate": stamp_text(at)}
            self.put(record, replace(record.state, fields=fields))

    def _supersede_history(self, opportunity_id: str, at: datetime) -> None:
        for row in self.history_of(opportunity_id)[-1:]:
            self.put(row, row.state, modified=at)

    def history_of(self, opportunity_id: str) -> list[Record]:
        """The history rows of one opportunity, oldest first."""
        rows = self.rows("OpportunityHistory")
        return [rows[each] for each in self._history.get(opportunity_id, ()) if each in rows]

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
        """Put a record into the bin, an opportunity's history with it; see `Org.delete`."""
        if not self._spec(object_name).get("IsDeleted"):
            self.erase(object_name, record_id)  # setup objects and grants know no recycle bin
            return
        if object_name == "Opportunity":
            for row in self.history_of(self.canonical_id(object_name, record_id)):
                super().delete(row.object_name, row.id, by=by, at=at, commit_after=commit_after)
        super().delete(
            object_name, record_id, merged_into=merged_into, by=by, at=at, commit_after=commit_after
        )

    def undelete(
        self,
        object_name: str,
        record_id: str,
        *,
        by: str = PEOPLE,
        at: datetime | None = None,
        commit_after: timedelta | None = None,
    ) -> None:
        """Take a record out of the bin, an opportunity's history with it; see `Org.undelete`."""
        if object_name == "Opportunity":
            for row in self.history_of(self.canonical_id(object_name, record_id)):
                super().undelete(row.object_name, row.id, by=by, at=at, commit_after=commit_after)
        super().undelete(object_name, record_id, by=by, at=at, commit_after=commit_after)

    def erase(self, object_name: str, record_id: str) -> None:
        """Remove a record for good; `deleted/` then shows when it went into the bin."""
        record = self.get(object_name, record_id)
        if object_name == "Opportunity":
            for row in self.history_of(record.id):
                self.erase(row.object_name, row.id)
            self._history.pop(record.id, None)
        if object_name == "CustomField":
            self._remove_field(str(record["FullName"]))
        super().erase(object_name, record.id)
        if record.state.deleted_at is not None:
            self.erasures[-1] = replace(self.erasures[-1], at=record.state.deleted_at)
        self._note_change(object_name)

    def merge(
        self, object_name: str, winner_id: str, loser_ids: Iterable[str], *, by: str = PEOPLE
    ) -> str:
        """Merge accounts: losers go into the bin, their children move to the winner.

        The children keep their stamps: who trusts stamps does not see that they moved.

        Raises:
            ValueError: for an object that has no merge, or more rows than one merge takes.
        """
        losers = [self.canonical_id(object_name, each) for each in loser_ids]
        if object_name != "Account":
            raise ValueError(f"Salesforce does not merge records of {object_name}")
        if len(losers) >= MERGED_AT_ONCE:
            raise ValueError(f"Salesforce merges at most {MERGED_AT_ONCE} records at once")
        winner = super().merge(object_name, winner_id, losers, by=by)
        for child, name in (("Opportunity", "AccountId"), ("Account", "ParentId")):
            for record in self.all(child, include_deleted=True):
                if record[name] in losers:
                    self.put(record, replace(record.state, fields={**record.fields, name: winner}))
        return winner

    # Stages and fields

    def set_stages(self, stages: Sequence[StageSpec]) -> None:
        """Replace the opportunity stages, in order; see `Org.set_stages`."""
        for record in list(self.all("OpportunityStage")):
            self.erase("OpportunityStage", record.id)
        for place, stage in enumerate(stages, start=1):
            category = "Closed" if stage.is_won else "Omitted" if stage.is_closed else "Pipeline"
            self.create(
                "OpportunityStage",
                {
                    "MasterLabel": stage.name,
                    "ApiName": stage.name,
                    "IsActive": True,
                    "SortOrder": place,
                    "IsClosed": stage.is_closed,
                    "IsWon": stage.is_won,
                    "ForecastCategory": category,
                    "ForecastCategoryName": FORECASTS[category],
                    "DefaultProbability": stage.probability * 100,
                },
            )

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
        spec = self._spec(object_name)
        if not name.endswith("__c"):
            raise ValueError(f"a custom field's name ends in __c: {name}__c, not {name}")
        if not spec.custom_fields:
            raise ValueError(f"{spec.name} takes no custom fields")
        if spec.get(name) is not None:
            return
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
        self.install_field(spec, each)
        self.grant(spec, each, self.profile_permissions_id, edit=True)

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
        self._spec(object_name).fields.pop(name.lower(), None)
        for row in list(self.all("FieldPermissions")):
            if row["Field"] == full_name:
                self.erase("FieldPermissions", row.id)

    def next_number(self, kind: str) -> int:
        """The next number of a counter of its own, for ids of what is no record."""
        return next(self._numbers.setdefault(kind, itertools.count(1)))

    # Field-level security (Help, "Field-Level Security"; Object Reference, "FieldPermissions")

    def grant(self, spec: ObjectSpec, each: FieldSpec, parent_id: str, *, edit: bool) -> None:
        """Give a permission set reading, and with `edit` writing, of a field."""
        self.create(
            "FieldPermissions",
            {
                "ParentId": parent_id,
                "SobjectType": spec.name,
                "Field": f"{spec.name}.{each.name}",
                "PermissionsRead": True,
                "PermissionsEdit": edit,
            },
        )

    def may_read(self, spec: ObjectSpec, each: FieldSpec) -> bool:
        """Whether describe lists the field for the run-time user, and queries may name it."""
        return not self._is_guarded(spec, each) or self._granted(spec, each).read

    def may_edit(self, spec: ObjectSpec, each: FieldSpec) -> bool:
        """Whether the run-time user may write the field."""
        if not (each.updateable and spec.updateable):
            return False
        return not self._is_guarded(spec, each) or self._granted(spec, each).edit

    def has_permission(self, name: str) -> bool:
        """Whether the run-time user has a system permission, e.g. PermissionsManageUsers."""
        ids = self._permission_sets()
        return any(r[name] is True for r in self.all("PermissionSet") if r.id in ids)

    def _is_guarded(self, spec: ObjectSpec, each: FieldSpec) -> bool:
        return each.custom or (each.has_permissions and (spec.custom_fields or spec.name == "User"))

    def _granted(self, spec: ObjectSpec, each: FieldSpec) -> Grant:
        names = ("FieldPermissions", "PermissionSet", "PermissionSetAssignment")
        revision = tuple(self._revisions.get(name, 0) for name in names)
        if self._grants[0] != revision:
            self._grants = (revision, self._read_grants())
        return self._grants[1].get((spec.name, each.name), Grant())

    def _read_grants(self) -> dict[tuple[str, str], Grant]:
        mine = self._permission_sets()
        grants: dict[tuple[str, str], Grant] = {}
        for row in self.all("FieldPermissions"):
            if row["ParentId"] not in mine:
                continue
            object_name, _, name = str(row["Field"]).partition(".")
            have = grants.get((object_name, name), Grant())
            grants[object_name, name] = Grant(
                read=have.read or row["PermissionsRead"] is True,
                edit=have.edit or row["PermissionsEdit"] is True,
            )
        return grants

    def _permission_sets(self) -> set[Value]:
        assigned = {
            row["PermissionSetId"]
            for row in self.all("PermissionSetAssignment")
            if row["AssigneeId"] == self.api_user_id
        }
        return assigned | {self.profile_permissions_id}

    # Settings

    def configure(self, settings: Mapping[str, object]) -> None:
        """Change settings of the org; see `Org.configure`.

        Known ones: `daily_calls_max`, `daily_calls_used` (numbers), `page_rows` (rows a page
        at most, below what a client may ask), `rotate_tokens` (a login ends other sessions),
        `revoke_tokens`, `expire_locators`, `purge_deletion_log` (true: now), `hide_fields`,
        `show_fields` (lists such as ["Opportunity.Amount"]), `assignment_owner` (user id that
        the active account assignment rule gives, or null), `may_customize` (whether the
        integration user may create fields), `org_id`.
        """
        for name, value in settings.items():
            setter = _SETTINGS.get(name)
            if setter is None:
                known = ", ".join(sorted(_SETTINGS))
                raise ValueError(f"salesforce has no setting {name!r}; it has {known}")
            setter(self, value)

    def rename_org(self, org_id: str) -> None:
        """Become another org with the same records, as a sandbox refresh makes it."""
        facts = dict(self.get("Organization", self.org_id).fields)
        self.erase("Organization", self.org_id)
        self.org_id = self.create("Organization", facts, record_id=org_id)

    def purge_deletion_log(self) -> None:
        """Forget what was deleted so far, as the vendor does when the log grows."""
        self.deletion_log_since = self.stamp(self.now())
        self.erasures.clear()

    def set_field_access(self, names: object, *, visible: bool) -> None:
        """Hide fields from the integration user, or show them again."""
        if not isinstance(names, list):
            raise ValueError('expected a list such as ["Opportunity.Amount"]')  # noqa: TRY004
        for name in names:
            object_name, _, field_name = str(name).partition(".")
            spec = self._spec(object_name)
            found = spec.get(field_name)
            if found is None or not self._is_guarded(spec, found):
                raise ValueError(f"{name} has no field-level security")
            grants = {"PermissionsRead": visible, "PermissionsEdit": visible and found.updateable}
            for row in list(self.all("FieldPermissions")):
                if row["Field"] == f"{spec.name}.{found.name}":
                    self.edit("FieldPermissions", row.id, grants)

    # What queries read

    def rows(self, object_name: str) -> Mapping[str, Record]:
        """All visible records of an object by id, deleted ones included."""
        return self._records.get(object_name, {})

    def by_stamp(self, object_name: str) -> list[tuple[datetime, str, Record]]:
        """All visible records sorted by (SystemModstamp, Id); kept until a record changes."""
        revision = self._revisions.get(object_name, 0)
        kept = self._stamp_index.get(object_name)
        if kept is None or kept[0] != revision:
            rows = [(r.state.modified_at, r.id, r) for r in self.rows(object_name).values()]
            rows.sort(key=lambda row: (row[0], row[1]))
            kept = (revision, rows)
            self._stamp_index[object_name] = kept
        return kept[1]

    def oldest_open_transaction(self) -> datetime | None:
        """When the oldest transaction that is not yet committed began, if one is open."""
        now = self.now()
        self._open = [(begun, ends) for begun, ends in self._open if ends > now]
        return min((begun for begun, _ in self._open), default=None)

    def _commit(self, apply: Callable[[], None], commit_after: timedelta | None) -> None:
        if commit_after is not None:
            now = self.now()
            self._open.append((self.stamp(now), now + commit_after))
        super()._commit(apply, commit_after)

    def _show(self, record: Record) -> None:
        super()._show(record)
        self._note_change(record.object_name)

    def _note_change(self, object_name: str) -> None:
        self._revisions[object_name] = self._revisions.get(object_name, 0) + 1


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


def _user(last_name: str) -> dict[str, Value]:
    short = last_name.lower().replace(" ", "")
    return {
        "LastName": last_name,
        "Username": f"{short}@sandbox.example",
        "Email": f"{short}@sandbox.example",
        "Alias": short[:8],
        "IsActive": True,
        "UserType": "Standard",
        "TimeZoneSidKey": "UTC",
        "LocaleSidKey": "en_US",
    }


def _with_name(typed: dict[str, Value], record: Record | None) -> dict[str, Value]:
    """A user's Name is made of first and last name; a Name given whole is taken apart."""
    out = dict(typed)
    if isinstance(name := out.pop("Name", None), str):
        first, _, last = name.rpartition(" ")
        out |= {"FirstName": first or None, "LastName": last}
    before = record.fields if record else NO_FIELDS
    parts = (out.get(part, before.get(part)) for part in ("FirstName", "LastName"))
    out["Name"] = " ".join(str(part) for part in parts if part)
    return out


def _sort_order(stage: Record) -> int:
    order = stage["SortOrder"]
    return order if isinstance(order, int) else 0


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is not a whole number")  # noqa: TRY004 - a bad setting
    return value


def _set_org_id(org: SalesforceOrg, value: object) -> None:
    if not is_id(str(value)):
        raise ValueError(f"{value!r} is no org id of 15 or 18 characters")
    org.rename_org(long_id(str(value)))


def _set_may_customize(org: SalesforceOrg, value: object) -> None:
    granted = {"PermissionsCustomizeApplication": bool(value)}
    org.edit("PermissionSet", org.profile_permissions_id, granted)


def _set_daily_calls_max(org: SalesforceOrg, value: object) -> None:
    org.api_calls_max = _whole(value)


def _set_daily_calls_used(org: SalesforceOrg, value: object) -> None:
    org.api_calls = _whole(value)


def _set_page_rows(org: SalesforceOrg, value: object) -> None:
    org.page_rows = _whole(value)


def _set_rotate_tokens(org: SalesforceOrg, value: object) -> None:
    org.sessions.rotates = bool(value)


def _set_assignment_owner(org: SalesforceOrg, value: object) -> None:
    org.assignment_owner = None if value is None else long_id(str(value))


_SETTINGS: Final[Mapping[str, Callable[[SalesforceOrg, object], None]]] = {
    "daily_calls_max": _set_daily_calls_max,
    "daily_calls_used": _set_daily_calls_used,
    "page_rows": _set_page_rows,
    "rotate_tokens": _set_rotate_tokens,
    "revoke_tokens": lambda org, _: org.sessions.revoke(),
    "expire_locators": lambda org, _: org.sessions.close_locators(),
    "purge_deletion_log": lambda org, _: org.purge_deletion_log(),
    "hide_fields": lambda org, value: org.set_field_access(value, visible=False),
    "show_fields": lambda org, value: org.set_field_access(value, visible=True),
    "assignment_owner": _set_assignment_owner,
    "may_customize": _set_may_customize,
    "org_id": _set_org_id,
}
