"""History rows: the opportunity's snapshots, and the fields that an org tracks.

Pages: Object Reference, "OpportunityHistory", "OpportunityFieldHistory", "CaseHistory"; Help,
"Field History Tracking".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

from sandbox.org import Fields, Record, Value
from sandbox.salesforce_fields import FieldSpec, ObjectSpec

if TYPE_CHECKING:
    from sandbox.salesforce_org import SalesforceOrg

SNAPSHOT_CAUSES: Final = ("StageName", "Amount", "Probability", "CloseDate")
HISTORY_OF: Final[Mapping[str, str]] = {
    "Opportunity": "OpportunityFieldHistory",
    "Case": "CaseHistory",
    "Lead": "LeadHistory",
}
MOST_TRACKED: Final = 20  # Help, "Field History Tracking": fields per object


class History:
    """Writes the history rows of one org.

    OpportunityHistory is always on; field histories hold only what `track` has switched on.
    """

    def __init__(self, org: SalesforceOrg) -> None:
        self._org = org
        self._tracked: dict[str, tuple[str, ...]] = {"Case": ("Status", "Priority", "OwnerId")}
        self._snapshots: dict[str, list[str]] = {}

    def track(self, object_name: str, fields: list[str]) -> None:
        """Track these fields of an object from now on, and no others.

        Raises:
            ValueError: for an object without field history, unknown fields, or too many.
        """
        spec = self._org.known_spec(object_name)
        if spec.name not in HISTORY_OF:
            raise ValueError(f"{spec.name} has no field history here; {sorted(HISTORY_OF)} have")
        found = [spec.get(name) for name in fields]
        if None in found or len(found) > MOST_TRACKED:
            raise ValueError(f"cannot track {fields} of {spec.name} (at most {MOST_TRACKED})")
        self._tracked[spec.name] = tuple(each.name for each in found if each)

    def write(self, record: Record, before: Fields, at: datetime, by: str) -> None:
        """Add the rows that a committed create (`before` is empty) or edit leaves."""
        if record.object_name == "Opportunity":
            self._snapshot(record, before, at, by)
        if record.object_name in HISTORY_OF:
            self._write_tracked(record, before, at, by)

    def of(self, record: Record) -> list[Record]:
        """All history rows of a record, the oldest snapshot first."""
        rows = self._org.rows("OpportunityHistory")
        out = [rows[each] for each in self._snapshots.get(record.id, ()) if each in rows]
        if (name := HISTORY_OF.get(record.object_name)) is not None:
            out += self._org.children(name, f"{record.object_name}Id", record.id)
        return out

    def forget(self, record: Record) -> None:
        """The record is gone for good."""
        self._snapshots.pop(record.id, None)

    def _snapshot(self, record: Record, before: Fields, at: datetime, by: str) -> None:
        # A row at creation and at each change of stage, amount, probability or close date; the
        # row before it is then stamped anew.
        if before and all(before.get(name) == record[name] for name in SNAPSHOT_CAUSES):
            return
        rows = self._snapshots.setdefault(record.id, [])
        kept = self._org.rows("OpportunityHistory")
        for each in rows[-1:]:
            if each in kept:
                self._org.put(kept[each], kept[each].state, modified=at)
        row = {name: record[name] for name in (*SNAPSHOT_CAUSES, "ExpectedRevenue")}
        row |= {"ForecastCategory": record["ForecastCategory"], "OpportunityId": record.id}
        if (currency := record["CurrencyIsoCode"]) is not None:
            row["CurrencyIsoCode"] = currency
        rows.append(self._org.create("OpportunityHistory", row, at=at, by=by))

    def _write_tracked(self, record: Record, before: Fields, at: datetime, by: str) -> None:
        tracked = self._tracked.get(record.object_name)
        spec = self._org.known_spec(record.object_name)
        if not tracked:
            return
        if not before:
            self._add(record, ("created", "Text", None, None), at=at, by=by)
            return
        for name in tracked:
            old, new, each = before.get(name), record[name], spec.get(name)
            if old == new or each is None:
                continue
            if each.type != "reference":
                self._add(record, (each.name, _data_type(each), old, new), at=at, by=by)
                continue
            # A lookup leaves two rows: one with the ids, one with the names.
            shown = each.name.removesuffix("Id")
            self._add(record, (shown, "EntityId", old, new), at=at, by=by)
            names = (self._org.name_of(old), self._org.name_of(new))
            self._add(record, (shown, "Text", *names), at=at, by=by)

    def _add(
        self, record: Record, change: tuple[Value, Value, Value, Value], *, at: datetime, by: str
    ) -> None:
        parent = f"{record.object_name}Id"
        names = (parent, "Field", "DataType", "OldValue", "NewValue")
        row = dict(zip(names, (record.id, *change), strict=True))
        self._org.create(HISTORY_OF[record.object_name], row, at=at, by=by)


def _data_type(each: FieldSpec) -> str:
    kinds = {"picklist": "DynamicEnum", "currency": "Currency", "date": "DateOnly",
             "datetime": "DateTime", "boolean": "Boolean", "percent": "Percent"}  # fmt: skip
    return kinds.get(each.type, "Text")


def hidden_history(org: SalesforceOrg, spec: ObjectSpec) -> frozenset[str]:
    """The values of Field whose rows the user may not see: histories follow their parent's FLS."""
    parent_name = next((name for name, of in HISTORY_OF.items() if of == spec.name), None)
    if parent_name is None:
        return frozenset()
    parent = org.known_spec(parent_name)
    hidden = [each for each in parent.fields.values() if not org.access.may_read(parent, each)]
    return frozenset(
        each.name.removesuffix("Id") if each.type == "reference" else each.name for each in hidden
    )
