"""Which streams and fields of the CRMs the values rest on, and what is wrong with them.

A formula, a roll-up or a parent's field may change without any record being reported as changed.
Such fields are read again on a schedule of their own; until then the values that rest on them
trail the CRM, which a person should know before writing them into it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sqlalchemy import Connection

from connectors.base import Tuning
from connectors.fieldmap import canonical_fields
from metrics.catalog import Catalog
from metrics.definition import Kpi
from metrics.dimensions import DIMENSIONS
from metrics.families import sources_of
from metrics.writeback import WritebackSpec
from store import checkpoints
from worker.runtime import Runtime

_EVERY: Final[frozenset[str]] = frozenset()
"""Of a stream: all of its fields may count."""
_STREAMS: Final[Mapping[str, Mapping[str, frozenset[str]]]] = MappingProxyType(
    {
        "deals": {"deals": _EVERY},
        "purchases": {"deals": _EVERY},
        "visits": {"deals": _EVERY, "deal_stage_changes": _EVERY},
        "credits": {
            "deals": _EVERY,
            "deal_contacts": _EVERY,
            "campaign_members": _EVERY,
            "campaigns": frozenset({"channel"}),
        },
        "contracts": {
            "contracts": _EVERY,
            "accounts": frozenset({"contract_end", "owner", "region", "segment"}),
        },
        "leads": {"leads": _EVERY},
        "costs": {"costs": _EVERY, "campaigns": frozenset({"channel", "cost"})},
        "tickets": {"tickets": _EVERY},
        "closings": {"tickets": _EVERY, "ticket_status_changes": _EVERY},
        "surveys": {"survey_responses": _EVERY},
    }
)
"""Facts -> the canonical streams and fields that they are made of."""
_LABELS: Final = frozenset({"name", "email", "subject", "comment", "company", "domain"})
"""For people; no value depends on them."""
_MONEY: Final = frozenset({"amount", "currency", "total", "unit_price"})
"""Count only where amounts are summed."""
_ALWAYS: Final = frozenset({"account", "campaign", "contact", "kind", "pipeline", "stage"})
"""Count in formulas, not only as what values are grouped by."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A mapped field that changes without a trace."""

    connection: str
    stream: str
    field: str
    native: str


def kpis_resting_on(catalog: Catalog, stream: str) -> tuple[str, ...]:
    """The kept KPIs some of whose records come from a stream, by name."""
    return tuple(
        kpi.name
        for kpi in catalog.kpis
        if any(stream in _STREAMS.get(facts, {}) for facts in _facts(catalog, kpi))
    )


def volatile_notes(conn: Connection, runtime: Runtime, spec: WritebackSpec) -> tuple[str, ...]:
    """A sentence for each source that changes without a trace, with the fields that rest on it.

    Args:
        conn: The store.
        runtime: The configuration and the catalogue.
        spec: The write-back to be planned.
    """
    known = list(_known(conn, runtime))
    resting: dict[_Source, list[str]] = {}
    for plan in spec.fields:
        kpi = runtime.catalog.kpi(plan.kpi)
        for source in known:
            if _rests_on(runtime, kpi, spec.dimension_of(plan), source):
                resting.setdefault(source, []).append(plan.field)
    every = _text(runtime)
    return tuple(
        f"{', '.join(fields)} {'rest' if len(fields) > 1 else 'rests'} on"
        f" {source.stream}.{source.field}, which is {source.native} of {source.connection}: it is"
        " computed by the CRM or belongs to a parent record, and when it changes alone no record"
        f" is reported as changed. It is read again every {every} (advanced.sweep); the values may"
        " trail the CRM by that. Map a stored field of the record itself to avoid it."
        for source, fields in sorted(resting.items(), key=lambda item: item[0].native)
    )


def _known(conn: Connection, runtime: Runtime) -> Iterator[_Source]:
    for checkpoint in checkpoints.every(conn):
        if checkpoint.volatile and checkpoint.connection in runtime.config.connections:
            for name, native in json.loads(checkpoint.volatile).items():
                yield _Source(checkpoint.connection, checkpoint.stream, name, native)


def _rests_on(runtime: Runtime, kpi: Kpi, dimension: str, source: _Source) -> bool:
    own = runtime.config.kpis.custom.get(kpi.name)
    if own is not None:
        return re.search(rf"\b{re.escape(source.field)}\b", repr(own)) is not None
    grouped_by = set(dimension.split(","))
    for facts, has_money in _facts(runtime.catalog, kpi).items():
        fields = _STREAMS.get(facts, {}).get(source.stream)
        if fields is None or (fields and source.field not in fields):
            continue
        is_read = source.field in canonical_fields(source.stream).keys() - _LABELS
        is_group = source.field in DIMENSIONS and source.field not in _ALWAYS
        is_idle_money = source.field in _MONEY and not has_money
        if is_read and not is_idle_money and (not is_group or source.field in grouped_by):
            return True
    return False


def _facts(catalog: Catalog, kpi: Kpi) -> dict[str, bool]:
    """The facts that a KPI's terms are summed from, and whether money of theirs is."""
    kind = catalog.kinds_of(kpi)[0]
    found: dict[str, bool] = {}
    for term in kpi.terms:
        family = catalog.family_of(kpi, term, kind)
        has_money = term.measure in family.money or family.has_money_buckets
        for facts in sources_of(family):
            found[facts] = found.get(facts, False) or has_money
    return found


def _text(runtime: Runtime) -> str:
    return str(runtime.config.advanced.sweep or Tuning().sweep)
