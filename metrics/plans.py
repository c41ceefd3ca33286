"""A write-back's plan: old -> new per record, as a value and as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Final, TypeAlias

from metrics.fitting import WritebackSpec
from store.canonical import FieldUpdate, Scalar

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | bool | None"

CHANGE: Final = "change"
FILL: Final = "fill"
BLANK: Final = "blank"
KEPT: Final = "kept"
KINDS: Final = (CHANGE, FILL, BLANK, KEPT)


class UnreadablePlanError(ValueError):
    """A document that is no plan, or one that was changed after it was made."""


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one field of one record."""

    record: str
    """The record's native id."""
    field: str
    old: Scalar
    new: Scalar
    """Equal to `old` where `kind` is kept."""
    kind: str
    """One of change, fill, blank, kept."""
    why: str
    """One sentence for people."""


@dataclass(frozen=True, slots=True)
class GuardVerdict:
    """Whether a plan may be written."""

    ok: bool
    reason: str | None = None
    """What was seen, which limit it passes, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Old -> new per record, what it costs, and the guard's verdict."""

    writeback: str
    connection: str
    object: str
    matched: int
    """Records that have a value and exist in the CRM."""
    unmatched: int
    """Records that have a value and were not found in the CRM."""
    deleted: int
    """Records that have a value and were deleted or merged away."""
    changes: tuple[Change, ...]
    """By record id, then by the order of the fields; the stamp last."""
    calls: int
    """API calls that writing takes."""
    quota_share: Decimal | None
    """Their share of a day's calls, where the day's limit is known."""
    guard: GuardVerdict
    as_of: datetime | None = None
    """The latest instant of the values behind it."""

    @property
    def id(self) -> str:
        """Names exactly this plan: equal plans have equal ids."""
        content = json.dumps(self._content(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def to(self) -> str:
        """``CONNECTION.OBJECT``."""
        return f"{self.connection}.{self.object}"

    def updates(self) -> list[FieldUpdate]:
        """What is to be written, a record's updates beside each other; kept fields are not."""
        return [
            FieldUpdate(
                connection=self.connection,
                object=self.object,
                record_id=change.record,
                field=change.field,
                value=change.new,
                old=change.old,
            )
            for change in self.changes
            if change.kind != KEPT
        ]

    def strangers(self, spec: WritebackSpec) -> tuple[str, ...]:
        """What the plan would touch beyond `spec`: it was made for something else, or edited."""
        own = {one.field for one in spec.fields} | ({spec.stamp} if spec.stamp else set())
        found = {change.field for change in self.changes} - own
        targets = {self.to} - {spec.to}
        return tuple(sorted(found | targets))

    def to_json(self) -> dict[str, Json]:
        """The plan as in ``plan --json``; numbers are decimal strings."""
        return {"plan": self.id, **self._content()}

    def _content(self) -> dict[str, Json]:
        return {
            "writeback": self.writeback,
            "to": self.to,
            "matched": self.matched,
            "unmatched": self.unmatched,
            "deleted": self.deleted,
            "changes": [
                {
                    "record": change.record,
                    "field": change.field,
                    "old": shown(change.old),
                    "new": shown(change.new),
                    "kind": change.kind,
                    "why": change.why,
                    "types": [_type_name(change.old), _type_name(change.new)],
                }
                for change in self.changes
            ],
            "calls": self.calls,
            "quota_share": None if self.quota_share is None else format(self.quota_share, "f"),
            "guard": {"ok": self.guard.ok, "reason": self.guard.reason},
            "as_of": None if self.as_of is None else shown(self.as_of),
        }

    @classmethod
    def from_json(cls, document: Json) -> Plan:
        """The plan that `to_json` wrote.

        Raises:
            UnreadablePlanError: the document is no plan, or was changed since.
        """
        plan = _read_plan(_Reader(document, "the plan"))
        if isinstance(document, Mapping) and document.get("plan") != plan.id:
            raise UnreadablePlanError("the plan was changed after it was made; make a new one")
        return plan


# ---------------------------------------------------------------- scalars in JSON


def shown(value: Scalar) -> str | bool | None:
    """A scalar in JSON: numbers as decimal strings, instants in UTC."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    return format(Decimal(value), "f")


def _type_name(value: Scalar) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "text"
    if isinstance(value, datetime):
        return "datetime"
    return "date" if isinstance(value, date) else "number"


# ---------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class _Reader:
    """Takes a JSON document apart, naming what is not as it should be."""

    document: Json
    what: str

    def part(self, name: str) -> _Reader:
        if not isinstance(self.document, Mapping) or name not in self.document:
            raise UnreadablePlanError(f'{self.what} has no "{name}"')
        return _Reader(self.document[name], f'"{name}"')

    def items(self) -> Iterator[_Reader]:
        if not isinstance(self.document, list | tuple):
            raise UnreadablePlanError(f"{self.what} is not a list")
        for position, item in enumerate(self.document):
            yield _Reader(item, f"{self.what}[{position}]")

    def text(self) -> str:
        if not isinstance(self.document, str):
            raise UnreadablePlanError(f"{self.what} is not text")
        return self.document

    def optional_text(self) -> str | None:
        return None if self.document is None else self.text()

    def optional_instant(self) -> datetime | None:
        if self.document is None:
            return None
        instant = self.scalar("datetime")
        return instant if isinstance(instant, datetime) else None

    def count(self) -> int:
        if not isinstance(self.document, int) or isinstance(self.document, bool):
            raise UnreadablePlanError(f"{self.what} is not a number")
        return self.document

    def scalar(self, type_name: str) -> Scalar:
        """A value that `shown` wrote."""
        if type_name == "null":
            return None
        if type_name == "boolean":
            return self.document is True
        text = self.text()
        try:
            match type_name:
                case "number":
                    return Decimal(text)
                case "date":
                    return date.fromisoformat(text)
                case "datetime":
                    return datetime.fromisoformat(text)
        except (ValueError, InvalidOperation):
            raise UnreadablePlanError(f"{self.what} is not a {type_name}") from None
        return text


def _read_plan(plan: _Reader) -> Plan:
    connection, _, object_name = plan.part("to").text().partition(".")
    share = plan.part("quota_share").optional_text()
    guard = plan.part("guard")
    return Plan(
        writeback=plan.part("writeback").text(),
        connection=connection,
        object=object_name,
        matched=plan.part("matched").count(),
        unmatched=plan.part("unmatched").count(),
        deleted=plan.part("deleted").count(),
        changes=tuple(_read_change(change) for change in plan.part("changes").items()),
        calls=plan.part("calls").count(),
        quota_share=None if share is None else Decimal(share),
        guard=GuardVerdict(guard.part("ok").document is True, guard.part("reason").optional_text()),
        as_of=plan.part("as_of").optional_instant(),
    )


def _read_change(change: _Reader) -> Change:
    kind = change.part("kind").text()
    if kind not in KINDS:
        raise UnreadablePlanError(f"{change.what} has an unknown kind")
    old_type, new_type = (one.text() for one in change.part("types").items())
    return Change(
        record=change.part("record").text(),
        field=change.part("field").text(),
        old=change.part("old").scalar(old_type),
        new=change.part("new").scalar(new_type),
        kind=kind,
        why=change.part("why").text(),
    )
