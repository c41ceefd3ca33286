"""Small write-backs for the tests: one spec, values and records where only what matters is said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal

from connectors.base import FieldType, LiveRecord, TargetField
from metrics.writeback import FieldPlan, Guard, Plan, WritebackSpec, make_plan
from store.canonical import Scalar
from store.kpis import KpiValue
from store.scalars import encode

AS_OF = datetime(2026, 11, 22, 3, 0, 0, 123456, tzinfo=UTC)

REVENUE = FieldPlan("KPI_Revenue__c", "revenue", "all", empty=Decimal(0))
WIN_RATE = FieldPlan("KPI_Win_Rate__c", "win_rate", "all")


def spec(
    *fields: FieldPlan,
    guard: Guard = Guard(),  # noqa: B008 - frozen
    stamp: str | None = None,
    on_edit: str = "restore",
) -> WritebackSpec:
    return WritebackSpec(
        name="health",
        connection="sf",
        object="Account",
        stream="accounts",
        fields=fields or (REVENUE, WIN_RATE),
        stamp=stamp,
        guard=guard,
        on_edit=on_edit,
    )


UNITS = {"revenue": "money", "win_rate": "ratio", "buyers": "count", "sales_cycle_days": "days"}


def value(
    record: str,
    kpi: str,
    amount: str | None,
    *,
    period: str = "all",
    dimension: str = "account",
    connection: str = "sf",
    currency: str = "EUR",
    unit: str | None = None,
    as_of: datetime = AS_OF,
) -> KpiValue:
    return KpiValue(
        kpi=kpi,
        period=period,
        dimension=dimension,
        key=f"{connection}:{record}",
        label=None,
        value=None if amount is None else Decimal(amount),
        numerator=None,
        denominator=None,
        n=7,
        left_out={},
        unit=unit or UNITS[kpi],
        currency=currency if (unit or UNITS[kpi]).startswith("money") else None,
        as_of=as_of,
        definition=f"{kpi}@1",
    )


def number(
    name: str, scale: int | None = 2, precision: int | None = 18, *, writable: bool = True
) -> TargetField:
    return TargetField(
        name=name,
        label=name,
        type=FieldType.NUMBER,
        writable=writable,
        precision=precision,
        scale=scale,
    )


def percent(name: str, scale: int = 2) -> TargetField:
    return TargetField(
        name=name,
        label=name,
        type=FieldType.PERCENT,
        writable=True,
        precision=18,
        scale=scale,
        ratio_factor=100,
    )


def other(name: str, kind: FieldType) -> TargetField:
    return TargetField(name=name, label=name, type=kind, writable=True)


TARGETS = (number("KPI_Revenue__c"), percent("KPI_Win_Rate__c"))


def record(record_id: str, **values: Scalar) -> LiveRecord:
    return LiveRecord(asked_id=record_id, record_id=record_id, values=values)


def planned(
    spec_: WritebackSpec,
    values: Iterable[KpiValue],
    live: Iterable[LiveRecord],
    *,
    targets: Iterable[TargetField] = TARGETS,
    pushed: Mapping[tuple[str, str], Scalar] | None = None,
    deleted_ids: Iterable[str] = (),
    push_batch: int = 200,
    replaced_today: frozenset[str] = frozenset(),
    daily_calls: int | None = None,
) -> Plan:
    return make_plan(
        spec_,
        values=list(values),
        targets={target.name: target for target in targets},
        live=list(live),
        pushed={place: encode(held) for place, held in (pushed or {}).items()},
        deleted_ids=deleted_ids,
        push_batch=push_batch,
        replaced_today=replaced_today,
        daily_calls=daily_calls,
    )


def applied(live: Iterable[LiveRecord], plan: Plan) -> list[LiveRecord]:
    """The records after the plan was written."""
    writes: dict[str, dict[str, Scalar]] = {}
    for update in plan.updates():
        writes.setdefault(update.record_id, {})[update.field] = update.value
    return [
        LiveRecord(
            asked_id=one.asked_id,
            record_id=one.record_id,
            values={**one.values, **writes.get(one.record_id, {})},
        )
        for one in live
    ]
