"""HubSpot's JSON becomes canonical records here, and travels no further.

Property values are text. Whether a deal is closed or won is HubSpot's own flag, else what its
stage's definition says; never the stage's label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC
from decimal import Decimal
from typing import Any, Final

from connectors.base import ConnectionSettings, Stream
from connectors.fieldmap import FieldMap, MapRequest, NativeField, compile_fieldmap
from connectors.hubspot.client import Json
from connectors.hubspot.defaults import COMPANIES, LINK, MAY_LACK, PRIMARY_COMPANY, defaults_of
from connectors.hubspot.derived import Derived, instant
from connectors.hubspot.links import Links, best
from connectors.hubspot.reading import merged_ids
from connectors.values import ReadOptions, Unreadable, reader
from store.canonical import (
    RECORD_TYPES,
    CanonicalRecord,
    Key,
    Owner,
    RecordRef,
    RejectedRecord,
    Scalar,
    Stage,
)

_READ_RATIO: Final = reader("percent", ReadOptions(zone=UTC, prefix="", percent_divisor=1))

_MONEY: Final = ("amount", "annual_revenue", "total", "unit_price", "cost", "budget")
_STAMPS: Final = (
    ("createdate", "createdAt"),
    ("hs_createdate", "createdAt"),
    ("hs_lastmodifieddate", "updatedAt"),
    ("lastmodifieddate", "updatedAt"),
)

LinksByObject = Mapping[str, Links]
"""Object -> links to its records; an object is missing where they are not known."""


@dataclass(slots=True)
class Mapped:
    """What rows became."""

    records: list[CanonicalRecord] = field(default_factory=list)
    rejected: list[RejectedRecord] = field(default_factory=list)
    deleted: list[RecordRef] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pipelines:
    """The pipelines of an object: what its stages mean and where they belong."""

    stages: Mapping[str, Stage]
    """Native stage id -> the stage."""
    labels: Mapping[str, str]
    """Native pipeline id -> its label."""


NO_PIPELINES: Final = Pipelines({}, {})


# ---------------------------------------------------------------- owners and stages


def owner_of(connection: str, content: Json) -> Owner:
    """Map one owner; `id` is what records name, `userId` is not."""
    names = (content.get("firstName"), content.get("lastName"))
    name = " ".join(str(part).strip() for part in names if part).strip()
    email = content.get("email") or None
    teams: Sequence[Json] = content.get("teams") or ()
    main = next((team for team in teams if team.get("primary")), teams[0] if teams else None)
    return Owner(
        ref=RecordRef(connection, Owner.STREAM, str(content["id"])),
        created_at=instant(content.get("createdAt")),
        modified_at=instant(content.get("updatedAt")),
        name=name or email,
        email=email,
        team=str(main["name"]) if main and main.get("name") else None,
        is_active=not content.get("archived"),
    )


def pipelines_of(connection: str, content: Sequence[Json]) -> Pipelines:
    """Read the pipelines of an object; metadata values are text."""
    stages: dict[str, Stage] = {}
    labels: dict[str, str] = {}
    for pipeline in content:
        pipeline_id = str(pipeline["id"])
        labels[pipeline_id] = str(pipeline.get("label") or pipeline_id)
        for position, stage in enumerate(_in_order(pipeline.get("stages") or ())):
            metadata = stage.get("metadata") or {}
            probability = _ratio(metadata.get("probability"))
            is_closed = _is_closed(metadata)
            stages[str(stage["id"])] = Stage(
                ref=RecordRef(connection, Stage.STREAM, str(stage["id"])),
                created_at=instant(stage.get("createdAt")),
                modified_at=instant(stage.get("updatedAt")),
                pipeline=f"{connection}:{pipeline_id}",
                pipeline_label=labels[pipeline_id],
                label=str(stage.get("label") or stage["id"]),
                position=position,
                is_closed=is_closed,
                is_won=is_closed and probability == 1,
                probability=probability,
                is_active=not stage.get("archived"),
            )
    return Pipelines(stages, labels)


def _in_order(stages: Sequence[Json]) -> list[Json]:
    return sorted(stages, key=lambda stage: int(stage.get("displayOrder") or 0))


def _is_closed(metadata: Json) -> bool:
    """Deals' stages say ``isClosed``, tickets' ``ticketState`` beside it or alone."""
    told = metadata.get("isClosed")
    if told not in (None, ""):
        return str(told).lower() == "true"
    return str(metadata.get("ticketState") or metadata.get("state")).upper() == "CLOSED"


# ---------------------------------------------------------------- records


def map_of_marketing(
    settings: ConnectionSettings, stream: Stream, look_up: Callable[[str], NativeField | None]
) -> FieldMap:
    """How the rows of a stream are mapped whose fields HubSpot describes nowhere."""
    configured = settings.streams.get(stream.name)
    return compile_fieldmap(
        MapRequest(
            connection=settings.name,
            crm="HubSpot",
            stream=stream.name,
            object=stream.object,
            company=settings.company,
            defaults=defaults_of(stream.name, stream.object),
            own=configured.fields if configured else {},
            look_up=look_up,
            missing_remedy="",
            may_lack=MAY_LACK,
            percent_divisor=1,
        )
    )


@dataclass(frozen=True, slots=True)
class RecordMapper:
    """Maps the records of any object.

    `home_currency` is the portal's currency where it is not the company's: what an amount
    without a currency code is in.
    """

    connection: str
    stream: str
    fieldmap: FieldMap
    home_currency: str | None = None
    derived: Mapping[str, Derived] = field(default_factory=dict)

    def map(self, row: Json, links: LinksByObject, mapped: Mapped) -> None:
        """Map one record into `mapped`."""
        record = self.record(row, self.native(row, links), mapped)
        if record is not None:
            mapped.records.append(record)
            mapped.records += losers(record, row)

    def native(self, row: Json, links: LinksByObject) -> dict[str, object]:
        """A record's JSON as field maps read it."""
        native = native_of(row, links)
        for name, one in self.derived.items():
            native[name] = one.read(native)
        return native

    def record(
        self,
        row: Json,
        native: Mapping[str, object],
        mapped: Mapped,
        given: Mapping[str, Scalar] | None = None,
    ) -> CanonicalRecord | None:
        """The canonical record; None where it was rejected."""
        ref = RecordRef(self.connection, self.stream, str(row["id"]))
        record = self.fieldmap.record(ref, native, given=given or {})
        if isinstance(record, RejectedRecord):
            mapped.rejected.append(record)
            return None
        return in_home_currency(record, self.home_currency)


def in_home_currency(record: CanonicalRecord, currency: str | None) -> CanonicalRecord:
    """A record whose amounts have a currency, if they need to be told one."""
    if currency is None or getattr(record, "currency", currency) is not None:
        return record
    if all(getattr(record, name, None) is None for name in _MONEY):
        return record
    given: dict[str, Any] = {"currency": currency}
    return replace(record, **given)


def native_of(row: Json, links: LinksByObject) -> dict[str, object]:
    """A record's JSON as field maps read it: its properties, beside its links by object."""
    native: dict[str, object] = dict(row.get("properties") or {})
    linked_ids: dict[str, object] = {name: best(linked) for name, linked in links.items()}
    if linked_ids.get(COMPANIES, "") is None:
        # Contacts carry their primary company as a property, too.
        linked_ids[COMPANIES] = native.get(PRIMARY_COMPANY) or None
    native[LINK.rstrip(".")] = linked_ids
    for name, own in _STAMPS:
        if not native.get(name):
            native[name] = row.get(own)
    return native


def losers(winner: CanonicalRecord, row: Json) -> Iterator[CanonicalRecord]:
    """The records that were merged into `winner`.

    HubSpot shows nothing of them but their ids, so these carry only the marks.
    """
    for old_id in merged_ids(row):
        yield loser(winner.ref, old_id, winner.ref.key, winner)


def loser(
    winner: RecordRef, old_id: str, merged_into: Key, known: CanonicalRecord | None = None
) -> CanonicalRecord:
    """The mark of one merged-away record; what has to be there is taken from the `known` winner."""
    record_type = RECORD_TYPES[winner.stream]
    needed: dict[str, Any] = {
        name: getattr(known, name) for name in _NEEDED.get(winner.stream, ()) if known is not None
    }
    return record_type(
        ref=RecordRef(winner.connection, winner.stream, old_id),
        deleted=True,
        merged_into=merged_into,
        modified_at=known.modified_at if known else None,
        **needed,
    )


_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "survey_responses": ("submitted_at",),
    "costs": ("date", "amount"),
    "campaign_members": ("campaign", "at"),
    "deal_lines": ("deal",),
}
"""Fields that a record of the stream cannot be without."""


def can_be_marked(stream: str) -> bool:
    """Whether a record of which only the id is known can be marked as merged."""
    return stream not in _NEEDED


def _ratio(value: object) -> Decimal | None:
    try:
        ratio = _READ_RATIO(value)
    except Unreadable:
        return None
    return ratio if isinstance(ratio, Decimal) else None
