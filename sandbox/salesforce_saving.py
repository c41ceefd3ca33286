"""Checks and saves one record as strictly as the vendor, whichever API it comes through.

Pages: SOAP API Developer Guide, "StatusCode"; REST API Developer Guide, "sObject Collections",
"Assignment Rule Header"; Object Reference, "Lead" (converted leads), "External ID" fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from sandbox.faults import RecordFault
from sandbox.org import API, NO_FIELDS, Record, Value
from sandbox.salesforce_fields import FieldSpec, ObjectSpec
from sandbox.salesforce_guards import Refusal
from sandbox.salesforce_ids import is_id, long_id
from sandbox.salesforce_org import SalesforceOrg
from sandbox.salesforce_setup import check_setup
from sandbox.salesforce_values import RefusedValueError, stored

ASSIGNED: Final = frozenset({"Account", "Case", "Lead"})

Json: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Save:
    """A checked record, ready to be written; without an id it is a new one."""

    spec: ObjectSpec
    id: str | None
    values: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Saving:
    """How a request wants its records saved."""

    org: SalesforceOrg
    assigns: bool = True
    """Whether assignment rules run (the vendor's default)."""
    allows_duplicates: bool = False

    # Checks

    def check_update(
        self, spec: ObjectSpec, record: Json, counted: Mapping[str, int]
    ) -> Save | Refusal:
        """Check an update.

        Args:
            spec: The record's object.
            record: Its values, the id among them.
            counted: How often each id stands in the request.

        Raises:
            UnreadableValueError: a value of the wrong JSON type.
        """
        given = given_id(record)
        if not isinstance(given, str) or not given:
            return Refusal("MISSING_ARGUMENT", "Id not specified in an update call", ("Id",))
        if counted.get(long_id(given), 1) > 1:
            return Refusal("DUPLICATE_VALUE", f"Duplicate id specified: {given}", ("Id",))
        found = self.live_record(spec, given)
        if isinstance(found, Refusal):
            return found
        if spec.name == "Lead" and found["IsConverted"] is True:
            message = "cannot reference converted lead"
            return Refusal("CANNOT_UPDATE_CONVERTED_LEAD", message)
        if spec.name == "Contact" and found["IsPersonAccount"] is True:
            # Object Reference, "Contact": the contact behind a person account is not written.
            message = "the contact of a person account is changed through its account"
            return Refusal("INVALID_PERSON_ACCOUNT_OPERATION", message)
        values = self._checked_values(spec, record, is_new=False)
        if isinstance(values, Refusal):
            return values
        fault = self.org.faults.take_for_record(found.id)
        if fault is not None:
            return _faulty(fault, found.id)
        return self._judged(Save(spec, found.id, values), found)

    def check_create(self, spec: ObjectSpec, record: Json) -> Save | Refusal:
        """Check a new record; see `check_update`."""
        if not spec.createable:
            message = f"entity type {spec.name} does not support create"
            return Refusal("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", message)
        if given_id(record) is not None:
            message = "cannot specify Id in an insert call"
            return Refusal("INVALID_FIELD_FOR_INSERT_UPDATE", message, ("Id",))
        values = self._checked_values(spec, record, is_new=True)
        if isinstance(values, Refusal):
            return values
        missing = [
            each.name
            for each in spec.fields.values()
            if each.createable and not each.nillable and not each.is_defaulted
            if values.get(each.name) is None
        ]
        if missing:
            listed = f"Required fields are missing: [{', '.join(missing)}]"
            return Refusal("REQUIRED_FIELD_MISSING", listed, tuple(missing))
        return self._judged(Save(spec, None, values), None)

    def check_upsert(
        self, spec: ObjectSpec, key: FieldSpec, record: Json, counted: Mapping[str, int]
    ) -> Save | Refusal:
        """Check an upsert by an external id, or by Id."""
        if key.type == "id":
            if given_id(record):
                return self.check_update(spec, record, counted)
            return self.check_create(spec, {k: v for k, v in record.items() if k.lower() != "id"})
        value = next((v for name, v in record.items() if name.lower() == key.name.lower()), None)
        if value in (None, ""):
            return Refusal("MISSING_ARGUMENT", f"{key.name} not specified", (key.name,))
        if counted.get(str(value).casefold(), 1) > 1:
            message = f"Duplicate external id specified: {value}"
            return Refusal("DUPLICATE_VALUE", message, (key.name,))
        kept = stored(key, value)
        rows = [row for row in self.org.holding(spec.name, key.name, kept) if not row.is_deleted]
        if len(rows) > 1:
            message = f"{key.name}: more than one record found for external id field"
            return Refusal("DUPLICATE_EXTERNAL_ID", message, (key.name,))
        if rows:
            return self.check_update(spec, {**record, "Id": rows[0].id}, {})
        return self.check_create(spec, record)

    def check_delete(self, spec: ObjectSpec, record_id: str) -> Save | Refusal:
        """Check a deletion."""
        found = self.live_record(spec, record_id)
        if isinstance(found, Refusal):
            return found
        if not spec.deletable:
            message = f"entity type {spec.name} does not support delete"
            return Refusal("INSUFFICIENT_ACCESS_OR_READONLY", message)
        return Save(spec, found.id, {})

    def live_record(self, spec: ObjectSpec, record_id: str) -> Record | Refusal:
        """The record of this id, if it is there to be written."""
        if not is_id(record_id):
            return Refusal("MALFORMED_ID", f"malformed id {record_id}", ("Id",))
        record = self.org.find(spec.name, record_id)
        if record is None or not self.org.access.sees_record(record):
            return Refusal("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
        if record.is_deleted:
            return Refusal("ENTITY_IS_DELETED", "entity is deleted")
        return record

    def _judged(self, save: Save, record: Record | None) -> Save | Refusal:
        """The save, unless a rule or a lock is against it."""
        guards = self.org.guards
        whole = {**(record.fields if record else NO_FIELDS), **save.values}
        refusal = guards.refusal(self.org, save.spec, whole, record) or self._not_unique(
            save, record
        )
        refusal = refusal or guards.duplicate(
            self.org, save.spec, whole, record, allow_save=self.allows_duplicates
        )
        return refusal or save

    def _not_unique(self, save: Save, record: Record | None) -> Refusal | None:
        for name, value in save.values.items():
            each = save.spec.get(name)
            if each is None or not each.unique or value is None:
                continue
            own = record.id if record else ""
            for row in self.org.holding(save.spec.name, name, value):
                if row.id != own and not row.is_deleted:
                    message = f"duplicate value found: {name} duplicates value on record with id: "
                    return Refusal("DUPLICATE_VALUE", message + row.id[:15])
        return None

    def _checked_values(
        self, spec: ObjectSpec, record: Json, *, is_new: bool
    ) -> dict[str, Value] | Refusal:
        fields = self._writable_fields(spec, record, is_new=is_new)
        if isinstance(fields, Refusal):
            return fields
        values: dict[str, Value] = {}
        for each, value in fields:
            refusal = self._put_value(each, value, values)
            if refusal is not None:
                return refusal
        blanked = [
            each.name for each, _ in fields if values[each.name] is None and not each.nillable
        ]
        if blanked:
            listed = f"Required fields are missing: [{', '.join(blanked)}]"
            return Refusal("REQUIRED_FIELD_MISSING", listed, tuple(blanked))
        return check_setup(self.org, spec, values) or values if is_new else values

    def _writable_fields(
        self, spec: ObjectSpec, record: Json, *, is_new: bool
    ) -> list[tuple[FieldSpec, object]] | Refusal:
        fields: list[tuple[FieldSpec, object]] = []
        for name, value in record.items():
            if name == "attributes" or name.lower() == "id":
                continue
            each = spec.get(name)
            if each is None or not self.org.access.may_read(spec, each):
                # The same words for what is unknown and what is hidden: security does not tell.
                message = f"No such column '{name}' on sobject of type {spec.name}"
                return Refusal("INVALID_FIELD", message)
            fields.append((each, value))
        locked = [each.name for each, _ in fields if not self._may_write(spec, each, is_new=is_new)]
        if locked:
            message = (
                f"Unable to create/update fields: {', '.join(locked)}. Please check the security "
                "settings of this field and verify that it is read/write for your profile or "
                "permission set."
            )
            return Refusal("INVALID_FIELD_FOR_INSERT_UPDATE", message, tuple(locked))
        return fields

    def _may_write(self, spec: ObjectSpec, each: FieldSpec, *, is_new: bool) -> bool:
        if is_new and each.createable and not each.updateable:
            return True  # settable once, at creation
        return self.org.access.may_edit(spec, each)

    def _put_value(
        self, each: FieldSpec, value: object, values: dict[str, Value]
    ) -> Refusal | None:
        try:
            kept = stored(each, value)
        except RefusedValueError as error:
            return Refusal(error.code, error.message, (error.field,))
        if each.type == "reference" and isinstance(kept, str) and not self._points_at(each, kept):
            message = "invalid cross reference id"
            return Refusal("INVALID_CROSS_REFERENCE_KEY", message, (each.name,))
        values[each.name] = kept
        return None

    def _points_at(self, each: FieldSpec, record_id: str) -> bool:
        found = (self.org.find(name, record_id) for name in each.reference_to)
        return any(record is not None and not record.is_deleted for record in found)

    # Writing

    def write(self, save: Save) -> str:
        """Save a checked record and return its id."""
        org = self.org
        owner: dict[str, Value] = {"OwnerId": org.assignment_owner}
        runs_rules = self.assigns and save.spec.name in ASSIGNED and bool(org.assignment_owner)
        if save.id is None:
            values = {**owner, **save.values} if runs_rules else save.values
            made = org.create(save.spec.name, values, by=API)
            org.guards.run_workflows(org, save.spec, made)
            return made
        # Saving what is there already still moves the stamps: the vendor saves, it does not
        # compare.
        org.edit(save.spec.name, save.id, save.values, by=API)
        if runs_rules:
            org.edit(save.spec.name, save.id, owner, by=org.api_user_id)
        org.guards.run_workflows(org, save.spec, save.id)
        return save.id

    def delete(self, save: Save) -> str:
        """Delete a checked record and return its id."""
        record_id = save.id or ""
        self.org.delete(save.spec.name, record_id, by=API)
        return record_id


def given_id(record: Json) -> object:
    """The id that a record in a request names, whatever the case of its key."""
    return next((value for name, value in record.items() if name.lower() == "id"), None)


def _faulty(fault: RecordFault, record_id: str) -> Refusal:
    fields = (fault.field,) if fault.field else ()
    match fault.kind:
        case "lock":
            message = f"unable to obtain exclusive access to this record or 1 records: {record_id}"
            return Refusal("UNABLE_TO_LOCK_ROW", fault.message or message, fields)
        case "validation":
            message = "The record breaks a validation rule."
            return Refusal("FIELD_CUSTOM_VALIDATION_EXCEPTION", fault.message or message, fields)
        case code:
            return Refusal(code, fault.message or code, fields)
