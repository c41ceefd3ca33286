"""Planning: what a write-back would change, by what the CRM shows now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Final, TypeAlias, TypeVar

from sqlalchemy import Connection

from config.errors import did_you_mean
from connectors.base import (
    FieldType,
    FindsRecords,
    LiveRecord,
    NewField,
    SetupResult,
    TargetField,
    WriteTarget,
)
from connectors.errors import MisconfiguredConnection
from metrics import values
from metrics.definition import Kpi, Unit
from metrics.periods import CALENDAR_KINDS, Calendar, Kind, period_of
from metrics.values import KpiValue
from metrics.writeback import ZERO, Behind, FieldPlan, Match, Plan, WritebackSpec, make_plan
from store import calls, history, holds, outbox, rewrites, targets
from store.engine import database_now, reading
from store.money import minor_units
from worker.runtime import Runtime
from worker.sources import volatile_notes

READ_AT_ONCE: Final = 10_000
"""Ids asked for in one piece: of many at once a connector may know a cheaper way of reading."""

T = TypeVar("T")

DAY: Final = timedelta(hours=24)
"""What `guard.max_changed` looks back over."""
_EPOCH: Final = date(1970, 1, 1)

TOTAL: Final = "all"
"""The dimension of the company's own values."""
_TOTAL_KEY: Final = "*"
_USUAL_SHARE: Final = Decimal("0.9")
"""Of the org's daily calls, unless the configuration says otherwise."""
_AMBIGUOUS_SHOWN: Final = 3

SetupResults: TypeAlias = Mapping[str, Sequence[SetupResult]]
"""Write-back -> what setup did, or would do, about each field."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the store knows of a write-back, from one snapshot."""

    values: Sequence[KpiValue]
    places: Mapping[str, Mapping[str, Sequence[str]]]
    deleted_ids: frozenset[str]
    pushed: Mapping[tuple[str, str], str]
    everybody: frozenset[str]
    """All records, where a field is 0 in those that have no value."""
    replaced_today: frozenset[str]
    frozen: frozenset[tuple[str, str]]
    behind: Behind
    daily_calls: int | None
    notes: tuple[str, ...] = ()

    def known_ids(self) -> set[str]:
        """Records to look at: those with values, those that we filled once, those to be 0."""
        ids = {
            one for groups in self.places.values() for members in groups.values() for one in members
        }
        filled = {record_id for record_id, _ in self.pushed}
        return (ids | filled | self.everybody) - self.deleted_ids


@dataclass(frozen=True, slots=True)
class _Found:
    """Records of an object of its own, by what their matching field holds."""

    by_value: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def all_ids(self) -> list[str]:
        """Every record that was found."""
        return [one for ids in self.by_value.values() for one in ids]


def plan_writeback(runtime: Runtime, name: str, *, with_reasons: bool = False) -> Plan:
    """Compare the published values with the CRM's own and say what would be written.

    Args:
        runtime: What it works with.
        name: A configured write-back.
        with_reasons: Tell of the largest moves what was behind the value before and is now.

    Raises:
        ConnectorError: The CRM cannot be read, or a field does not exist or cannot be written.
        StoreUnavailable: The database is away.
    """
    runtime.open_store()
    spec = runtime.writebacks[name]
    target = runtime.target(spec.connection)
    fields = usable_fields(spec, target)
    found = _find(runtime, spec.connection, spec.object, spec.match) if spec.match else _Found()
    with reading(runtime.engine) as conn:
        now = database_now(conn)
        mark = holds.mark_of(conn, spec.name)
        spec = _of_now(runtime, spec, now, None if mark is None else mark.marked_at)
        stored = _look(conn, runtime, spec, found, {} if mark is None else mark.counts)
    live = read_live(runtime, spec, sorted(stored.known_ids()), tuple(fields))
    canary = runtime.config.advanced.canary
    plan = make_plan(
        spec,
        values=stored.values,
        targets=fields,
        live=live,
        pushed=stored.pushed,
        deleted_ids=stored.deleted_ids,
        push_batch=push_batch(runtime, spec),
        canary=canary,
        places=stored.places,
        replaced_today=stored.replaced_today,
        frozen=stored.frozen,
        behind=stored.behind,
        timezone=runtime.company.timezone,
    )
    # Each write call is preceded by a look at its records, the canary is also followed by one.
    reads = plan.calls + (1 if plan.calls and canary else 0)
    share = stored.daily_calls and Decimal(plan.calls + reads) / stored.daily_calls
    plan = replace(
        plan,
        made_at=now,
        reads=reads,
        quota_share=None if share is None else round(Decimal(share), 6),
        notes=stored.notes,
    )
    return _with_reasons(runtime, spec, plan, stored) if with_reasons else plan


def usable_fields(spec: WritebackSpec, target: WriteTarget) -> dict[str, TargetField]:
    """The fields a write-back names, as the CRM describes them.

    Raises:
        MisconfiguredConnection: One does not exist, or the integration user may not write it.
    """
    found = target.fields(spec.object)
    faults: list[str] = []
    for name in field_names(spec):
        described = found.get(name)
        if described is None:
            hint = did_you_mean(name, tuple(found)) if len(found) else ""
            near = f" {hint}" if hint.startswith("Did you mean") else ""
            faults.append(f'"{name}" is not a field of {spec.object}.{near}')
        elif not described.writable:
            faults.append(f'"{name}" of {spec.object} may not be written by the integration user.')
    if faults:
        raise MisconfiguredConnection(
            spec.connection,
            " ".join(faults) + f" `kpisync setup {spec.name}` creates missing fields and rights.",
        )
    return {name: found[name] for name in field_names(spec)}


def field_names(spec: WritebackSpec) -> tuple[str, ...]:
    """The CRM fields a write-back owns, its stamp included."""
    names = tuple(plan.field for plan in spec.fields)
    return (*names, spec.stamp) if spec.stamp else names


def read_live(
    runtime: Runtime, spec: WritebackSpec, record_ids: Sequence[str], names: Sequence[str]
) -> list[LiveRecord]:
    """The values records hold now; those that are gone are left out."""
    target = runtime.target(spec.connection)
    label = f"{spec.name}: reading {spec.object}"
    found: list[LiveRecord] = []
    runtime.progress.start(label, len(record_ids))
    try:
        for some in portions(record_ids, READ_AT_ONCE):
            found.extend(target.read(spec.object, some, names))
            runtime.progress.advance(label, len(some))
    finally:
        runtime.progress.finish(label)
    return found


def push_batch(runtime: Runtime, spec: WritebackSpec) -> int:
    """Records in one write call."""
    most = runtime.connector(spec.connection).capabilities.push_batch
    configured = runtime.config.advanced.push_batch
    return min(most, configured) if configured else most


def fingerprint(runtime: Runtime, spec: WritebackSpec) -> str:
    """Of what a person agrees to: where, which fields, which values."""
    definitions = {
        plan.field: [
            plan.kpi,
            plan.period,
            runtime.catalog.kpi(plan.kpi).formula,
            plan.by,
            plan.show,
            [[word, str(threshold)] for word, threshold in plan.bands],
            plan.when_empty,
        ]
        for plan in spec.fields
    }
    agreed = {
        "to": f"{spec.connection}.{spec.object}",
        "match": None if spec.match is None else repr(spec.match),
        "fields": definitions,
        "stamp": spec.stamp,
        "on_edit": spec.on_edit,
    }
    return hashlib.sha256(json.dumps(agreed, sort_keys=True).encode()).hexdigest()


def guard_fingerprint(runtime: Runtime, spec: WritebackSpec) -> str:
    """Of what is written and of the limits: when either changes, a person has decided anew."""
    ranges = [str(plan.range) for plan in spec.fields]
    text = f"{fingerprint(runtime, spec)} {spec.guard!r} {ranges}"
    return hashlib.sha256(text.encode()).hexdigest()


def portions(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive pieces of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


# ---------------------------------------------------------------- creating the fields


def setup_writeback(runtime: Runtime, name: str, *, dry_run: bool) -> Sequence[SetupResult]:
    """Create the fields a write-back names where they are missing; idempotent.

    Raises:
        ConnectorError: The CRM refuses, or cannot be asked.
    """
    spec = runtime.writebacks[name]
    target = runtime.target(spec.connection)
    return target.create(spec.object, _new_fields(runtime, spec), dry_run=dry_run)


def _new_fields(runtime: Runtime, spec: WritebackSpec) -> list[NewField]:
    fields = [_new_field(runtime, plan) for plan in spec.fields]
    if spec.stamp:
        fields.append(
            NewField(
                name=spec.stamp,
                label="KPIs as of",
                help_text="When the KPI fields of this record were last true. Kept by kpisync.",
                type=FieldType.DATETIME,
                scale=0,
            )
        )
    return fields


def _new_field(runtime: Runtime, plan: FieldPlan) -> NewField:
    kpi = runtime.catalog.kpi(plan.kpi)
    period = "" if plan.period in {Kind.ALL, Kind.NOW} else f", {plan.period}"
    group = f" by {plan.by}" if plan.by and plan.by != TOTAL else ""
    is_money = kpi.unit is Unit.MONEY and not plan.is_text
    currency = f" ({runtime.company.currency})" if is_money else ""
    field_type, scale = _type_of(kpi, runtime.company.currency)
    if plan.is_text:
        field_type, scale = FieldType.TEXT, 0
    return NewField(
        name=plan.field,
        label=f"KPI {kpi.label}{group}{currency}{period}"[:40],
        help_text=f"{kpi.definition}{_bands_of(plan)} Kept by kpisync; edits are overwritten."[
            :500
        ],
        type=field_type,
        scale=scale if plan.digits is None else plan.digits,
    )


def _bands_of(plan: FieldPlan) -> str:
    if not plan.bands:
        return ""
    return " Bands: " + ", ".join(f"{word} from {low:f}" for word, low in plan.bands) + "."


def _type_of(kpi: Kpi, currency: str) -> tuple[FieldType, int]:
    match kpi.unit:
        case Unit.COUNT:
            # Means of counts and shared credits are no whole numbers.
            is_whole = kpi.denominator is None and kpi.composed is None and kpi.model != "linear"
            return FieldType.NUMBER, 0 if is_whole else 2
        case Unit.RATIO:
            return FieldType.PERCENT, 2
        case Unit.MONEY:
            # A CRM shows currency fields in the record's currency; ours is the company's.
            return FieldType.NUMBER, minor_units(currency)
        case _:
            return FieldType.NUMBER, 2


# ---------------------------------------------------------------- what the store knows


def _of_now(
    runtime: Runtime, spec: WritebackSpec, now: datetime, marked_at: datetime | None
) -> WritebackSpec:
    """The write-back with kinds of periods replaced by the ones that run now."""
    calendar = runtime.catalog.settings.calendar

    def label(period: str, instant: datetime) -> str:
        day = (instant.astimezone(runtime.company.timezone).date() - _EPOCH).days
        return _label_on(calendar, period, day)

    rolled = {
        plan.field
        for plan in spec.fields
        if marked_at is not None and label(plan.period, now) != label(plan.period, marked_at)
    }
    return replace(
        spec,
        fields=tuple(replace(plan, period=label(plan.period, now)) for plan in spec.fields),
        rolled=frozenset(rolled),
    )


def _label_on(calendar: Calendar, period: str, day: int) -> str:
    kinds = {kind.value: kind for kind in CALENDAR_KINDS}
    return period_of(calendar, kinds[period], day).label if period in kinds else period


def _look(
    conn: Connection,
    runtime: Runtime,
    spec: WritebackSpec,
    found: _Found,
    counts_before: Mapping[str, int],
) -> _Stored:
    published: list[KpiValue] = []
    wanted = {(plan.kpi, plan.period, spec.dimension_of(plan)) for plan in spec.fields}
    for kpi, period, dimension in sorted(wanted):
        published.extend(
            values.current(conn, runtime.catalog, kpi=kpi, period=period, dimension=dimension)
        )
    keys: dict[str, set[str]] = {dimension: set() for _, _, dimension in wanted}
    for value in published:
        keys[value.dimension].add(value.key)
    names = [plan.field for plan in spec.fields]
    places, notes = _places(conn, spec, keys, found)
    return _Stored(
        values=published,
        places=places,
        deleted_ids=(
            targets.dead_ids(conn, spec.stream, spec.connection) if spec.stream else frozenset()
        ),
        pushed=_pushed_of(conn, spec),
        everybody=_everybody(conn, spec),
        replaced_today=outbox.replaced_within(conn, spec.name, names, DAY),
        frozen=rewrites.frozen(conn, spec.connection, spec.object),
        behind=Behind(
            now={f"records:{stream}": n for stream, n in targets.live_counts(conn).items()},
            before=counts_before,
            past_moves=outbox.usual_moves(conn, spec.name, names),
        ),
        daily_calls=_daily_calls(conn, runtime, spec.connection),
        notes=(*notes, *volatile_notes(conn, runtime, spec)),
    )


def _everybody(conn: Connection, spec: WritebackSpec) -> frozenset[str]:
    # What a record of another object means is known from its value alone.
    if spec.match is not None or all(plan.when_empty != ZERO for plan in spec.fields):
        return frozenset()
    return frozenset(targets.everybody(conn, spec.stream, spec.connection))


def _pushed_of(conn: Connection, spec: WritebackSpec) -> dict[tuple[str, str], str]:
    """Our last values in the fields of this write-back; another one may fill others beside."""
    names = set(field_names(spec))
    pushed = outbox.last_pushed(conn, spec.connection, spec.object)
    return {place: value for place, value in pushed.items() if place[1] in names}


def _places(
    conn: Connection, spec: WritebackSpec, keys: Mapping[str, set[str]], found: _Found
) -> tuple[dict[str, dict[str, list[str]]], tuple[str, ...]]:
    """Dimension -> key -> ids of the records that carry the group's values."""
    if spec.match is not None:
        return _matched_places(conn, spec.match, keys, found)
    places: dict[str, dict[str, list[str]]] = {}
    for dimension, wanted in keys.items():
        if dimension == spec.dimension:
            places[dimension] = targets.members(conn, spec.stream, spec.connection, wanted)
        elif dimension == TOTAL:
            ids = targets.everybody(conn, spec.stream, spec.connection)
            places[dimension] = {_TOTAL_KEY: ids} if wanted else {}
        else:
            groups = targets.grouped_by(conn, spec.stream, spec.connection, dimension)
            places[dimension] = {key: ids for key, ids in groups.items() if key in wanted}
    return places, ()


def _matched_places(
    conn: Connection, match: Match, keys: Mapping[str, set[str]], found: _Found
) -> tuple[dict[str, dict[str, list[str]]], tuple[str, ...]]:
    named = targets.keys_of_values(conn, match.to, match.connection, match.same, found.by_value)
    own: dict[str, list[str]] = {}
    ambiguous: list[str] = []
    for value, ids in sorted(found.by_value.items()):
        canonical = named.get(value, [])
        if len(canonical) > 1:
            ambiguous.append(value)
        for key in canonical[:1] if len(canonical) == 1 else ():
            own.setdefault(key, []).extend(ids)
    places = {
        dimension: {_TOTAL_KEY: found.all_ids()} if dimension == TOTAL else own
        for dimension in keys
    }
    if not ambiguous:
        return places, ()
    examples = ", ".join(ambiguous[:_AMBIGUOUS_SHOWN])
    note = (
        f"{len(ambiguous):,} values of {match.field} name more than one {match.to} ({examples}): "
        "their records are left alone"
    )
    return places, (note,)


def _find(runtime: Runtime, connection: str, object_name: str, match: Match) -> _Found:
    connector = runtime.connector(connection)
    if not isinstance(connector, FindsRecords):
        raise MisconfiguredConnection(
            connection, f"Records of {object_name} cannot be found by a field in this CRM."
        )
    by_value: dict[str, list[str]] = {}
    for some in connector.find(object_name, match.field):
        for record_id, value in some:
            by_value.setdefault(value, []).append(record_id)
    return _Found(by_value)


def _daily_calls(conn: Connection, runtime: Runtime, connection: str) -> int | None:
    """How many calls the connection may make in a day; None: nobody knows the org's limit."""
    allowed = runtime.config.connections[connection].limits.daily_calls
    if isinstance(allowed, int):
        return allowed
    limit = calls.usage(conn, connection).org_limit
    if limit is None:
        return None
    return max(1, int(limit * (_USUAL_SHARE if allowed is None else allowed)))


# ---------------------------------------------------------------- reasons


def _with_reasons(runtime: Runtime, spec: WritebackSpec, plan: Plan, stored: _Stored) -> Plan:
    """The largest moves with what was behind the values when we last wrote them."""
    plans = {one.field: one for one in spec.fields}
    now = {(one.kpi, one.period, one.dimension, one.key): one for one in stored.values}
    with reading(runtime.engine) as conn:
        moves = []
        for move in plan.moves:
            one = plans.get(move.field)
            if one is None or move.group is None:
                moves.append(move)
                continue
            place = (one.kpi, one.period, *move.group)
            pushed_at = history.pushed_at(
                conn, spec.connection, spec.object, move.record, move.field
            )
            before = history.value_at(conn, place, pushed_at) if pushed_at else None
            reason = _reason(now.get(place), before)
            moves.append(replace(move, why=f"{move.why}; {reason}" if reason else move.why))
    return replace(plan, moves=tuple(moves))


def _reason(now: KpiValue | None, before: history.PastValue | None) -> str:
    if now is None:
        return ""
    parts = _parts(now.numerator, now.denominator, now.n)
    if before is None:
        return f"it rests on {parts}"
    return f"it rested on {_parts(before.numerator, before.denominator, before.n)}, now on {parts}"


def _parts(numerator: Decimal | None, denominator: Decimal | None, n: int) -> str:
    if numerator is None or denominator is None:
        return f"n = {n:,}"
    return f"{values_text(numerator)} / {values_text(denominator)} (n = {n:,})"


def values_text(number: Decimal) -> str:
    """A number of a reason, at most two digits after the point."""
    return f"{round(number, 2).normalize():,f}"
