"""The sales KPIs: deals won and lost, how often, how fast, and what is still open."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final

from metrics.catalog.examples import entered, lost, stage, still_open, won
from metrics.definition import (
    SECONDS_PER_DAY,
    Direction,
    Kpi,
    Part,
    Sum,
    Term,
    Unit,
    WorkedExample,
)
from metrics.dimensions import Grouping

STAGE_GROUPINGS: Final[tuple[Grouping, ...]] = (
    ("owner",),
    ("pipeline",),
    ("product",),
    ("source",),
    ("stage",),
    ("pipeline", "stage"),
    ("owner", "stage"),
)
"""The usual groupings, and by stage."""

CYCLE_GROUPINGS: Final[tuple[Grouping, ...]] = (
    ("owner",),
    ("pipeline",),
    ("product",),
    ("source",),
    ("size_band",),
    ("decision_makers",),
)
"""The usual groupings, by size of deal and by number of people with a part in it."""

CLOSE_DAY: Final = "the deal's close date, else the local day on which it closed"
CREATION_DAY: Final = "the local day on which the deal was created"

NO_AMOUNT_CAVEAT: Final = (
    "Deals without an amount add nothing; left_out says how many (no_amount), and how many have "
    "a currency without a rate (no_rate)."
)
RESTATED_CAVEAT: Final = (
    "Edits restate history: a deal that is re-opened or gets another owner changes its old period."
)

CLOSED: Final[Sum] = (Term("won"), Term("lost"))
CLOSED_PRICED: Final[Sum] = (Term("won", Part.PRICED), Term("lost", Part.PRICED))
CLOSED_NO_AMOUNT: Final[Sum] = (Term("won", Part.NO_AMOUNT), Term("lost", Part.NO_AMOUNT))
CLOSED_NO_RATE: Final[Sum] = (Term("won", Part.NO_RATE), Term("lost", Part.NO_RATE))
CLOSED_AMOUNT: Final[Sum] = (Term("won_amount"), Term("lost_amount"))


def unpriced(measure: str) -> dict[str, Sum]:
    """Reasons for which records of a measure are missing from a sum of money."""
    return {
        "no_amount": (Term(measure, Part.NO_AMOUNT),),
        "no_rate": (Term(measure, Part.NO_RATE),),
    }


_CLOSED_DEALS = (won(1, amount=300), won(2, amount=100), won(3), lost(4, amount=100))
_CLOSED_DEALS_TEXT = (
    "In January 2024 three deals are won, worth 300, 100 and an unknown amount, and one worth "
    "100 is lost"
)


def _closed_example(result: str, value: str) -> WorkedExample:
    return WorkedExample(
        text=f"{_CLOSED_DEALS_TEXT}: {result}.",
        records=_CLOSED_DEALS,
        period="2024-01",
        value=Decimal(value),
    )


WON_COUNT: Final = Kpi(
    name="won_count",
    label="Deals won",
    definition="Deals that the CRM marks as won, closed in the period.",
    unit=Unit.COUNT,
    direction=Direction.UP,
    family="deals_closed",
    numerator=(Term("won"),),
    used=(Term("won"),),
    counting_day=CLOSE_DAY,
    caveats=(RESTATED_CAVEAT,),
    example=_closed_example("3", "3"),
)

LOST_COUNT: Final = Kpi(
    name="lost_count",
    label="Deals lost",
    definition="Deals closed in the period that are not won.",
    unit=Unit.COUNT,
    direction=Direction.DOWN,
    family="deals_closed",
    numerator=(Term("lost"),),
    used=(Term("lost"),),
    counting_day=CLOSE_DAY,
    caveats=(RESTATED_CAVEAT,),
    example=_closed_example("1", "1"),
)

CLOSED_COUNT: Final = Kpi(
    name="closed_count",
    label="Deals closed",
    definition="Deals closed in the period, won or lost.",
    unit=Unit.COUNT,
    direction=Direction.NEUTRAL,
    family="deals_closed",
    numerator=CLOSED,
    used=CLOSED,
    counting_day=CLOSE_DAY,
    caveats=(RESTATED_CAVEAT,),
    example=_closed_example("4", "4"),
)

WON_VALUE: Final = Kpi(
    name="won_value",
    label="Value won",
    definition="Sum of the amounts of the deals won in the period, in the company's currency.",
    unit=Unit.MONEY,
    direction=Direction.UP,
    family="deals_closed",
    numerator=(Term("won_amount"),),
    used=(Term("won", Part.PRICED),),
    left_out=unpriced("won"),
    counting_day=CLOSE_DAY,
    caveats=(NO_AMOUNT_CAVEAT, RESTATED_CAVEAT),
    example=_closed_example("400, one deal left out", "400"),
)

LOST_VALUE: Final = Kpi(
    name="lost_value",
    label="Value lost",
    definition="Sum of the amounts of the deals lost in the period, in the company's currency.",
    unit=Unit.MONEY,
    direction=Direction.DOWN,
    family="deals_closed",
    numerator=(Term("lost_amount"),),
    used=(Term("lost", Part.PRICED),),
    left_out=unpriced("lost"),
    counting_day=CLOSE_DAY,
    caveats=(
        NO_AMOUNT_CAVEAT,
        "Many teams set the amount of a lost deal to 0: then this value says nothing.",
    ),
    example=_closed_example("100", "100"),
)

WIN_RATE: Final = Kpi(
    name="win_rate",
    label="Win rate",
    definition="Deals won divided by deals won or lost, closed in the period.",
    unit=Unit.RATIO,
    is_share=True,
    direction=Direction.UP,
    family="deals_closed",
    numerator=(Term("won"),),
    denominator=CLOSED,
    used=CLOSED,
    counting_day=CLOSE_DAY,
    caveats=(
        "Open deals are not counted: deals that nobody closes flatter it (see close_rate).",
        RESTATED_CAVEAT,
    ),
    example=_closed_example("3 / 4 = 0.75", "0.75"),
)

WIN_RATE_VALUE: Final = Kpi(
    name="win_rate_value",
    label="Win rate by value",
    definition="Value won divided by value won or lost, closed in the period.",
    unit=Unit.RATIO,
    direction=Direction.UP,
    family="deals_closed",
    numerator=(Term("won_amount"),),
    denominator=CLOSED_AMOUNT,
    used=CLOSED_PRICED,
    left_out={"no_amount": CLOSED_NO_AMOUNT, "no_rate": CLOSED_NO_RATE},
    counting_day=CLOSE_DAY,
    caveats=(
        NO_AMOUNT_CAVEAT,
        "Where the amount of a lost deal is set to 0, it is 1 whatever happens.",
    ),
    example=_closed_example("400 / 500 = 0.8", "0.8"),
)

AVG_DEAL_VALUE: Final = Kpi(
    name="avg_deal_value",
    label="Average deal value",
    definition="Value won divided by the number of won deals that have an amount.",
    unit=Unit.MONEY,
    direction=Direction.UP,
    family="deals_closed",
    numerator=(Term("won_amount"),),
    denominator=(Term("won", Part.PRICED),),
    used=(Term("won", Part.PRICED),),
    left_out=unpriced("won"),
    counting_day=CLOSE_DAY,
    caveats=(NO_AMOUNT_CAVEAT, "A mean: one very large deal moves it."),
    example=_closed_example("400 / 2 = 200, one deal left out", "200"),
)

_CREATED_DEALS = (won(1), won(2), lost(3), still_open(4), still_open(5))
_CREATED_TEXT = (
    "Of five deals created in January 2024 two are won by today, one is lost, two are open"
)

DEALS_CREATED: Final = Kpi(
    name="deals_created",
    label="Deals created",
    definition="Deals created in the period, whatever became of them.",
    unit=Unit.COUNT,
    direction=Direction.UP,
    family="deals_created",
    numerator=(Term("created"),),
    used=(Term("created"),),
    counting_day=CREATION_DAY,
    caveats=("Deals deleted in the CRM do not exist: the count of an old period can fall.",),
    example=WorkedExample(
        text=f"{_CREATED_TEXT}: 5.",
        records=_CREATED_DEALS,
        period="2024-01",
        value=Decimal(5),
    ),
)

CLOSE_RATE: Final = Kpi(
    name="close_rate",
    label="Close rate",
    definition="Of the deals created in the period, the share that is won by now.",
    unit=Unit.RATIO,
    is_share=True,
    direction=Direction.UP,
    family="deals_created",
    numerator=(Term("won"),),
    denominator=(Term("created"),),
    used=(Term("created"),),
    counting_day=CREATION_DAY,
    caveats=("Open deals stay in the denominator: young periods look worse than they will be.",),
    example=WorkedExample(
        text=f"{_CREATED_TEXT}: 2 / 5 = 0.4.",
        records=_CREATED_DEALS,
        period="2024-01",
        value=Decimal("0.4"),
    ),
)

CLOSED_OF_CREATED: Final = Kpi(
    name="closed_of_created",
    label="Closed of created",
    definition="Of the deals created in the period, the share that is won or lost by now.",
    unit=Unit.RATIO,
    is_share=True,
    direction=Direction.NEUTRAL,
    family="deals_created",
    numerator=(Term("closed"),),
    denominator=(Term("created"),),
    used=(Term("created"),),
    counting_day=CREATION_DAY,
    caveats=("Says how far a cohort has been decided, not how well.",),
    example=WorkedExample(
        text=f"{_CREATED_TEXT}: 3 / 5 = 0.6.",
        records=_CREATED_DEALS,
        period="2024-01",
        value=Decimal("0.6"),
    ),
)

SALES_CYCLE_DAYS: Final = Kpi(
    name="sales_cycle_days",
    label="Sales cycle",
    definition=(
        "Mean number of whole days from the local day of creation to the close day of the deals "
        "won in the period."
    ),
    unit=Unit.DAYS,
    direction=Direction.DOWN,
    family="sales_cycle",
    numerator=(Term("days"),),
    denominator=(Term("measured"),),
    used=(Term("measured"),),
    left_out={"negative_duration": (Term("negative"),), "no_date": (Term("undated"),)},
    groupings=CYCLE_GROUPINGS,
    counting_day=CLOSE_DAY,
    caveats=(
        (
            "Deals closed before they were created (imports, back-dated close dates) are left "
            "out as negative_duration; deals without either day as no_date."
        ),
    ),
    example=WorkedExample(
        text=(
            "Three deals are won: after 9 days, after 20 days, and one 'closed' a day before it "
            "was created. The last one is left out: (9 + 20) / 2 = 14.5 days."
        ),
        records=(
            won(1),
            won(2, closed=date(2024, 1, 21)),
            won(3, created=date(2024, 1, 11)),
        ),
        period="2024-01",
        value=Decimal("14.5"),
    ),
)

_VISITED = (
    stage("qualify"),
    stage("offer"),
    stage("won", is_closed=True),
    won(1, stage="won"),
    entered(1, "qualify", datetime(2024, 1, 1, 12, tzinfo=UTC)),
    entered(1, "offer", datetime(2024, 1, 3, 12, tzinfo=UTC)),
    entered(1, "qualify", datetime(2024, 1, 4, 12, tzinfo=UTC)),
    entered(1, "won", datetime(2024, 1, 10, 12, tzinfo=UTC)),
)
_VISITED_TEXT = (
    "A deal stands in 'qualify' for 2 days, in 'offer' for 1, again in 'qualify' for 6, then it "
    "is won"
)
VISIT_DAY: Final = "the local day on which the deal left the stage"
UNKNOWN_STAGE_CAVEAT: Final = (
    "Visits to stages that the CRM never described are left out as unknown_stage."
)

TIME_IN_STAGE_DAYS: Final = Kpi(
    name="time_in_stage_days",
    label="Time in stage",
    definition=(
        "Mean length of the completed visits of deals to open stages that ended in the period."
    ),
    unit=Unit.DAYS,
    direction=Direction.DOWN,
    family="stage_visits",
    numerator=(Term("seconds"),),
    denominator=(Term("visits"),),
    divisor=SECONDS_PER_DAY,
    used=(Term("visits"),),
    left_out={"unknown_stage": (Term("unknown"),)},
    groupings=STAGE_GROUPINGS,
    counting_day=VISIT_DAY,
    caveats=(
        "Visits that still go on are not in it: a stage in which deals get stuck looks quick.",
        UNKNOWN_STAGE_CAVEAT,
        "By pipeline and owner it is the deal's pipeline and owner of today.",
    ),
    example=WorkedExample(
        text=f"{_VISITED_TEXT}: (2 + 1 + 6) / 3 visits = 3 days; 'qualify' alone has 4.",
        records=_VISITED,
        period="2024-01",
        value=Decimal(3),
    ),
)

STAGE_VISITS: Final = Kpi(
    name="stage_visits",
    label="Stage visits",
    definition="Completed visits of deals to open stages that ended in the period.",
    unit=Unit.COUNT,
    direction=Direction.NEUTRAL,
    family="stage_visits",
    numerator=(Term("visits"),),
    used=(Term("visits"),),
    left_out={"unknown_stage": (Term("unknown"),)},
    groupings=STAGE_GROUPINGS,
    counting_day=VISIT_DAY,
    caveats=(UNKNOWN_STAGE_CAVEAT,),
    example=WorkedExample(
        text=f"{_VISITED_TEXT}: 3 visits, 2 of them to 'qualify'.",
        records=_VISITED,
        period="2024-01",
        dimension="stage",
        key="crm:qualify",
        value=Decimal(2),
    ),
)

_OPEN_DEALS = (
    still_open(1, amount=1000, probability="0.1"),
    still_open(2, amount=1000, probability="0.9"),
    still_open(3, probability="0.5"),
    won(4, amount=5000),
)
_OPEN_TEXT = (
    "Two open deals are worth 1,000 each, one at 10 % and one at 90 %, a third has no amount, "
    "a fourth is won"
)

OPEN_COUNT: Final = Kpi(
    name="open_count",
    label="Open deals",
    definition="Deals that are open now.",
    unit=Unit.COUNT,
    direction=Direction.NEUTRAL,
    family="deals_open",
    numerator=(Term("open"),),
    used=(Term("open"),),
    is_instant=True,
    counting_day="now",
    example=WorkedExample(
        text=f"{_OPEN_TEXT}: 3.", records=_OPEN_DEALS, period="now", value=Decimal(3)
    ),
)

OPEN_VALUE: Final = Kpi(
    name="open_value",
    label="Open value",
    definition="Sum of the amounts of the deals that are open now, in the company's currency.",
    unit=Unit.MONEY,
    direction=Direction.UP,
    family="deals_open",
    numerator=(Term("amount"),),
    used=(Term("open", Part.PRICED),),
    left_out=unpriced("open"),
    is_instant=True,
    counting_day="now",
    caveats=(NO_AMOUNT_CAVEAT,),
    example=WorkedExample(
        text=f"{_OPEN_TEXT}: 2,000, one deal left out.",
        records=_OPEN_DEALS,
        period="now",
        value=Decimal(2000),
    ),
)

WEIGHTED_PIPELINE: Final = Kpi(
    name="weighted_pipeline",
    label="Weighted pipeline",
    definition="Sum of amount x probability of the deals that are open now.",
    unit=Unit.MONEY,
    direction=Direction.UP,
    family="deals_open",
    numerator=(Term("amount", Part.WEIGHTED),),
    used=(Term("open", Part.WEIGHABLE),),
    left_out={**unpriced("open"), "no_probability": (Term("open", Part.NO_WEIGHT),)},
    is_instant=True,
    counting_day="now",
    caveats=(
        NO_AMOUNT_CAVEAT,
        "Deals without a probability are left out as no_probability, not taken as 0.",
        "The probabilities are the CRM's; it is as good as they are.",
    ),
    example=WorkedExample(
        text=f"{_OPEN_TEXT}: 1,000 x 0.1 + 1,000 x 0.9 = 1,000.",
        records=_OPEN_DEALS,
        period="now",
        value=Decimal(1000),
    ),
)

DEALS: Final = (
    WON_COUNT,
    LOST_COUNT,
    CLOSED_COUNT,
    WON_VALUE,
    LOST_VALUE,
    WIN_RATE,
    WIN_RATE_VALUE,
    DEALS_CREATED,
    CLOSE_RATE,
    CLOSED_OF_CREATED,
    AVG_DEAL_VALUE,
    SALES_CYCLE_DAYS,
    TIME_IN_STAGE_DAYS,
    STAGE_VISITS,
    OPEN_COUNT,
    OPEN_VALUE,
    WEIGHTED_PIPELINE,
)
