"""What values depend on beside the records, said so that it can be compared with another day's.

Published values carry name and version of their formula; their settings change without a new
version. Each publication notes what changed, so that a break of a series can be explained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import date, datetime
from decimal import Decimal
from hashlib import sha256

from sqlalchemy import Connection

from metrics.catalog import Catalog
from metrics.definition import DatedRate, Kpi, KpiSettings
from store import definitions, kpis
from store.definitions import RATES


def note(conn: Connection, catalog: Catalog, *, as_of: datetime, run: str | None) -> None:
    """Note what changed since the last publication; nothing most of the time.

    Args:
        conn: in `store.engine.writing`.
        catalog: what is published.
        as_of: from when on.
        run: the run that publishes.
    """
    digest = catalog.meaning_digest
    if kpis.fingerprints(conn).get(kpis.MEANING) == digest:
        return
    meanings = {kpi.name: _text(meaning_of(catalog, kpi)) for kpi in catalog.kpis}
    meanings[RATES] = _text(_rates(catalog.settings))
    definitions.note(conn, meanings, since=as_of, run=run)
    kpis.save_fingerprint(conn, kpis.MEANING, digest)


def is_redefined(conn: Connection, catalog: Catalog) -> bool:
    """Whether the published values were made with other definitions, settings or rates."""
    noted = kpis.fingerprints(conn).get(kpis.MEANING)
    return noted is not None and noted != catalog.meaning_digest


def meaning_of(catalog: Catalog, kpi: Kpi) -> dict[str, object]:
    """Everything that a KPI's values depend on but records and rates, as plain values."""
    settings, own = catalog.settings, catalog.own(kpi)
    families = {
        family.name: family
        for kind in catalog.kinds_of(kpi)
        for family in catalog.families_of(kpi, kind)
    }
    said = {
        field.name: _plain(value)
        for field in fields(own)
        if (value := getattr(own, field.name)) is not None and value != ()
    }
    return {
        "formula": kpi.formula,
        "definition": kpi.definition,
        "settings": said,
        "currency": settings.company.currency,
        "timezone": settings.company.timezone.key,
        "week_starts": settings.week_starts,
        "fiscal_year_starts": settings.fiscal_year_starts,
        # Rules are long; that they changed is what matters.
        "identity": sha256(settings.identity.fingerprint.encode()).hexdigest()[:12],
        "families": {
            name: {
                "version": family.version,
                **({"hours": str(settings.working_hours)} if family.is_business_hours else {}),
                **({"costs": catalog.costs_digest} if family.source == "costs" else {}),
            }
            for name, family in sorted(families.items())
        },
    }


def _rates(settings: KpiSettings) -> dict[str, object]:
    return {
        "fixed": {name: str(rate) for name, rate in sorted(settings.rates.items())},
        "dated": [
            [one.currency, one.since.isoformat(), str(one.rate)] for one in settings.dated_rates
        ],
        "from": settings.rates_from,
    }


def rates_of(text: str) -> tuple[dict[str, Decimal], tuple[DatedRate, ...], str | None]:
    """Fixed rates, dated ones and the connection that keeps more, of a noted text."""
    said = json.loads(text)
    return (
        {name: Decimal(rate) for name, rate in said["fixed"].items()},
        tuple(
            DatedRate(currency=currency, since=date.fromisoformat(since), rate=Decimal(rate))
            for currency, since, rate in said["dated"]
        ),
        said["from"],
    )


def differences(before: str, after: str) -> list[tuple[str, object, object]]:
    """What two noted texts say differently: name, old, new; names of inner things with dots."""
    return list(_differences("", json.loads(before), json.loads(after)))


def _differences(name: str, one: object, other: object) -> list[tuple[str, object, object]]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        inner = name and f"{name}."
        return [
            found
            for key in sorted(one.keys() | other.keys())
            for found in _differences(f"{inner}{key}", one.get(key), other.get(key))
        ]
    if isinstance(one, list) and isinstance(other, list):
        gone = [value for value in one if value not in other]
        came = [value for value in other if value not in one]
        return [(name, gone, came)] if one != other else []
    return [] if one == other else [(name, one, other)]


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, bool | int | str) else str(value)


def _text(meaning: Mapping[str, object]) -> str:
    return json.dumps(meaning, sort_keys=True, ensure_ascii=False)
