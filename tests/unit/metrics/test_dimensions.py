from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.dimensions import (
    checked_grouping,
    grouping_named,
    key_of,
    name_of,
    values_of,
)


def test_the_total_has_a_name_and_a_key_of_its_own() -> None:
    assert name_of(()) == "all"
    assert key_of(()) == "*"
    assert grouping_named("all") == ()
    assert values_of((), "*") == ()


def test_a_comma_in_a_combined_key_is_escaped() -> None:
    assert key_of(["ana", "EMEA"]) == "ana,EMEA"
    assert key_of(["Pumps, large", "EMEA"]) == "Pumps\\, large,EMEA"


def test_a_single_value_is_its_own_key() -> None:
    assert key_of(["Pumps, large"]) == "Pumps, large"


@given(st.lists(st.text(alphabet="a,\\b\n", max_size=5), min_size=1, max_size=3))
def test_a_key_gives_its_values_back(values: list[str]) -> None:
    grouping = ("owner", "region", "product")[: len(values)]

    assert values_of(grouping, key_of(values)) == tuple(values)


@pytest.mark.parametrize(
    ("grouping", "reason"),
    [
        (("city",), '"city" is not a dimension; use owner, team'),
        (("owner", "owner"), "named twice"),
        (("owner", "region", "product", "source"), "at most 3"),
    ],
)
def test_impossible_groupings_are_refused(grouping: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        checked_grouping("kpis.settings.win_rate.by", grouping)
