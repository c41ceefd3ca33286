"""An explanation as plain values: for JSON, for CSV, for people.

Numbers are text. A decimal that ends is written in full; one that does not, such as the third
part of a deal, is written as a fraction (``1/3``), because any number of digits would be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from metrics.definition import Kpi
from metrics.explain import Explanation, Line, Listing, Source
from metrics.expression.tree import Aggregate
from metrics.verify.book import EXACT, Number
from metrics.verify.recipes import rounded
from store.kpis import plain

CSV_COLUMNS: Final = (
    *("kpi", "period", "dimension", "key", "state", "reason", "stream", "ref", "label", "day"),
    *("n", "numerator", "denominator", "values", "amount", "currency", "rate", "rate_day"),
    *("converted", "behind", "numerator_member", "denominator_member"),
)
CSV_NUMBERS: Final = frozenset(
    {"n", "numerator", "denominator", "values", "amount", "rate", "converted"}
)


def exact(number: Number | None) -> str | None:
    """A number in full: ``12.5``, or ``1/3`` where no decimal is exact."""
    if number is None:
        return None
    if isinstance(number, Decimal):
        return plain(number)
    whole = Fraction(number)
    rest = whole.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1:
        return str(whole)
    return plain(EXACT.divide(Decimal(whole.numerator), Decimal(whole.denominator)))


def to_document(explanation: Explanation) -> dict[str, object]:
    """Everything, as one JSON object."""
    window = explanation.window
    return {
        **explanation.stored.to_json(),
        "kpi_label": explanation.kpi.label,
        "definition_in_words": explanation.kpi.definition,
        "caveats": list(explanation.kpi.caveats),
        "window": {
            "from": _text(window.first_day),
            "until": _text(window.day_after),
            "timezone": window.timezone,
            "from_utc": _text(window.starts_at),
            "until_utc": _text(window.ends_at),
            "counting_day": explanation.kpi.counting_day,
        },
        "valid_from": _text(explanation.valid_from),
        "computed_for": _text(explanation.computed_for),
        "run": explanation.run,
        "proven": explanation.is_proven,
        "agrees": explanation.agrees,
        **_listing(explanation, explanation.listing),
    }


def _listing(explanation: Explanation, listing: Listing) -> dict[str, object]:
    kpi = explanation.kpi_named(listing.kpi)
    return {
        "how": how(kpi, listing),
        "divisor": kpi.divisor,
        "factor": kpi.factor,
        "complete": listing.is_complete,
        "is_sum": listing.is_sum,
        "records": [_line(explanation, line) for line in listing.counted],
        "records_left_out": [
            {**_line(explanation, line), "reasons": dict(line.left_out)}
            for line in listing.left_out
        ],
        "records_beside": [_line(explanation, line) for line in listing.beside],
        "parts": [_part(explanation, part) for part in listing.parts],
    }


def _part(explanation: Explanation, listing: Listing) -> dict[str, object]:
    result = listing.result
    return {
        "kpi": listing.kpi,
        "period": listing.period.label,
        "value": plain(rounded(result.value)),
        "exact": exact(result.value),
        "n": result.n,
        "left_out": {name: count for name, count in (result.left_out or {}).items() if count},
        **_listing(explanation, listing),
    }


def how(kpi: Kpi, listing: Listing) -> str:
    """How the value comes from what is listed, in words."""
    if listing.composition is not None:
        scale = listing.scale
        return (
            f"{listing.composition.words} (margin {exact(scale.margin)}, "
            f"period of {exact(scale.days)} days)"
        )
    divided = "" if kpi.divisor == 1 else f" / {kpi.divisor}"
    if kpi.percentile is not None:
        rank = _RANKS.get(kpi.percentile, f"nearest rank {kpi.percentile} %")
        return f"{rank} of all `values`{divided}"
    if kpi.custom is not None and not kpi.custom.is_ratio_of_sums:
        below = kpi.custom.below
        above = f"{_figure('numerator', kpi.custom.above)}{divided}"
        return above if below is None else f"{above} / {_figure('denominator', below)}"
    if not listing.is_sum:
        return "the formula in words; it is no sum over single records"
    above = f"sum of `numerator`{divided}"
    if listing.result.denominator is None:
        return above
    factor = "" if kpi.factor == 1 else f" x {kpi.factor}"
    return f"{above} / sum of `denominator`{factor}"


_RANKS: Final = {0: "smallest", 50: "median", 100: "largest"}


def _figure(column: str, one: Aggregate) -> str:
    match one.function:
        case "distinct":
            return f"number of different `{column}_member`"
        case "mean":
            return f"mean of `{column}`, where there is one,"
    return f"sum of `{column}`"


def _line(explanation: Explanation, line: Line) -> dict[str, object]:
    stream, ref = line.name.split(" ", 1)
    sources = explanation.sources[line.name]
    is_itself = [source.key for source in sources] == [ref]
    return {
        "stream": stream,
        "ref": ref,
        "label": explanation.labels[line.name],
        "day": _text(line.day),
        "n": line.n,
        "numerator": exact(line.numerator),
        "denominator": exact(line.denominator),
        "values": [exact(value) for value in line.values],
        **_members(line),
        **_money(sources[0] if is_itself else None),
        "behind": [] if is_itself else [_source(source) for source in sources],
    }


def _members(line: Line) -> dict[str, object]:
    above, below = line.shares or (None, None)
    return {
        "numerator_member": above and above.member,
        "denominator_member": below and below.member,
    }


def _source(source: Source) -> dict[str, object]:
    return {
        "stream": source.stream,
        "ref": source.key,
        "label": source.label,
        "day": _text(source.day),
        **_money(source),
    }


def _money(source: Source | None) -> dict[str, object]:
    money = None if source is None else source.money
    if money is None:
        return dict.fromkeys(("amount", "currency", "rate", "rate_day", "converted"))
    return {
        "amount": plain(money.amount),
        "currency": money.currency,
        "rate": plain(money.rate),
        "rate_day": _text(money.rate_day),
        "converted": plain(money.converted),
    }


def _text(moment: date | None) -> str | None:
    if isinstance(moment, datetime):
        return moment.isoformat().replace("+00:00", "Z")
    return None if moment is None else moment.isoformat()


def csv_rows(explanation: Explanation) -> Iterator[Mapping[str, object]]:
    """One row a line, those of the parts after those of the whole."""
    yield from _with_parts(explanation, explanation.listing)


def _with_parts(explanation: Explanation, listing: Listing) -> Iterator[Mapping[str, object]]:
    yield from rows_of(explanation, listing)
    for part in listing.parts:
        yield from _with_parts(explanation, part)


def rows_of(explanation: Explanation, listing: Listing) -> Iterator[Mapping[str, object]]:
    """One row for each line of one listing."""
    stored = explanation.stored
    place = {
        "kpi": listing.kpi,
        "period": listing.period.label,
        "dimension": stored.dimension,
        "key": stored.key,
    }
    for state, lines in (
        ("counted", listing.counted),
        ("left out", [line for line in listing.left_out if not line.is_counted]),
        ("beside", listing.beside),
    ):
        for line in lines:
            reasons = ", ".join(f"{name} {count}" for name, count in line.left_out.items())
            yield {**place, "state": state, "reason": reasons, **_flat(_line(explanation, line))}


def _flat(line: Mapping[str, object]) -> dict[str, object]:
    values, behind = line["values"], line["behind"]
    texts = [str(value) for value in values] if isinstance(values, Sequence) else []
    names = [str(one["ref"]) for one in behind] if isinstance(behind, Sequence) else []
    return {**line, "values": " ".join(texts), "behind": " ".join(names)}
