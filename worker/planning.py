"""Planning: what a write-back would change, by what the CRM shows now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Final, TypeAlias, TypeVar

from sqlalchemy import Connection, or_, select

from config.errors import did_you_mean
from connectors.base import FieldType, LiveRecord, NewField, SetupResult, TargetField, WriteTarget
from connectors.errors import MisconfiguredConnection
from metrics import values
from metrics.definition import Unit
from metrics.periods import CALENDAR_KINDS, Kind, period_of
from metrics.values import KpiValue
from metrics.writeback import Plan, WritebackSpec, make_plan
from store import outbox, records
from store.engine import database_now, reading
from store.money import minor_units
from store.tables import RECORD_TABLES
from worker.runtime import Runtime

READ_AT_ONCE: Final = 2_000
"""Live records held in memory between two looks at whether to stop."""

T = TypeVar("T")

DAY: Final = timedelta(hours=24)
"""What `guard.max_changed` looks back over."""
_EPOCH: Final = date(1970, 1, 1)

SetupResults: TypeAlias = Mapping[str, Sequence[SetupResult]]
"""Write-back -> what setup did, or would do, about each field."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the store knows of a write-back, from one snapshot."""

    values: Sequence[KpiValue]
    deleted_ids: frozenset[str]
    pushed: Mapping[tuple[str, str], str]
    replaced_today: frozenset[str]


def plan_writeback(runtime: Runtime, name: str) -> Plan:
    """Compare the published values with the CRM's own and say what would be written.

    Raises:
        ConnectorError: The CRM cannot be read, or a field does not exist or cannot be written.
        StoreUnavailable: The database is away.
    """
    spec = runtime.writebacks[name]
    target = runtime.target(spec.connection)
    fields = usable_fields(spec, target)
    with reading(runtime.engine) as conn:
        now = database_now(conn)
        spec = _of_now(runtime, spec, now)
        stored = _look(conn, runtime, spec)
    # Records that we filled once count too: their group may have emptied since.
    known_ids = {_native_id(spec, value.key) for value in stored.values}
    known_ids |= {record_id for record_id, _ in stored.pushed}
    live = read_live(runtime, spec, sorted(known_ids - stored.deleted_ids), tuple(fields))
    return make_plan(
        spec,
        values=stored.values,
        targets=fields,
        live=live,
        pushed=stored.pushed,
        deleted_ids=stored.deleted_ids,
        push_batch=push_batch(runtime, spec),
        replaced_today=stored.replaced_today,
        timezone=runtime.company.timezone,
    )


def usable_fields(spec: WritebackSpec, target: WriteTarget) -> dict[str, TargetField]:
    """The fields a write-back names, as the CRM describes them.

    Raises:
        MisconfiguredConnection: One does not exist, or the integration user may not write it.
    """
    found = target.fields(spec.object)
    faults: list[str] = []
    for name in field_names(spec):
        field = found.get(name)
        if field is None:
            hint = did_you_mean(name, tuple(found)) if len(found) else ""
            near = f" {hint}" if hint.startswith("Did you mean") else ""
            faults.append(f'"{name}" is not a field of {spec.object}.{near}')
        elif not field.writable:
            faults.append(f'"{name}" of {spec.object} may not be written by the integration user.')
    if faults:
        raise MisconfiguredConnection(
            spec.connection,
            " ".join(faults) + f" `kpisync setup {spec.name}` creates missing fields and rights.",
        )
    return {name: found[name] for name in field_names(spec)}


def field_names(spec: WritebackSpec) -> tuple[str, ...]:
    """The CRM fields a write-back owns, its stamp included."""
    names = tuple(field.field for field in spec.fields)
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
        field.field: [field.kpi, field.period, runtime.catalog.kpi(field.kpi).formula]
        for field in spec.fields
    }
    agreed = {
        "to": f"{spec.connection}.{spec.object}",
        "fields": definitions,
        "stamp": spec.stamp,
        "on_edit": spec.on_edit,
    }
    return hashlib.sha256(json.dumps(agreed, sort_keys=True).encode()).hexdigest()


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
    fields: list[NewField] = []
    for plan in spec.fields:
        kpi = runtime.catalog.kpi(plan.kpi)
        period = "" if plan.period in {Kind.ALL, Kind.NOW} else f", {plan.period}"
        currency = f" ({runtime.company.currency})" if kpi.unit is Unit.MONEY else ""
        field_type, scale = _type_of(kpi.unit, runtime.company.currency)
        fields.append(
            NewField(
                name=plan.field,
                label=f"KPI {kpi.label}{currency}{period}"[:40],
                help_text=f"{kpi.definition} Kept by kpisync; edits are overwritten."[:500],
                type=field_type,
                scale=scale,
            )
        )
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


def _type_of(unit: Unit, currency: str) -> tuple[FieldType, int]:
    match unit:
        case Unit.COUNT:
            return FieldType.NUMBER, 0
        case Unit.RATIO:
            return FieldType.PERCENT, 2
        case Unit.MONEY:
            # A CRM shows currency fields in the record's currency; ours is the company's.
            return FieldType.NUMBER, minor_units(currency)
        case _:
            return FieldType.NUMBER, 2


# ---------------------------------------------------------------- what the store knows


def _of_now(runtime: Runtime, spec: WritebackSpec, now: datetime) -> WritebackSpec:
    """The write-back with kinds of periods replaced by the ones that run now."""
    today = (now.astimezone(runtime.company.timezone).date() - _EPOCH).days
    calendar = runtime.catalog.settings.calendar

    def label(period: str) -> str:
        kinds = {kind.value: kind for kind in CALENDAR_KINDS}
        return period_of(calendar, kinds[period], today).label if period in kinds else period

    return replace(
        spec,
        fields=tuple(replace(field, period=label(field.period)) for field in spec.fields),
    )


def _look(conn: Connection, runtime: Runtime, spec: WritebackSpec) -> _Stored:
    found: list[KpiValue] = []
    for kpi, period in sorted({(field.kpi, field.period) for field in spec.fields}):
        found.extend(
            value
            for value in values.current(
                conn, runtime.catalog, kpi=kpi, period=period, dimension=spec.dimension
            )
            if value.key.startswith(f"{spec.connection}:")
        )
    return _Stored(
        values=found,
        deleted_ids=frozenset(_deleted_ids(conn, spec)),
        pushed=outbox.last_pushed(conn, spec.connection, spec.object),
        replaced_today=outbox.replaced_within(
            conn, spec.name, [field.field for field in spec.fields], DAY
        ),
    )


def _deleted_ids(conn: Connection, spec: WritebackSpec) -> Iterator[str]:
    table = RECORD_TABLES[spec.stream]
    query = select(table.c.ref).where(
        records.of_connection(table.c.ref, spec.connection),
        or_(table.c.deleted, table.c.merged_into.is_not(None)),
    )
    for key in conn.execute(query).scalars():
        yield _native_id(spec, key)


def _native_id(spec: WritebackSpec, key: str) -> str:
    return key.removeprefix(f"{spec.connection}:")
