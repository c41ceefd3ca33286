"""What may stand between a write and the record: rules, locks, duplicates, other people's tools.

Pages: Help, "Validation Rules", "Duplicate Rules" and "Triggers and Order of Execution"; Record
Locking Cheat Sheet; REST API Developer Guide, "Duplicate Rule Header".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sandbox.org import Fields, Record, Value
from sandbox.salesforce_fields import ObjectSpec

if TYPE_CHECKING:
    from sandbox.salesforce_org import SalesforceOrg

OTHER_TOOL: Final = "other tool"
"""The actor of what workflows and other tools write."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one record is not saved."""

    code: str
    message: str
    fields: tuple[str, ...] = ()

    def result(self) -> dict[str, object]:
        """The record's entry in a Collections answer."""
        error = {"statusCode": self.code, "message": self.message, "fields": list(self.fields)}
        return {"success": False, "errors": [error]}

    def line(self) -> str:
        """The record's sf__Error in a Bulk job (Bulk API 2.0 guide, "Get Job Failed Records")."""
        return f"{self.code}:{self.message}:{','.join(self.fields)} --"


@dataclass(frozen=True, slots=True)
class ValidationRule:
    """Refuses a record whose field compares so with a value, whatever was written."""

    object: str
    field: str
    operator: str
    value: Value
    message: str

    def refuses(self, values: Fields) -> bool:
        """Whether a record with these values breaks the rule."""
        return OPERATORS[self.operator](values.get(self.field), self.value)


@dataclass(frozen=True, slots=True)
class Workflow:
    """Saves every record of an object again after each save of it through the API."""

    object: str
    values: Fields


@dataclass(slots=True)
class Guards:
    """The rules of one org, and the share of writes that meet a lock."""

    rules: list[ValidationRule] = field(default_factory=list)
    workflows: list[Workflow] = field(default_factory=list)
    duplicate_fields: dict[str, tuple[str, bool]] = field(default_factory=dict)
    """By object: the field whose equal values make a duplicate, and whether the rule blocks."""
    lock_share: float = 0.0

    def refusal(
        self, org: SalesforceOrg, spec: ObjectSpec, values: Fields, record: Record | None
    ) -> Refusal | None:
        """What refuses the saving of a record that would then hold `values`."""
        for rule in self.rules:
            if rule.object == spec.name and rule.refuses(values):
                # Validation rules judge the whole record, not the fields that were sent.
                code = "FIELD_CUSTOM_VALIDATION_EXCEPTION"
                return Refusal(code, rule.message, (rule.field,))
        if record is not None and self.lock_share and org.random.random() < self.lock_share:
            message = f"unable to obtain exclusive access to this record or 1 records: {record.id}"
            return Refusal("UNABLE_TO_LOCK_ROW", message)
        return None

    def duplicate(
        self,
        org: SalesforceOrg,
        spec: ObjectSpec,
        values: Fields,
        record: Record | None,
        *,
        allow_save: bool,
    ) -> Refusal | None:
        """What the duplicate rule says; `allow_save` passes a rule that only alerts."""
        name, blocks = self.duplicate_fields.get(spec.name, ("", False))
        wanted = values.get(name) if name else None
        if wanted is None or (allow_save and not blocks):
            return None
        own = record.id if record else ""
        rows = org.holding(spec.name, name, wanted)
        if any(row.id != own and not row.is_deleted for row in rows):
            return Refusal("DUPLICATES_DETECTED", "Use one of these records?")
        return None

    def run_workflows(self, org: SalesforceOrg, spec: ObjectSpec, record_id: str) -> None:
        """Let other tools do what they do after a save through the API."""
        for each in self.workflows:
            if each.object == spec.name:
                org.edit(spec.name, record_id, each.values, by=OTHER_TOOL)


OPERATORS: Final[Mapping[str, Callable[[Value, Value], bool]]] = {
    "=": lambda have, value: have == value,
    "!=": lambda have, value: have != value,
    "<": lambda have, value: _ordered(have, value, -1),
    ">": lambda have, value: _ordered(have, value, 1),
    "blank": lambda have, _: have is None,
    "filled": lambda have, _: have is not None,
}


def _ordered(have: Value, value: Value, sign: int) -> bool:
    if isinstance(have, int | float) and isinstance(value, int | float):
        return (have > value) - (have < value) == sign
    if isinstance(have, str) and isinstance(value, str):
        return (have > value) - (have < value) == sign
    return False
