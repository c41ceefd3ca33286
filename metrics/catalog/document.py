"""docs/kpis.md, written from the definitions: ``python -m metrics.catalog.document``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from metrics.catalog import (
    BY_ACCOUNT,
    DEFAULT_GROUPINGS,
    PACKS,
    PLANNED_PACKS,
    STAGE_GROUPINGS,
    available,
)
from metrics.definition import Direction, Kpi
from metrics.dimensions import DEAL_DIMENSIONS, LONGEST_VALUE, name_of
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
    planned = " and ".join(f"`{name}`" for name in PLANNED_PACKS)
    yield f"The packs {planned} are not supported yet: naming them in `kpis.use` is refused."


def _groups_and_periods() -> Iterator[str]:
    default = ", ".join(f"`{name_of(grouping)}`" for grouping in DEFAULT_GROUPINGS)
    by_stage = ", ".join(f"`{name_of(grouping)}`" for grouping in STAGE_GROUPINGS)
    yield "## Groups and periods"
    yield ""
    yield (
        f"Every KPI has its total (dimension `all`, key `*`) and, unless "
        f"`kpis.settings.KPI.by` says otherwise, values by {default} and, for the periods `all` "
        f"and `now`, by `{name_of(BY_ACCOUNT)}`. Times in stages are kept by {by_stage}, too."
    )
    yield ""
    yield (
        f"`by` takes any of {', '.join(f'`{name}`' for name in DEAL_DIMENSIONS)}, and lists of "
        "up to three as combinations (`[owner, region]`). The value of a dimension is the "
        "record's value today; records without one are in no group of it. Texts are told apart "
        f"by their first {LONGEST_VALUE} characters."
    )
    yield ""
    yield (
        f"`kpis.periods` takes {', '.join(f'`{kind}`' for kind in CALENDAR_KINDS)}; `all` is "
        "always kept. KPIs of the moment have the one period `now`."
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
    yield f"- Unit: {kpi.unit}; {_DIRECTIONS[kpi.direction]}."
    yield f"- Counts on: {kpi.counting_day}."
    if kpi.left_out:
        reasons = ", ".join(f"`{reason}`" for reason in sorted(kpi.left_out))
        yield f"- May leave out: {reasons}."
    for caveat in kpi.caveats:
        yield f"- Beware: {caveat}"
    yield f"- Example: {kpi.example}"
    yield f"- Formula version: `{kpi.formula}`."
    yield ""


def reasons_without_meaning() -> list[str]:
    """Reasons that some KPI gives and the page does not explain."""
    given = {reason for kpi in available().values() for reason in kpi.left_out}
    return sorted(given - _REASONS.keys())


if __name__ == "__main__":
    sys.stdout.write(render())
