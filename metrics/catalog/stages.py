"""The sales KPIs of time: how long stages and deals take, what waits, and what moves back."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final

from metrics.catalog import sales
from metrics.catalog.examples import entered, lost, stage, still_open, won
from metrics.catalog.sales import (
    CLOSE_DAY,
    NO_AMOUNT_CAVEAT,
    RESTATED_CAVEAT,
    UNKNOWN_STAGE_CAVEAT,
    VISIT_DAY,
)
from metrics.definition import (
    SECONDS_PER_DAY,
    Direction,
    Formula,
    Kpi,
    Part,
    Product,
    Ratio,
    Span,
    Sum,
    Term,
    Total,
    Unit,
    WorkedExample,
)
from metrics.dimensions import Grouping
from store.canonical import CanonicalRecord

MEDIAN_CAVEAT: Final = "The middle value; of an even number the mean of the two in the middle."
RANK_CAVEAT: Final = "By nearest rank: the smallest value that at least 90 % do not exceed."
_BY_STAGE: Final[tuple[Grouping, ...]] = (("stage",), ("pipeline", "stage"), ("owner", "stage"))
_NOON: Final = datetime(2024, 1, 1, 12, tzinfo=UTC)

AVG_DEAL_VALUE_MEDIAN: Final = Kpi(
    name="avg_deal_value_median",
    label="Median deal value",
    definition="Median amount of the deals won in the period, in the company's currency.",
    unit=Unit.MONEY,
    direction=Direction.UP,
    family="deal_amounts",
    percentile=50,
    used=(Term("won", Part.PRICED),),
    left_out=sales.unpriced("won"),
    groupings=(("owner",), ("pipeline",)),
    by_account=False,
    counting_day=CLOSE_DAY,
    caveats=(MEDIAN_CAVEAT, NO_AMOUNT_CAVEAT),
    example=WorkedExample(
        text="Won deals are worth 100, 200, 900 and an unknown amount: the median is 200.",
        records=(won(1, amount=100), won(2, amount=200), won(3, amount=900), won(4)),
        period="2024-01",
        value=Decimal(200),
    ),
)

_CYCLES = (
    won(1),
    won(2, closed=date(2024, 1, 21)),
    won(3, closed=date(2024, 1, 31)),
    won(4, created=date(2024, 1, 11)),
)

SALES_CYCLE_DAYS_MEDIAN: Final = Kpi(
    name="sales_cycle_days_median",
    label="Sales cycle, median",
    definition=(
        "Median number of whole days from the local day of creation to the close day of the "
        "deals won in the period."
    ),
    unit=Unit.DAYS,
    direction=Direction.DOWN,
    family="sales_cycle",
    percentile=50,
    used=(Term("measured"),),
    left_out={"negative_duration": (Term("negative"),), "no_date": (Term("undated"),)},
    groupings=(("owner",), ("pipeline",), ("size_band",), ("decision_makers",)),
    by_account=False,
    counting_day=CLOSE_DAY,
    caveats=(MEDIAN_CAVEAT,),
    example=WorkedExample(
        text=(
            "Deals are won after 9, 20 and 30 days, and one a day before it was created, which is "
            "left out: the median is 20 days."
        ),
        records=_CYCLES,
        period="2024-01",
        value=Decimal(20),
    ),
)

_VISITS = (
    stage("qualify", position=1),
    stage("offer", position=2),
    stage("won", is_closed=True, position=3),
    won(1, stage="won"),
    entered(1, "qualify", _NOON),
    entered(1, "offer", datetime(2024, 1, 3, 12, tzinfo=UTC)),
    entered(1, "qualify", datetime(2024, 1, 4, 12, tzinfo=UTC)),
    entered(1, "won", datetime(2024, 1, 10, 12, tzinfo=UTC)),
)
_VISITS_TEXT = "Visits to open stages take 2 days, 1 day and 6 days"


def _stage_time(name: str, label: str, percentile: int, value: int, caveat: str) -> Kpi:
    words = "Median" if percentile == 50 else "90th percentile of the"  # noqa: PLR2004 - the median
    return Kpi(
        name=name,
        label=label,
        definition=(
            f"{words} length of the completed visits of deals to open stages that ended in the "
            "period."
        ),
        unit=Unit.DAYS,
        direction=Direction.DOWN,
        family="stage_times",
        percentile=percentile,
        divisor=SECONDS_PER_DAY,
        used=(Term("visits"),),
        left_out={"unknown_stage": (Term("unknown"),)},
        groupings=_BY_STAGE,
        by_account=False,
        counting_day=VISIT_DAY,
        caveats=(caveat, UNKNOWN_STAGE_CAVEAT),
        example=WorkedExample(
            text=f"{_VISITS_TEXT}: {value} days.",
            records=_VISITS,
            period="2024-01",
            value=Decimal(value),
        ),
    )


TIME_IN_STAGE_DAYS_MEDIAN: Final = _stage_time(
    "time_in_stage_days_median", "Time in stage, median", 50, 2, MEDIAN_CAVEAT
)
TIME_IN_STAGE_DAYS_P90: Final = _stage_time(
    "time_in_stage_days_p90", "Time in stage, 90th percentile", 90, 6, RANK_CAVEAT
)

STAGE_COUNT: Final = Kpi(
    name="stage_count",
    label="Stages",
    definition="Active open stages of the deals' pipelines, as the CRM describes them now.",
    unit=Unit.COUNT,
    direction=Direction.NEUTRAL,
    family="stages_open",
    numerator=(Term("stages"),),
    used=(Term("stages"),),
    is_instant=True,
    groupings=(("pipeline",),),
    by_account=False,
    counting_day="now",
    caveats=("A stage of deals is one with a probability: those of tickets have none.",),
    version=2,
    example=WorkedExample(
        text=(
            "A pipeline has two open stages, a closed one and one that is no more in use; tickets "
            "have a status of their own: 2."
        ),
        records=(
            stage("qualify"),
            stage("offer"),
            stage("won", is_closed=True),
            stage("old", is_active=False),
            stage("waiting", probability=None),
        ),
        period="now",
        value=Decimal(2),
    ),
)

STAGES_PER_DEAL: Final = Kpi(
    name="stages_per_deal",
    label="Stages per deal",
    definition="Mean number of distinct open stages seen by the deals closed in the period.",
    unit=Unit.COUNT,
    direction=Direction.NEUTRAL,
    family="stages_seen",
    numerator=(Term("stages"),),
    denominator=(Term("deals"),),
    used=(Term("deals"),),
    left_out={"no_history": (Term("without_history"),)},
    groupings=(("owner",), ("pipeline",)),
    by_account=False,
    counting_day=CLOSE_DAY,
    caveats=("Deals without a stage history are left out as no_history.",),
    example=WorkedExample(
        text="A deal passes 'qualify', 'offer' and 'qualify' again before it is won: 2 stages.",
        records=_VISITS,
        period="2024-01",
        value=Decimal(2),
    ),
)

_REOPENED = (
    stage("offer", position=1),
    stage("lost", is_closed=True, position=2),
    still_open(1, stage="offer"),
    entered(1, "offer", _NOON),
    entered(1, "lost", datetime(2024, 1, 5, 12, tzinfo=UTC)),
    entered(1, "offer", datetime(2024, 2, 7, 12, tzinfo=UTC)),
)

REOPENED_COUNT: Final = Kpi(
    name="reopened_count",
    label="Deals re-opened",
    definition="Moves of deals from a closed to an open stage in the period.",
    unit=Unit.COUNT,
    direction=Direction.DOWN,
    family="reopenings",
    numerator=(Term("reopened"),),
    used=(Term("reopened"),),
    groupings=(("owner",), ("pipeline",)),
    by_account=False,
    counting_day="the local day on which the deal entered the open stage again",
    caveats=("A deal that is re-opened twice counts twice.",),
    example=WorkedExample(
        text="A deal lost in January goes back to 'offer' on 7 February: 1 in February.",
        records=_REOPENED,
        period="2024-02",
        value=Decimal(1),
    ),
)

STAGE_CONVERSION: Final = Kpi(
    name="stage_conversion",
    label="Stage conversion",
    definition=(
        "Of the deals that entered an open stage in the period, the share that ever reached a "
        "later open stage of the pipeline, or is won."
    ),
    unit=Unit.RATIO,
    is_share=True,
    direction=Direction.UP,
    family="stage_entries",
    numerator=(Term("advanced"),),
    denominator=(Term("entered"),),
    used=(Term("entered"),),
    left_out={"undecided": (Term("undecided"),)},
    groupings=_BY_STAGE,
    by_account=False,
    counting_day="the local day on which the deal entered the stage",
    caveats=(
        (
            "Open deals that reached no later stage yet stay in the denominator; left_out says "
            "how many they are (undecided)."
        ),
        "A deal counts once for each stage and period, however often it enters.",
    ),
    example=WorkedExample(
        text=(
            "Two deals enter 'qualify' in January; one goes on to 'offer', the other waits: "
            "1 / 2 = 0.5, one undecided."
        ),
        records=(
            stage("qualify", position=1),
            stage("offer", position=2),
            still_open(1, stage="offer"),
            still_open(2, stage="qualify"),
            entered(1, "qualify", _NOON),
            entered(1, "offer", datetime(2024, 1, 9, 12, tzinfo=UTC)),
            entered(2, "qualify", _NOON),
        ),
        period="2024-01",
        dimension="stage",
        key="crm:qualify",
        value=Decimal("0.5"),
    ),
)


def _passing(deal: int, start: datetime, *days: int) -> tuple[CanonicalRecord, ...]:
    """A deal stands in one stage after the other, for so many days."""
    instants = [start + timedelta(days=sum(days[:place])) for place in range(len(days) + 1)]
    stages = ("qualify", "offer", "won")
    return (
        won(deal, stage="won"),
        *(entered(deal, name, at) for name, at in zip(stages, instants, strict=True)),
    )


_SLOWER = (
    stage("qualify", position=1),
    stage("offer", position=2),
    stage("won", is_closed=True, position=3),
    *(
        record
        for deal in range(20)
        for record in (
            *_passing(deal, datetime(2023, 6, 1, 12, tzinfo=UTC), 4, 1),
            *_passing(100 + deal, datetime(2024, 1, 10, 12, tzinfo=UTC), 5, 2),
        )
    ),
)

BOTTLENECK: Final = Kpi(
    name="bottleneck",
    label="Bottleneck",
    definition=(
        "The open stage whose median time in the period is the largest multiple of its own median "
        "over the twelve months before; both need 20 visits."
    ),
    unit=Unit.TEXT,
    direction=Direction.NEUTRAL,
    family="stage_times",
    used=(Term("visits", span=Span.PERIOD), Term("visits", span=Span.NORM)),
    groupings=(("pipeline",),),
    inner=(("stage",), ("pipeline", "stage")),
    by_account=False,
    has_all=False,
    counting_day=VISIT_DAY,
    caveats=(
        "Where no stage has enough visits the value is 'not enough data'.",
        "The value is the key of the stage; people and CRM fields see its name.",
        "A stage that was always slow is no bottleneck: it is compared with itself.",
        "Of the last N days the twelve months before their first day are the norm.",
    ),
    example=WorkedExample(
        text=(
            "Twenty deals of 2023 stood in 'qualify' for 4 days and in 'offer' for 1, twenty of "
            "January in 'qualify' for 5 days and in 'offer' for 2: a fourth more in one, twice as "
            "much in the other, which is the bottleneck."
        ),
        records=_SLOWER,
        period="2024-01",
        value=None,
        words="crm:offer",
    ),
)

# ---------------------------------------------------------------- what waits

_WAITING = (
    stage("offer"),
    still_open(1, stage="offer", amount=1000),
    entered(1, "offer", datetime(2024, 1, 2, 12, tzinfo=UTC)),
    still_open(2, stage="offer", amount=500),
    entered(2, "offer", datetime(2024, 2, 20, 12, tzinfo=UTC)),
)
_LATER = datetime(2024, 3, 1, 12, tzinfo=UTC)
_WAITING_TEXT = (
    "On 1 March one open deal over 1,000 stands in its stage since 2 January, another over 500 "
    "since 20 February"
)
_PAST: Final[Sum] = (Term("open", Part.PAST),)
_NO_HISTORY_CAVEAT = "A deal without a stage history waits since its creation."

STALLED_COUNT: Final = Kpi(
    name="stalled_count",
    label="Stalled deals",
    definition=(
        "Open deals whose last stage change lies more than 30 x 24 hours back (`stalled_days`)."
    ),
    unit=Unit.COUNT,
    direction=Direction.DOWN,
    family="deals_resting",
    numerator=_PAST,
    used=(Term("open"),),
    is_instant=True,
    settings=("stalled_days",),
    base="stalled",
    groupings=(("owner",), ("pipeline",)),
    by_account=False,
    counting_day="now",
    caveats=("Edits of the amount or of notes do not count as movement.", _NO_HISTORY_CAVEAT),
    example=WorkedExample(
        text=f"{_WAITING_TEXT}: 1.",
        records=_WAITING,
        period="now",
        value=Decimal(1),
        at=_LATER,
    ),
)

STALLED_VALUE: Final = Kpi(
    name="stalled_value",
    label="Stalled value",
    definition="Sum of the amounts of the stalled deals, in the company's currency.",
    unit=Unit.MONEY,
    direction=Direction.DOWN,
    family="deals_resting",
    numerator=(Term("amount", Part.PAST),),
    used=(Term("open", Part.PRICED),),
    left_out={
        "no_amount": (Term("open", Part.PAST_NO_AMOUNT),),
        "no_rate": (Term("open", Part.PAST_NO_RATE),),
    },
    is_instant=True,
    settings=("stalled_days",),
    base="stalled",
    groupings=(("owner",), ("pipeline",)),
    by_account=False,
    counting_day="now",
    caveats=(NO_AMOUNT_CAVEAT, _NO_HISTORY_CAVEAT),
    example=WorkedExample(
        text=f"{_WAITING_TEXT}: 1,000.",
        records=_WAITING,
        period="now",
        value=Decimal(1000),
        at=_LATER,
    ),
)

IS_STALLED: Final = Kpi(
    name="is_stalled",
    label="Stalled",
    definition="1 for an open deal that is stalled, 0 for any other open deal.",
    unit=Unit.COUNT,
    direction=Direction.DOWN,
    family="deals_resting",
    numerator=_PAST,
    used=(Term("open"),),
    is_instant=True,
    groupings=(("deal",),),
    by_account=False,
    has_total=False,
    settings=("stalled_days",),
    base="stalled",
    counting_day="now",
    caveats=(_NO_HISTORY_CAVEAT,),
    example=WorkedExample(
        text=f"{_WAITING_TEXT}: 1 for the first.",
        records=_WAITING,
        period="now",
        dimension="deal",
        key="crm:D1",
        value=Decimal(1),
        at=_LATER,
    ),
)

STAGE_AGE_DAYS: Final = Kpi(
    name="stage_age_days",
    label="Days in stage",
    definition="Whole days (of 24 hours) since an open deal entered the stage it stands in.",
    unit=Unit.DAYS,
    direction=Direction.DOWN,
    family="deals_aging",
    numerator=(Term("open", Part.AGE),),
    used=(Term("open"),),
    is_instant=True,
    groupings=(("deal",),),
    by_account=False,
    has_total=False,
    counting_day="now",
    caveats=(_NO_HISTORY_CAVEAT,),
    example=WorkedExample(
        text=f"{_WAITING_TEXT}: 59 days for the first.",
        records=_WAITING,
        period="now",
        dimension="deal",
        key="crm:D1",
        value=Decimal(59),
        at=_LATER,
    ),
)


def _last_90_days(measure: str, family: str, part: Part = Part.ALL) -> Term:
    return Term(measure, part, family=family, span=Span.LAST_90D)


def _ratio(above: Term, *below: Term) -> Formula:
    return Ratio(Total((above,)), Total(below))


_WON = _last_90_days("won", "deals_closed")
_LOST = _last_90_days("lost", "deals_closed")

PIPELINE_VELOCITY: Final = Kpi(
    name="pipeline_velocity",
    label="Pipeline velocity",
    definition=(
        "Open deals x win rate x average deal value / sales cycle in days, the last three over "
        "the deals closed in the last 90 local days, today included."
    ),
    unit=Unit.MONEY_PER_DAY,
    direction=Direction.UP,
    family="deals_open",
    composed=Product(
        (
            Total((Term("open"),)),
            _ratio(_WON, _WON, _LOST),
            _ratio(
                _last_90_days("won_amount", "deals_closed"),
                _last_90_days("won", "deals_closed", Part.PRICED),
            ),
            _ratio(_last_90_days("measured", "sales_cycle"), _last_90_days("days", "sales_cycle")),
        )
    ),
    used=(Term("open"),),
    is_instant=True,
    groupings=(("owner",), ("pipeline",)),
    by_account=False,
    counting_day="now",
    caveats=(
        "No value where any part has none, or where every deal was won on the day it was created.",
        "A group without open deals has no value: nothing of it is on its way.",
        "Says what a day would bring if the future were like the last 90 days.",
    ),
    example=WorkedExample(
        text=(
            "On 15 January one deal is open; one was won after 9 days for 300, one lost: "
            "1 x 0.5 x 300 / 9 = 16.67 a day."
        ),
        records=(still_open(1), won(2, amount=300), lost(3)),
        period="now",
        value=Decimal("16.66666666666666666666666667"),
        at=datetime(2024, 1, 15, 12, tzinfo=UTC),
    ),
)

LOST_REASONS: Final = Kpi(
    name="lost_reasons",
    label="Lost, by reason",
    definition="Deals lost in the period, by the reason the CRM gives.",
    unit=Unit.COUNT,
    direction=Direction.DOWN,
    family="deals_closed",
    numerator=(Term("lost"),),
    used=(Term("lost"),),
    groupings=(("lost_reason",),),
    by_account=False,
    counting_day=CLOSE_DAY,
    caveats=("Deals without a reason are in the total alone.", RESTATED_CAVEAT),
    example=WorkedExample(
        text="Two of three lost deals were too dear: 2.",
        records=(
            lost(1, lost_reason="price"),
            lost(2, lost_reason="price"),
            lost(3, lost_reason="timing"),
        ),
        period="2024-01",
        dimension="lost_reason",
        key="price",
        value=Decimal(2),
    ),
)

STAGES: Final = (
    AVG_DEAL_VALUE_MEDIAN,
    SALES_CYCLE_DAYS_MEDIAN,
    TIME_IN_STAGE_DAYS_MEDIAN,
    TIME_IN_STAGE_DAYS_P90,
    STAGE_COUNT,
    STAGES_PER_DEAL,
    REOPENED_COUNT,
    STAGE_CONVERSION,
    BOTTLENECK,
    STALLED_COUNT,
    STALLED_VALUE,
    IS_STALLED,
    STAGE_AGE_DAYS,
    PIPELINE_VELOCITY,
    LOST_REASONS,
)
PACK: Final = (*sales.DEALS, *STAGES)
"""All sales KPIs."""
