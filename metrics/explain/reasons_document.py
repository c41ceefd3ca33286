"""The reasons of a change as plain values: for JSON, for CSV, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from metrics.explain.reasons import NUMBERS, Delta, Reason, Reasons
from store.kpis import KpiValue, Place, Version, plain

CSV_COLUMNS: Final = (
    *("kpi", "period", "dimension", "key", "at", "what", "stream", "ref", "label", "change"),
    *("value", "numerator", "denominator", "n", "value_after", "run"),
)
CSV_NUMBERS: Final = frozenset({"value", "numerator", "denominator", "n", "value_after"})


def to_document(found: Reasons) -> dict[str, object]:
    """As one JSON object."""
    return {
        "from": _believed(found.first),
        "to": _believed(found.last),
        "delta": _delta(found.delta),
        "complete": found.is_complete,
        "reasons": [
            {
                "at": text(one.at),
                "what": one.kind,
                "words": one.words or None,
                "stream": one.stream,
                "ref": one.key,
                "label": one.label,
                "fields": [
                    {"field": name, "old": _json(old), "new": _json(new)}
                    for name, old, new in one.fields
                ],
                "delta": _delta(one.delta),
                "after": {name: _plain(getattr(one.after, name)) for name in ("value", "numerator")}
                | {"denominator": _plain(one.after.denominator), "n": one.after.n},
                "run": one.run,
            }
            for one in found.reasons
        ],
        "idle": found.idle,
    }


def rows_of(found: Reasons, place: Place) -> Iterator[Mapping[str, object]]:
    """One row a reason."""
    for one in found.reasons:
        yield {
            **place._asdict(),
            "at": text(one.at),
            "what": one.kind,
            "stream": one.stream,
            "ref": one.key,
            "label": one.label,
            "change": in_words(one),
            **_delta(one.delta),
            "value_after": _plain(one.after.value),
            "run": one.run,
        }


def in_words(reason: Reason) -> str:
    """What changed: ``amount: 100 -> 250``."""
    changed = [f"{name}: {_shown(old)} -> {_shown(new)}" for name, old, new in reason.fields]
    return "; ".join([*changed, *([reason.words] if reason.words else [])])


def text(moment: date | None) -> str | None:
    """An instant or a day in ISO 8601."""
    if isinstance(moment, datetime):
        return moment.isoformat().replace("+00:00", "Z")
    return None if moment is None else moment.isoformat()


def _believed(version: Version | None) -> dict[str, object] | None:
    if version is None:
        return None
    value: KpiValue = version.value
    row = value.to_json()
    return {
        "valid_from": text(version.valid_from),
        **{name: row[name] for name in ("value", "numerator", "denominator", "n", "left_out")},
        "definition": value.definition,
        "run": version.run,
    }


def _delta(delta: Delta) -> dict[str, object]:
    return {name: _plain(getattr(delta, name)) for name in NUMBERS}


def _plain(number: Decimal | int | None) -> object:
    return plain(number) if isinstance(number, Decimal) else number


def _json(value: object) -> object:
    if isinstance(value, date):
        return text(value)
    if isinstance(value, Decimal):
        return plain(value)
    return value if isinstance(value, bool | int | str | list) else _text_or_none(value)


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)


def _shown(value: object) -> str:
    shown = _json(value)
    return "-" if shown is None else str(shown)
