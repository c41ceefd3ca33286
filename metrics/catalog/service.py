"""The service KPIs: tickets, how fast they are solved, and whether customers would recommend."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from metrics.catalog.examples import answer, ticket, ticket_status
from metrics.definition import (
    SECONDS_PER_HOUR,
    Difference,
    Direction,
    Fixed,
    Formula,
    Kpi,
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

_BY_OPERATOR: Final[tuple[Grouping, ...]] = (("owner",), ("category",), ("priority",))
_BY_SURVEY: Final[tuple[Grouping, ...]] = (("category",),)

CREATION_DAY: Final = "the local day on which the ticket was created"
CLOSING_DAY: Final = "the local day on which the ticket was closed"
OWNER_CAVEAT: Final = "The operator is the ticket's owner of today, who takes its past along."
MEDIAN_CAVEAT: Final = "The middle value; of an even number the mean of the two in the middle."
RANK_CAVEAT: Final = "By nearest rank: the smallest value that at least 90 % do not exceed."


def _at(day: int, hour: int) -> datetime:
    return datetime(2024, 1, day, hour, tzinfo=UTC)


_TICKETS = (
    ticket(1, closed=_at(8, 11), replied=_at(8, 10)),
    ticket(2, closed=_at(8, 14), replied=_at(8, 12)),
    ticket(3, closed=_at(9, 15)),
    ticket(4),
)
_TICKETS_TEXT = (
    "Of four tickets created on 8 January at 9 three are closed, after 2, 5 and 30 hours; two got "
    "a reply, after 1 and 3 hours"
)


def _example(result: str, value: str, period: str = "2024-01") -> WorkedExample:
    return WorkedExample(
        text=f"{_TICKETS_TEXT}: {result}.", records=_TICKETS, period=period, value=Decimal(value)
    )


TICKETS_CREATED: Final = Kpi(
    name="tickets_created",
    label="Tickets created",
    definition="Tickets created in the period.",
    unit=Unit.COUNT,
    direction=Direction.NEUTRAL,
    family="tickets_created",
    numerator=(Term("created"),),
    used=(Term("created"),),
    groupings=_BY_OPERATOR,
    counting_day=CREATION_DAY,
    caveats=(OWNER_CAVEAT,),
    example=_example("4", "4"),
)

TICKETS_CLOSED: Final = Kpi(
    name="tickets_closed",
    label="Tickets closed",
    definition="Tickets that are closed now, closed in the period.",
    unit=Unit.COUNT,
    direction=Direction.UP,
    family="tickets_closed",
    numerator=(Term("closed"),),
    used=(Term("closed"),),
    groupings=_BY_OPERATOR,
    counting_day=CLOSING_DAY,
    caveats=("A ticket that is opened again leaves its period until it is closed again.",),
    example=_example("3", "3"),
)

TICKETS_BACKLOG: Final = Kpi(
    name="tickets_backlog",
    label="Ticket backlog",
    definition="Tickets that are open now.",
    unit=Unit.COUNT,
    direction=Direction.DOWN,
    family="tickets_open",
    numerator=(Term("open"),),
    used=(Term("open"),),
    is_instant=True,
    groupings=_BY_OPERATOR,
    counting_day="now",
    example=_example("1", "1", "now"),
)

COMPLETION_RATE: Final = Kpi(
    name="completion_rate",
    label="Completion rate",
    definition="Tickets closed in the period divided by tickets created in it.",
    unit=Unit.RATIO,
    direction=Direction.UP,
    family="tickets_created",
    numerator=(Term("closed", family="tickets_closed"),),
    denominator=(Term("created"),),
    used=(Term("created"),),
    groupings=_BY_OPERATOR,
    counting_day="creation and closing, each on its local day",
    caveats=("Not of the same tickets: above 1 the backlog shrinks.",),
    example=_example("3 / 4 = 0.75", "0.75"),
)

_LEFT_OUT: Final[dict[str, Sum]] = {
    "negative_duration": (Term("negative"),),
    "no_date": (Term("undated"),),
}
_HOURS_CAVEAT: Final = (
    "Hours of the clock; with `clock: business_hours` only the hours of `company.business_hours`."
)


def _hours(  # noqa: PLR0917 - the columns of a table
    name: str, label: str, words: str, family: str, result: str, value: str, percentile: int | None
) -> Kpi:
    measured = (Term("measured"),)
    caveats = {None: (), 50: (MEDIAN_CAVEAT,), 90: (RANK_CAVEAT,)}[percentile]
    is_mean = percentile is None
    return Kpi(
        name=name,
        label=label,
        definition=words,
        unit=Unit.HOURS,
        direction=Direction.DOWN,
        family=family,
        numerator=(Term("seconds"),) if is_mean else (),
        denominator=measured if is_mean else None,
        percentile=percentile,
        divisor=SECONDS_PER_HOUR,
        used=measured,
        left_out=_LEFT_OUT,
        groupings=_BY_OPERATOR,
        settings=("clock",),
        base=family,
        counting_day=CLOSING_DAY if family == "resolution" else "the local day of the reply",
        caveats=(*caveats, _HOURS_CAVEAT, OWNER_CAVEAT),
        example=_example(result, value),
    )


_RESOLVED: Final = "time from creation to closing of the tickets that are closed now, in the period"

RESOLUTION_HOURS: Final = _hours(
    "resolution_hours",
    "Resolution time",
    f"Mean {_RESOLVED}.",
    "resolution",
    "(2 + 5 + 30) / 3 = 12.33",
    "12.33333333333333333333333333",
    None,
)
RESOLUTION_HOURS_MEDIAN: Final = _hours(
    "resolution_hours_median",
    "Resolution time, median",
    f"Median {_RESOLVED}.",
    "resolution",
    "5",
    "5",
    50,
)
RESOLUTION_HOURS_P90: Final = _hours(
    "resolution_hours_p90",
    "Resolution time, 90th percentile",
    f"90th percentile of the {_RESOLVED}.",
    "resolution",
    "30",
    "30",
    90,
)
FIRST_RESPONSE_HOURS: Final = _hours(
    "first_response_hours",
    "First response time",
    "Mean time from creation to the first public reply, of the tickets replied to in the period.",
    "first_response",
    "(1 + 3) / 2 = 2",
    "2",
    None,
)

REOPEN_RATE: Final = Kpi(
    name="reopen_rate",
    label="Re-open rate",
    definition="Of the tickets closed in the period, the share that was opened again later.",
    unit=Unit.RATIO,
    is_share=True,
    direction=Direction.DOWN,
    family="closings",
    numerator=(Term("reopened"),),
    denominator=(Term("closed"),),
    used=(Term("closed"),),
    groupings=_BY_OPERATOR,
    counting_day="each local day on which the ticket was closed, by its history",
    caveats=("A ticket that was closed twice in a period counts once.",),
    example=WorkedExample(
        text="Two tickets are closed on 9 January, one is opened again on the 11th: 1 / 2 = 0.5.",
        records=(
            ticket(1, closed=_at(9, 9)),
            ticket(2, is_closed=False),
            ticket_status(1, _at(9, 9), is_closed=True),
            ticket_status(2, _at(9, 9), is_closed=True),
            ticket_status(2, _at(11, 9), is_closed=False),
        ),
        period="2024-01",
        value=Decimal("0.5"),
    ),
)

TICKET_RECURRENCE_RATE: Final = Kpi(
    name="ticket_recurrence_rate",
    label="Ticket recurrence rate",
    definition=(
        "Of the tickets created in the period, the share whose account opened one of the same "
        "category at most 30 x 24 hours before."
    ),
    unit=Unit.RATIO,
    is_share=True,
    direction=Direction.DOWN,
    family="tickets_created",
    numerator=(Term("recurrent"),),
    denominator=(Term("created"),),
    used=(Term("created"),),
    groupings=_BY_OPERATOR,
    counting_day=CREATION_DAY,
    caveats=("Tickets without an account or a category never count as recurring.",),
    example=WorkedExample(
        text=(
            "A opens a ticket on billing on 8 January and another on the 20th, and one on login: "
            "1 / 3."
        ),
        records=(
            ticket(1, account="A", category="billing"),
            ticket(2, account="A", category="billing", created=_at(20, 9)),
            ticket(3, account="A", category="login", created=_at(21, 9)),
        ),
        period="2024-01",
        value=Decimal("0.3333333333333333333333333333"),
    ),
)

# ---------------------------------------------------------------- recommendation

ANSWER_DAY: Final = "the local day on which the answer was submitted"
_SCORES = (10, 10, 9, 9, 9, 9, 8, 7, 6, 0)
_ANSWERS = tuple(answer(number, str(score)) for number, score in enumerate(_SCORES))
_ANSWERS_TEXT = "The scores of January are 10 10 9 9 9 9 8 7 6 0, and an 11 that is no score"
_VALID: Final[Sum] = (Term("promoters"), Term("passives"), Term("detractors"))
_LATEST_CAVEAT: Final = "With `answers: latest` only the last valid answer of each person counts."
_INVALID: Final[dict[str, Sum]] = {"invalid": (Term("invalid"),)}


def _recommended(result: str, value: str) -> WorkedExample:
    return WorkedExample(
        text=f"{_ANSWERS_TEXT}: {result}.",
        records=(*_ANSWERS, answer(11, "11")),
        period="2024-01",
        value=Decimal(value),
    )


NPS: Final = Kpi(
    name="nps",
    label="Net promoter score",
    definition="100 x (answers of 9 or 10 less answers of 0 to 6) / valid answers.",
    unit=Unit.POINTS,
    direction=Direction.UP,
    family="answers",
    numerator=(Term("promoters"), -Term("detractors")),
    denominator=_VALID,
    factor=100,
    used=_VALID,
    left_out=_INVALID,
    groupings=_BY_SURVEY,
    settings=("answers",),
    base="nps",
    counting_day=ANSWER_DAY,
    caveats=("Only whole numbers from 0 to 10 are valid; 0 is a detractor.", _LATEST_CAVEAT),
    example=_recommended("100 x (6 - 2) / 10 = 40", "40"),
)


def _answers(  # noqa: PLR0917 - the columns of a table
    name: str, label: str, words: str, terms: Sum, value: int, up: Direction
) -> Kpi:
    return Kpi(
        name=name,
        label=label,
        definition=words,
        unit=Unit.COUNT,
        direction=up,
        family="answers",
        numerator=terms,
        used=terms,
        groupings=_BY_SURVEY,
        settings=("answers",),
        base="nps",
        counting_day=ANSWER_DAY,
        caveats=(_LATEST_CAVEAT,),
        example=_recommended(str(value), str(value)),
    )


NPS_PROMOTERS: Final = _answers(
    "nps_promoters", "Promoters", "Answers of 9 or 10.", (Term("promoters"),), 6, Direction.UP
)
NPS_PASSIVES: Final = _answers(
    "nps_passives", "Passives", "Answers of 7 or 8.", (Term("passives"),), 2, Direction.NEUTRAL
)
NPS_DETRACTORS: Final = _answers(
    "nps_detractors", "Detractors", "Answers of 0 to 6.", (Term("detractors"),), 2, Direction.DOWN
)
NPS_RESPONSES: Final = _answers(
    "nps_responses", "Valid answers", "Answers of 0 to 10.", _VALID, 10, Direction.UP
)
NPS_INVALID: Final = _answers(
    "nps_invalid",
    "Invalid answers",
    "Answers that are no whole number from 0 to 10.",
    (Term("invalid"),),
    1,
    Direction.DOWN,
)


def _over(terms: Sum, span: Span) -> Sum:
    return tuple(term.over(span) for term in terms)


def _score(span: Span) -> Formula:
    above = Total(_over(NPS.numerator, span))
    return Product((Fixed(Fraction(100)), Ratio(above, Total(_over(_VALID, span)))))


NPS_CHANGE: Final = Kpi(
    name="nps_change",
    label="Change of the net promoter score",
    definition="Net promoter score less that of the period before.",
    unit=Unit.POINTS,
    direction=Direction.UP,
    family="answers",
    composed=Difference(_score(Span.PERIOD), _score(Span.PREVIOUS)),
    used=(*_VALID, *_over(_VALID, Span.PREVIOUS)),
    left_out={"invalid": (Term("invalid"), Term("invalid", span=Span.PREVIOUS))},
    has_all=False,
    groupings=_BY_SURVEY,
    by_account=False,
    settings=("answers",),
    base="nps",
    counting_day=ANSWER_DAY,
    caveats=("No value where either period has none.", _LATEST_CAVEAT),
    example=WorkedExample(
        text="A promoter and a detractor in January, a promoter in February: 100 - 0 = 100.",
        records=(answer(1, "9"), answer(2, "6"), answer(3, "10", day=date(2024, 2, 5))),
        period="2024-02",
        value=Decimal(100),
        at=datetime(2024, 3, 1, 12, tzinfo=UTC),
    ),
)

PACK: Final = (
    TICKETS_CREATED,
    TICKETS_CLOSED,
    TICKETS_BACKLOG,
    COMPLETION_RATE,
    RESOLUTION_HOURS,
    RESOLUTION_HOURS_MEDIAN,
    RESOLUTION_HOURS_P90,
    FIRST_RESPONSE_HOURS,
    REOPEN_RATE,
    TICKET_RECURRENCE_RATE,
    NPS,
    NPS_PROMOTERS,
    NPS_PASSIVES,
    NPS_DETRACTORS,
    NPS_RESPONSES,
    NPS_INVALID,
    NPS_CHANGE,
)
"""All service KPIs."""
