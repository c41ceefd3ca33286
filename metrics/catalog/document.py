"""docs/kpis.md, written from the definitions: ``python -m metrics.catalog.document``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from metrics.catalog import (
    BY_ACCOUNT,
    DEFAULT_GROUPINGS,
    PACKS,
    available,
)
from metrics.definition import Direction, Kpi
from metrics.dimensions import LONGEST_VALUE, OWN_PLACES, name_of
from metrics.families import dimensions_of, mapped_stream_of
from metrics.periods import CALENDAR_KINDS

_DIRECTIONS: Final = {
    Direction.UP: "higher is better",
    Direction.DOWN: "lower is better",
    Direction.NEUTRAL: "neither high nor low is good in itself",
}

_REASONS: Final = {
    "no_amount": "the deal has no amount",
    "no_rate": "the amount's currency has no rate in `company.fx`",
    "no_probability": "the open deal has no probability",
    "no_date": "the close day or the creation day is unknown",
    "negative_duration": "the deal was closed before it was created",
    "unknown_stage": "the CRM has never described the stage",
    "no_account": "the purchase belongs to no account",
    "no_history": "the deal has no stage history",
    "undecided": "the open deal has not reached a later stage yet; it counts in the denominator",
    "invalid": "the answer is no whole number from 0 to 10",
    "incomplete": "the statistics of the e-mail lack a number that the rate needs",
    "cost_no_rate": "a cost's currency has no rate in `company.fx`",
}

_RULES: Final = """\
# The KPIs

Generated from `metrics/catalog/` (`make docs`); `kpisync kpi show NAME` says the same.

## Rules that hold for all of them

- **No denominator, no value.** A rate of nothing is null, never 0.
- **Unknown is not zero.** What is unknown adds nothing to sums and stays out of averages; \
`left_out` says how many records were left out, and why.
- **Ratios are ratios of sums.** A quarter's rate comes from the quarter's sums. `numerator` and \
`denominator` stand beside each value.
- **Exact.** Money is kept in whole minor units, durations in whole seconds; the one division \
comes last (28 digits, half-up). Rounding is for display and for the CRM field.
- **Periods are calendar periods of `company.timezone`.** A date without time never shifts.
- **Current state restates history.** An edited deal changes its old period, a new owner takes \
the deal's past along. What was reported before stays readable: see [the metrics \
table](metrics-table.md).
- **Deleted records do not exist**, merged ones count once, under the winner.
- **won** is the CRM's own won flag of a closed deal, **lost** is closed and not won, **open** is \
not closed. Never by a stage's label.
- **Currency.** Values are in `company.currency`. An amount in a currency without a rate is an \
unknown amount.
- **How far to trust it.** `n` says how many records a value rests on; below 20 it is marked as a \
small sample. Shares carry their 95 % Wilson interval, and `kpisync kpi values` says up to when \
the records behind a value are known and which of their streams are late.
- **No row.** A group without records has none: read 0 for counts and sums, nothing for the rest. \
A group that had a value and empties keeps a row of 0 or null.
"""


def render() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _RULES
    yield from _groups_and_periods()
    yield from _reasons()
    yield from _overview()
    for pack, kpis in PACKS.items():
        yield f"## Pack `{pack}`"
        yield ""
        for kpi in kpis:
            yield from _section(kpi)


def _groups_and_periods() -> Iterator[str]:
    default = ", ".join(f"`{name_of(grouping)}`" for grouping in DEFAULT_GROUPINGS)
    yield "## Groups and periods"
    yield ""
    yield (
        "Every KPI has its total (dimension `all`, key `*`) and the groups that stand beside it "
        f"below; the usual ones of deals are {default} and, for the periods `all` and `now`, "
        f"`{name_of(BY_ACCOUNT)}`. `kpis.settings.KPI.by` names others instead."
    )
    yield ""
    yield (
        "`by` takes any dimension of the KPI, and lists of up to three as combinations "
        "(`[owner, region]`). KPIs of deals, tickets, leads and surveys can also be grouped by the "
        "fields of your own mapping, and by every other text field of these records, by up to "
        f"{len(OWN_PLACES)} of each. The value of a dimension is the record's value today; records "
        "without one are in no group of it. Texts are told apart by their first "
        f"{LONGEST_VALUE} characters. `size_band` "
        "goes by the amount in the deal's own currency: no rate moves a deal to another band."
    )
    yield ""
    yield (
        f"`kpis.periods` takes {', '.join(f'`{kind}`' for kind in CALENDAR_KINDS)}; `all` is "
        "always kept, except of KPIs that say nothing of all times together. KPIs of the moment "
        "have the one period `now`. Rolling periods (`last_90d`: 90 local days, today included) "
        "are kept where a write-back names one. Periods whose values depend on the clock have "
        "none before they begin."
    )
    yield ""


def _reasons() -> Iterator[str]:
    yield "## Reasons for leaving records out"
    yield ""
    yield "| reason | meaning |"
    yield "|---|---|"
    for reason, meaning in _REASONS.items():
        yield f"| `{reason}` | {meaning} |"
    yield ""


def _overview() -> Iterator[str]:
    yield "## All of them"
    yield ""
    yield "| KPI | unit | definition |"
    yield "|---|---|---|"
    for name, kpi in sorted(available().items()):
        yield f"| [`{name}`](#{name}) | {kpi.unit} | {kpi.definition} |"
    yield ""


def _section(kpi: Kpi) -> Iterator[str]:
    yield f"### {kpi.name}"
    yield ""
    yield f"**{kpi.label}.** {kpi.definition}"
    yield ""
    share = "; a share, with its 95 % interval" if kpi.is_share else ""
    yield f"- Unit: {kpi.unit}; {_DIRECTIONS[kpi.direction]}{share}."
    yield f"- Counts on: {kpi.counting_day}."
    yield f"- Groups: {_groups(kpi)}; any of {_dimensions(kpi)}{_more_dimensions(kpi)}."
    if kpi.settings:
        yield f"- Settings: {', '.join(f'`{name}`' for name in kpi.settings)}."
    if kpi.left_out:
        reasons = ", ".join(f"`{reason}`" for reason in sorted(kpi.left_out))
        yield f"- May leave out: {reasons}."
    for caveat in kpi.caveats:
        yield f"- Beware: {caveat}"
    yield f"- Example: {kpi.example}"
    yield f"- Formula version: `{kpi.formula}`."
    yield ""


def _groups(kpi: Kpi) -> str:
    groupings = DEFAULT_GROUPINGS if kpi.groupings is None else kpi.groupings
    names = [f"`{name_of(grouping)}`" for grouping in groupings]
    if kpi.by_account:
        names.append(f"`{name_of(BY_ACCOUNT)}`")
    return ", ".join([*(["the total"] if kpi.has_total else []), *names])


def _dimensions(kpi: Kpi) -> str:
    return ", ".join(f"`{name}`" for name in dimensions_of(kpi))


def _more_dimensions(kpi: Kpi) -> str:
    stream = mapped_stream_of(kpi)
    return "" if stream is None else f", or mapped fields of {stream}"


def reasons_without_meaning() -> list[str]:
    """Reasons that some KPI gives and the page does not explain."""
    given = {reason for kpi in available().values() for reason in kpi.left_out}
    return sorted(given - _REASONS.keys())


if __name__ == "__main__":
    sys.stdout.write(render())
