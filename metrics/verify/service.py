"""The service KPIs, said once more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Final

from metrics.verify.book import Book, View
from metrics.verify.reading import Reader, cut, named
from metrics.verify.recipes import Ask, Make, Recipe, Result, linear, median, ratio
from store.canonical import SurveyResponse, Ticket, TicketStatusChange

_MONTH: Final = timedelta(days=30)

# ---------------------------------------------------------------- reading


def _of_ticket(reader: Reader, ticket: Ticket) -> Mapping[str, str | None]:
    owner = reader.owner(ticket.owner)
    return {
        "owner": owner,
        "team": reader.team(owner),
        "category": cut(ticket.category),
        "type": cut(ticket.type),
        "priority": cut(ticket.priority),
        "pipeline": ticket.pipeline,
        "account": reader.account(ticket.account),
        "contact": reader.person(ticket.contact),
        "ticket": ticket.ref.key,
        "record": named(ticket),
        **reader.mapped(ticket),
    }


def read_tickets(reader: Reader, book: Book) -> None:
    """Tickets by creation, closing and reply."""
    earlier: dict[tuple[str, str], list[tuple[datetime, str]]] = defaultdict(list)
    tickets = [(ticket, _of_ticket(reader, ticket)) for ticket in reader.live(Ticket)]
    for ticket, dimensions in tickets:
        account, category = dimensions["account"], dimensions["category"]
        if account is not None and category is not None and ticket.created_at is not None:
            earlier[account, category].append((ticket.created_at, ticket.ref.key))
    for ticket, dimensions in tickets:
        created = reader.local_day(ticket.created_at)
        is_recurrent = any(
            ticket.created_at is not None
            and (at, key) < (ticket.created_at, ticket.ref.key)
            and ticket.created_at - at <= _MONTH
            for at, key in earlier.get(
                (dimensions["account"] or "", dimensions["category"] or ""), ()
            )
        )
        if dimensions["account"] is None or dimensions["category"] is None:
            is_recurrent = False
        book.add("tickets", created, dimensions, created=1, recurrent=int(is_recurrent))
        if ticket.is_closed:
            book.add("solved", reader.local_day(ticket.closed_at), dimensions, closed=1)
        else:
            book.add("backlog", reader.today, dimensions, open=1)
        _read_durations(reader, book, ticket, dimensions)


def _read_durations(
    reader: Reader, book: Book, ticket: Ticket, dimensions: Mapping[str, str | None]
) -> None:
    for clock in ("clock", "business"):
        if ticket.is_closed:
            subject = f"resolution {clock}"
            _read_duration(reader, book, subject, ticket, dimensions, ticket.closed_at)
        if ticket.first_response_at is not None:
            subject = f"reply {clock}"
            _read_duration(reader, book, subject, ticket, dimensions, ticket.first_response_at)


def _read_duration(  # noqa: PLR0917 - what a duration is of
    reader: Reader,
    book: Book,
    subject: str,
    ticket: Ticket,
    dimensions: Mapping[str, str | None],
    end: datetime | None,
) -> None:
    day, start = reader.local_day(end), ticket.created_at
    if start is None or end is None:
        book.add(subject, day, dimensions, undated=1)
    elif end < start:
        book.add(subject, day, dimensions, negative=1)
    else:
        seconds = reader.seconds(start, end, is_business=subject.endswith("business"))
        if seconds is None:
            book.add(subject, day, dimensions, undated=1)
        else:
            book.add(subject, day, dimensions, measured=1, seconds=seconds)
            book.value(subject, day, dimensions, seconds)


def read_closings(reader: Reader, book: Book) -> None:
    """Each time a ticket was closed, and whether it was opened again afterwards."""
    history: dict[str, list[tuple[datetime, str, bool]]] = defaultdict(list)
    for change in reader.live(TicketStatusChange):
        history[change.ticket].append((change.at, change.ref.key, change.is_closed))
    for ticket in reader.live(Ticket):
        dimensions = _of_ticket(reader, ticket)
        states = [(at, is_closed) for at, _, is_closed in sorted(history[ticket.ref.key])]
        closings = [
            place
            for place, (_, is_closed) in enumerate(states)
            if is_closed and (place == 0 or not states[place - 1][1])
        ]
        for place in closings:
            is_open_later = any(not is_closed for _, is_closed in states[place + 1 :])
            book.member(
                "closings",
                reader.local_day(states[place][0]),
                dimensions,
                ticket.ref.key,
                closed=1,
                reopened=int(is_open_later or not ticket.is_closed),
            )
        if not closings and ticket.is_closed:
            day = reader.local_day(ticket.closed_at)
            book.member("closings", day, dimensions, ticket.ref.key, closed=1, reopened=0)


def read_answers(reader: Reader, book: Book) -> None:
    """Answers by what they amount to; those that are their person's last apart."""
    last: dict[str, tuple[datetime, str]] = {}
    answers = [answer for answer in reader.live(SurveyResponse) if answer.kind in (None, "nps")]
    for answer in answers:
        person = reader.person(answer.contact)
        if person is not None and _is_valid(answer):
            rank = (answer.submitted_at, answer.ref.key)
            last[person] = max(last.get(person, rank), rank)
    for answer in answers:
        dimensions = {
            "account": reader.account(answer.account),
            "category": cut(answer.category),
            "contact": reader.person(answer.contact),
            "record": named(answer),
            **reader.mapped(answer),
        }
        figures = {_kind(answer): 1}
        day = reader.local_day(answer.submitted_at)
        book.add("answers", day, dimensions, **figures)
        rank = (answer.submitted_at, answer.ref.key)
        person = reader.person(answer.contact)
        is_last = person is None or last.get(person) == rank
        if is_last or not _is_valid(answer):
            book.add("last answers", day, dimensions, **figures)


def _is_valid(answer: SurveyResponse) -> bool:
    score = answer.score
    return score is not None and score == score.to_integral_value() and 0 <= score <= 10  # noqa: PLR2004 - the scale


def _kind(answer: SurveyResponse) -> str:
    if answer.score is None or not _is_valid(answer):
        return "invalid"
    if answer.score >= 9:  # noqa: PLR2004 - promoters answer 9 or 10
        return "promoters"
    return "passives" if answer.score >= 7 else "detractors"  # noqa: PLR2004 - 7 or 8


READERS: Final[Mapping[str, Callable[[Reader, Book], None]]] = {
    "tickets": read_tickets,
    "backlog": read_tickets,
    "solved": read_tickets,
    "resolution clock": read_tickets,
    "resolution business": read_tickets,
    "reply clock": read_tickets,
    "reply business": read_tickets,
    "closings": read_closings,
    "answers": read_answers,
    "last answers": read_answers,
}

# ---------------------------------------------------------------- recipes


def _completion(view: View, _: Ask) -> Result:
    created = view.count("tickets", "created")
    return ratio(created, view.count("solved", "closed"), created)


def _hours(what: str, percent: int | None) -> Recipe:
    def make(view: View, ask: Ask) -> Result:
        subject = f"{what} {'business' if ask.own.clock == 'business_hours' else 'clock'}"
        left_out = {
            "negative_duration": view.count(subject, "negative"),
            "no_date": view.count(subject, "undated"),
        }
        values = view.ranked(subject)
        if percent is None:
            seconds = view.count(subject, "seconds")
            return ratio(len(values), seconds, len(values), left_out, divisor=3_600)
        if not values:
            return Result(0, left_out=left_out)
        if percent == 50:  # noqa: PLR2004 - the median
            return Result(len(values), (median(values) or Fraction(0)) / 3_600, left_out=left_out)
        rank = -(-len(values) * percent // 100)
        return Result(len(values), Fraction(values[rank - 1]) / 3_600, left_out=left_out)

    return Recipe((f"{what} clock", f"{what} business"), make)


def _reopened(view: View, _: Ask) -> Result:
    members = view.members("closings").values()
    closed = sum(flags["closed"] for flags in members)
    return ratio(closed, sum(flags["reopened"] for flags in members), closed)


_VALID: Final = "promoters passives detractors"


def _subject(ask: Ask) -> str:
    return "last answers" if ask.own.answers == "latest" else "answers"


def _score(view: View, subject: str, span: str) -> tuple[int, int]:
    promoters = view.count(subject, "promoters", span)
    return promoters - view.count(subject, "detractors", span), view.count(subject, _VALID, span)


def _nps(view: View, ask: Ask) -> Result:
    subject = _subject(ask)
    above, below = _score(view, subject, "period")
    left_out = {"invalid": view.count(subject, "invalid")}
    return ratio(below, above, below, left_out, factor=100)


def _nps_change(view: View, ask: Ask) -> Result:
    subject = _subject(ask)
    (above, below), (above_then, below_then) = (
        _score(view, subject, span) for span in ("period", "previous")
    )
    invalid = view.count(subject, "invalid") + view.count(subject, "invalid", "previous")
    value = None
    if below and below_then:
        value = Fraction(100 * above, below) - Fraction(100 * above_then, below_then)
    return Result(below + below_then, value, left_out={"invalid": invalid})


def _answers(names: str) -> Recipe:
    def make(view: View, ask: Ask) -> Result:
        count = view.count(_subject(ask), names)
        return Result(count, Fraction(count), Fraction(count))

    return Recipe(("answers", "last answers"), make)


def _of_answers(make: Make, *, is_up_to_now: bool = False) -> Recipe:
    return Recipe(("answers", "last answers"), make, is_up_to_now=is_up_to_now)


RECIPES: Final[Mapping[str, Recipe]] = {
    "tickets_created": linear("tickets", "created", n="created"),
    "tickets_closed": linear("solved", "closed", n="closed"),
    "tickets_backlog": linear("backlog", "open", n="open"),
    "completion_rate": Recipe(("tickets", "solved"), _completion),
    "resolution_hours": _hours("resolution", None),
    "resolution_hours_median": _hours("resolution", 50),
    "resolution_hours_p90": _hours("resolution", 90),
    "first_response_hours": _hours("reply", None),
    "reopen_rate": Recipe(("closings",), _reopened),
    "ticket_recurrence_rate": linear("tickets", "recurrent", over="created", n="created"),
    "nps": _of_answers(_nps),
    "nps_promoters": _answers("promoters"),
    "nps_passives": _answers("passives"),
    "nps_detractors": _answers("detractors"),
    "nps_responses": _answers(_VALID),
    "nps_invalid": _answers("invalid"),
    "nps_change": _of_answers(_nps_change, is_up_to_now=True),
}
