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
)
"""The dimensions of deals."""

FREE_TEXT: Final = ("product", "source", "type", "kind", "region", "segment")
"""Dimensions whose values are whatever stands in a field, of any length."""

LONGEST_VALUE: Final = 120
"""Characters of a free text that tell groups apart: PostgreSQL's indexes take no long keys."""

LABELLED: Final = ("owner", "account", "campaign", "stage", "pipeline")
"""Dimensions whose keys are records that have a name of their own."""

LONGEST: Final = 3
"""Dimensions in one grouping, at most: every further one multiplies the cells."""


def name_of(grouping: Grouping) -> str:
    """The dimension name of a grouping: ``all``, ``owner``, ``owner,region``."""
    return ",".join(grouping) or TOTAL_NAME


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


def checked_grouping(place: str, grouping: Sequence[str]) -> Grouping:
    """A grouping as configured.

    Raises:
        ValueError: a dimension is unknown, repeated, or there are too many.
    """
    for dimension in grouping:
        if dimension not in DEAL_DIMENSIONS:
            raise ValueError(
                f'{place}: "{dimension}" is not a dimension; use {", ".join(DEAL_DIMENSIONS)}'
            )
    if len(set(grouping)) != len(grouping):
        raise ValueError(f"{place}: a dimension is named twice in {name_of(tuple(grouping))}")
    if len(grouping) > LONGEST:
        raise ValueError(f"{place}: at most {LONGEST} dimensions can be combined")
    return tuple(grouping)
