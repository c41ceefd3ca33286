"""A write-back's plan: old -> new per record, as a value and as JSON."""

from __future__ import annotations

import dataclasses
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
class Edit:
    """A field of ours in which somebody else has put another value since we last wrote."""

    record: str
    field: str
    ours: Scalar
    held: Scalar
    outcome: str
    """restored, kept or frozen."""


@dataclass(frozen=True, slots=True)
class Move:
    """One of the largest changes, with what is behind it."""

    record: str
    field: str
    old: Scalar
    new: Scalar
    why: str
    group: tuple[str, str] | None = dataclasses.field(default=None, compare=False)
    """Dimension and key of the value behind it; not in a file."""


@dataclass(frozen=True, slots=True)
class FieldCount:
    """What would happen in one field, over all records."""

    field: str
    kpi: str
    period: str
    changed: int = 0
    first: int = 0
    same: int = 0
    blanked: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True)
class GuardVerdict:
    """Whether a plan may be written."""

    ok: bool
    reason: str | None = None
    """What was seen, which limit it passes, and what to do."""
    may_accept: bool = False
    """Whether a person who has looked may accept it once; faulty values nobody can."""


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
    """API calls that writing takes; those of the canary come first."""
    quota_share: Decimal | None
    """The share of a day's calls that writing and reading back take, where the limit is known."""
    guard: GuardVerdict
    as_of: datetime | None = None
    """The latest instant of the values behind it."""
    reads: int = 0
    """API calls that looking at the records before and after takes, about."""
    fields: tuple[FieldCount, ...] = ()
    edits: tuple[Edit, ...] = ()
    moves: tuple[Move, ...] = ()
    """The largest ones, the largest first."""
    notes: tuple[str, ...] = ()
    """Sentences about what was left out."""
    made_at: datetime | None = None
    """A plan in a file is valid for a day from then."""
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    """What stands behind the values, for the guard of the next pass; not in a file."""
    wanted: Mapping[tuple[str, str], Scalar] = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )
    """(record id, field) -> what should stand there; not in a file."""

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
            "fields": [
                {
                    "field": one.field,
                    "kpi": one.kpi,
                    "period": one.period,
                    "changed": one.changed,
                    "first": one.first,
                    "same": one.same,
                    "blanked": one.blanked,
                    "kept": one.kept,
                }
                for one in self.fields
            ],
            "moves": [
                {
                    "record": move.record,
                    "field": move.field,
                    "old": shown(move.old),
                    "new": shown(move.new),
                    "why": move.why,
                    "types": [_type_name(move.old), _type_name(move.new)],
                }
                for move in self.moves
            ],
            "edits": [
                {
                    "record": edit.record,
                    "field": edit.field,
                    "ours": shown(edit.ours),
                    "held": shown(edit.held),
                    "outcome": edit.outcome,
                    "types": [_type_name(edit.ours), _type_name(edit.held)],
                }
                for edit in self.edits
            ],
            "notes": list(self.notes),
            "calls": self.calls,
            "reads": self.reads,
            "quota_share": None if self.quota_share is None else format(self.quota_share, "f"),
            "guard": {"ok": self.guard.ok, "reason": self.guard.reason},
            "may_accept": self.guard.may_accept,
            "as_of": None if self.as_of is None else shown(self.as_of),
            "made_at": None if self.made_at is None else shown(self.made_at),
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
        guard=GuardVerdict(
            ok=guard.part("ok").document is True,
            reason=guard.part("reason").optional_text(),
            may_accept=plan.part("may_accept").document is True,
        ),
        as_of=plan.part("as_of").optional_instant(),
        reads=plan.part("reads").count(),
        fields=tuple(_read_count(one) for one in plan.part("fields").items()),
        edits=tuple(_read_edit(one) for one in plan.part("edits").items()),
        moves=tuple(_read_move(one) for one in plan.part("moves").items()),
        notes=tuple(one.text() for one in plan.part("notes").items()),
        made_at=plan.part("made_at").optional_instant(),
    )


def _read_count(count: _Reader) -> FieldCount:
    return FieldCount(
        field=count.part("field").text(),
        kpi=count.part("kpi").text(),
        period=count.part("period").text(),
        changed=count.part("changed").count(),
        first=count.part("first").count(),
        same=count.part("same").count(),
        blanked=count.part("blanked").count(),
        kept=count.part("kept").count(),
    )


def _read_edit(edit: _Reader) -> Edit:
    ours_type, held_type = (one.text() for one in edit.part("types").items())
    return Edit(
        record=edit.part("record").text(),
        field=edit.part("field").text(),
        ours=edit.part("ours").scalar(ours_type),
        held=edit.part("held").scalar(held_type),
        outcome=edit.part("outcome").text(),
    )


def _read_move(move: _Reader) -> Move:
    old_type, new_type = (one.text() for one in move.part("types").items())
    return Move(
        record=move.part("record").text(),
        field=move.part("field").text(),
        old=move.part("old").scalar(old_type),
        new=move.part("new").scalar(new_type),
        why=move.part("why").text(),
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
