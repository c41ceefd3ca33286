from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

import pytest

from metrics.explain.window import period_named, window_of
from metrics.verify.periods import Calendar, period_of

TODAY = date(2026, 11, 22)


@pytest.mark.parametrize(
    "kind",
    ["day", "week", "month", "quarter", "year", "fiscal_month", "fiscal_quarter", "fiscal_year"],
)
@pytest.mark.parametrize(
    "day", [date(2020, 12, 31), date(2021, 1, 3), date(2024, 2, 29), date(2026, 11, 22)]
)
@pytest.mark.parametrize("calendar", [Calendar(0, 1), Calendar(6, 2), Calendar(3, 12)])
def test_a_label_stands_for_the_period_that_carries_it(
    kind: str, day: date, calendar: Calendar
) -> None:
    period = period_of(kind, day.toordinal(), calendar)

    assert period_named(period.label, TODAY, calendar) == period


def test_a_rolling_period_ends_with_today_and_all_has_no_bounds() -> None:
    rolling = window_of(period_named("last_90d", TODAY, Calendar(0, 1)), ZoneInfo("UTC"))
    everything = window_of(period_named("all", TODAY, Calendar(0, 1)), ZoneInfo("UTC"))

    assert (rolling.first_day, rolling.day_after) == (date(2026, 8, 25), date(2026, 11, 23))
    assert (everything.first_day, everything.ends_at) == (None, None)


def test_a_midnight_that_does_not_exist_is_the_instant_at_which_the_clocks_jump() -> None:
    period = period_named("2018-11-04", TODAY, Calendar(0, 1))

    window = window_of(period, ZoneInfo("America/Sao_Paulo"))

    assert str(window.starts_at) == "2018-11-04 03:00:00+00:00"


def test_what_is_no_label_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a period"):
        period_named("soon", TODAY, Calendar(0, 1))
    with pytest.raises(ValueError, match="is not a period"):
        period_named("2026-13", TODAY, Calendar(0, 1))
