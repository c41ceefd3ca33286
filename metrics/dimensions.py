"""What values can be grouped by, and how groups are named.

A grouping is a tuple of dimensions; the empty one is the total. In the store a grouping is
its dimension name (``all``, ``owner``, ``owner,region``) and a group is its key (``*``, ``ana``,
``ana,EMEA``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeAlias

Grouping: TypeAlias = tuple[str, ...]

TOTAL: Final[Grouping] = ()
TOTAL_NAME: Final = "all"
TOTAL_KEY: Final = "*"

DEAL_DIMENSIONS: Final = (
    "owner",
    "team",
    "pipeline",
    "stage",
    "product",
    "source",
    "type",
    "kind",
    "region",
    "segment",
    "account",
    "campaign",
    "channel",
    "lost_reason",
    "size_band",
    "decision_makers",
    "deal",
)
"""The dimensions of deals."""

TICKET_DIMENSIONS: Final = (
    "owner",
    "team",
    "category",
    "type",
    "priority",
    "pipeline",
    "account",
    "contact",
    "ticket",
)
LEAD_DIMENSIONS: Final = ("source", "owner", "team")
SURVEY_DIMENSIONS: Final = ("account", "category", "contact")
COST_DIMENSIONS: Final = ("campaign", "channel", "source", "category")
EMAIL_DIMENSIONS: Final = ("campaign", "channel", "email")
CONTRACT_DIMENSIONS: Final = ("account", "owner", "region", "segment")
STAGE_DIMENSIONS: Final = ("pipeline",)
OWN_PLACES: Final = ("own_1", "own_2", "own_3", "own_4")
"""Columns of facts for mapped fields that are no dimension of ours."""
DEAL_COLUMNS: Final = (*DEAL_DIMENSIONS, *OWN_PLACES)
TICKET_COLUMNS: Final = (*TICKET_DIMENSIONS, *OWN_PLACES)
LEAD_COLUMNS: Final = (*LEAD_DIMENSIONS, *OWN_PLACES)
SURVEY_COLUMNS: Final = (*SURVEY_DIMENSIONS, *OWN_PLACES)

CREDIT_DIMENSIONS: Final = DEAL_DIMENSIONS
"""Those of the deal, but the campaign and the channel are those of the touch."""

DIMENSIONS: Final = tuple(
    dict.fromkeys(
        (
            *DEAL_DIMENSIONS,
            *TICKET_DIMENSIONS,
            *LEAD_DIMENSIONS,
            *COST_DIMENSIONS,
            *EMAIL_DIMENSIONS,
        )
    )
)
"""Everything that any KPI can be grouped by."""

RECORD_GRAINS: Final = ("account", "deal", "campaign", "ticket", "contact", "owner")
"""Dimensions whose keys are records that a write-back can reach."""

FREE_TEXT: Final = ("product", "source", "type", "kind", "region", "segment", "lost_reason")
"""Dimensions of deals whose values are whatever stands in a field, of any length."""

LONGEST_VALUE: Final = 120
"""Characters of a free text that tell groups apart: PostgreSQL's indexes take no long keys."""

NO_CAMPAIGN: Final = "(none)"
"""The campaign of purchases that no campaign touched."""

LABELLED: Final = (
    "owner",
    "account",
    "campaign",
    "stage",
    "pipeline",
    "deal",
    "ticket",
    "contact",
)
"""Dimensions whose keys are records that have a name of their own."""

LONGEST: Final = 3
"""Dimensions in one grouping, at most: every further one multiplies the cells."""


def name_of(grouping: Grouping) -> str:
    """The dimension name of a grouping: ``all``, ``owner``, ``owner,region``."""
    return ",".join(grouping) or TOTAL_NAME


def places_in(grouping: Grouping, mapped: Sequence[str]) -> Grouping:
    """A grouping by columns of the facts: mapped fields stand in places of their own."""
    if not mapped:
        return grouping
    return tuple(OWN_PLACES[mapped.index(name)] if name in mapped else name for name in grouping)


def grouping_named(name: str) -> Grouping:
    """The inverse of `name_of`."""
    return TOTAL if name == TOTAL_NAME else tuple(name.split(","))


def key_of(values: Sequence[str]) -> str:
    r"""The key of a group by the values of its dimensions, in the grouping's order.

    A single value stays as it is. In a combination a comma is written ``\,`` and, so that no
    two groups share a key, a backslash is doubled.
    """
    if not values:
        return TOTAL_KEY
    if len(values) == 1:
        return values[0]
    return ",".join(value.replace("\\", "\\\\").replace(",", "\\,") for value in values)


_PART: Final = re.compile(r"((?:[^,\\]|\\.)*)(?:,|$)", re.DOTALL)


def values_of(grouping: Grouping, key: str) -> tuple[str, ...]:
    """The values of a group's dimensions; the inverse of `key_of`."""
    if not grouping:
        return ()
    if len(grouping) == 1:
        return (key,)
    parts = [match.group(1) for match in _PART.finditer(key)]
    return tuple(re.sub(r"\\(.)", r"\1", part) for part in parts[: len(grouping)])


def checked_grouping(
    place: str, grouping: Sequence[str], dimensions: Sequence[str] = DIMENSIONS
) -> Grouping:
    """A grouping as configured.

    Args:
        place: where it stands in the configuration.
        grouping: names of dimensions.
        dimensions: what there is to choose from.

    Raises:
        ValueError: a dimension is unknown, repeated, or there are too many.
    """
    for dimension in grouping:
        if dimension not in dimensions:
            raise ValueError(
                f'{place}: "{dimension}" is not a dimension; use {", ".join(dimensions)}'
            )
    if len(set(grouping)) != len(grouping):
        raise ValueError(f"{place}: a dimension is named twice in {name_of(tuple(grouping))}")
    if len(grouping) > LONGEST:
        raise ValueError(f"{place}: at most {LONGEST} dimensions can be combined")
    return tuple(grouping)
