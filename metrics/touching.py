"""What a staged, not yet applied page touches: keys of everything that may count otherwise then.

Too much may be touched (what counts the same before and after cancels), too little never. So a
link is followed both as it is stored and as it is staged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from sqlalchemy import (
    Connection,
    FromClause,
    Insert,
    Table,
    exists,
    insert,
    literal_column,
    or_,
    select,
)
from sqlalchemy.sql.elements import ColumnElement

from metrics.contributions.tables import (
    MOVED_KEYS,
    REACHED_ACCOUNTS,
    TOUCHED_CAMPAIGNS,
    TOUCHED_CONTRACTS,
    TOUCHED_COSTS,
    TOUCHED_CREDITS,
    TOUCHED_CUSTOM,
    TOUCHED_DEALS,
    TOUCHED_EMAILS,
    TOUCHED_LEADS,
    TOUCHED_STAGES,
    TOUCHED_SURVEYS,
    TOUCHED_TICKETS,
)
from store import temporary
from store.compiled import AnySelect, run_all, text_of
from store.engine import is_postgresql
from store.identity import Resolution
from store.records import STAGE
from store.tables import DEAL_STAGE_CHANGES, IDENTITY, RECORD_TABLES

_HISTORY: Final = frozenset({"deals", "deal_stage_changes", "deal_contacts", "stages"})
_OF_DEALS: Final = _HISTORY | {"owners", "campaigns"}
_OF_TICKETS: Final = frozenset({"tickets", "ticket_status_changes", "owners"})

STREAMS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "deals": _OF_DEALS,
        "visits": _OF_DEALS,
        "purchases": _OF_DEALS,
        "credits": _OF_DEALS | {"contacts", "leads", "campaign_members"},
        "tickets": _OF_TICKETS,
        "closings": _OF_TICKETS,
        "leads": _OF_DEALS | {"leads"},
        "surveys": frozenset({"survey_responses"}),
        "costs": frozenset({"costs", "campaigns"}),
        "emails": frozenset({"email_statistics", "campaigns"}),
        "contracts": frozenset({"contracts", "accounts"}),
        "stages": frozenset({"stages"}),
        "custom": frozenset(RECORD_TABLES),
    }
)
"""Source of facts -> the streams whose records can change them, beside who stands for whom."""

_MOVED_BY_IDENTITY: Final = frozenset(STREAMS) - {"costs", "emails", "stages"}

TOUCHED_OF: Final[Mapping[str, Table]] = MappingProxyType(
    {
        "deals": TOUCHED_DEALS,
        "visits": TOUCHED_DEALS,
        "purchases": TOUCHED_DEALS,
        "credits": TOUCHED_CREDITS,
        "tickets": TOUCHED_TICKETS,
        "closings": TOUCHED_TICKETS,
        "leads": TOUCHED_LEADS,
        "surveys": TOUCHED_SURVEYS,
        "costs": TOUCHED_COSTS,
        "emails": TOUCHED_EMAILS,
        "contracts": TOUCHED_CONTRACTS,
        "stages": TOUCHED_STAGES,
        "custom": TOUCHED_CUSTOM,
    }
)


_ENTITY: Final[ColumnElement[str]] = IDENTITY.c.canonical.concat(literal_column("''"))
"""For whom a record stands. As a plain column, which is not to be null, SQLite would look it up by
the index of all entities of the stream, whatever few records are asked for."""


def movable(
    sources: Collection[str], streams: Collection[str], resolution: Resolution
) -> frozenset[str]:
    """The sources among these that a page of these streams can change."""
    return frozenset(
        source
        for source in sources
        if STREAMS[source] & frozenset(streams) or (resolution and source in _MOVED_BY_IDENTITY)
    )


@dataclass(frozen=True, slots=True)
class Page:
    """What decides how a page's touched records are found."""

    sources: frozenset[str]
    """Whose facts are wanted."""
    streams: frozenset[str]
    """With staged rows."""
    moved: frozenset[str]
    """Streams (accounts, contacts, deals, owners) of which anybody stands for somebody else now."""
    matched: frozenset[str]
    """Streams (accounts, contacts, deals) whose records may stand for those of other CRMs."""
    dimensions: frozenset[str]
    """That occur in any grouping."""
    neighbours: frozenset[str]
    """Sources whose facts depend on others of the same account or person."""
    custom: frozenset[str] = frozenset()
    """Streams whose records custom KPIs count."""


def find_touched(conn: Connection, page: Page, resolution: Resolution) -> frozenset[str]:
    """Fill the touched tables, which are empty; the sources of which anything is touched.

    Args:
        conn: on which the page is staged and not yet applied.
        page: what it holds and what is wanted.
        resolution: who stands for somebody else now.
    """
    _add_moved_keys(conn, resolution)
    statements: list[str] = []
    for step in _steps(page, is_postgresql(conn)):
        if step == _REDEFINED_STAGES:
            run_all(conn, statements)
            statements.clear()
            redefined = _redefined_stages(conn)
            if redefined:
                conn.execute(_insert(TOUCHED_DEALS, _visitors_of(redefined)))
        elif step != _ANALYZE_REACHED:
            statements.append(step)
        elif is_postgresql(conn):
            statements.append(f"ANALYZE {REACHED_ACCOUNTS.name}")
        else:
            run_all(conn, statements)
            statements.clear()
            count = "SELECT count(*) FROM reached_accounts"
            size: int = conn.exec_driver_sql(count).scalar_one()
            temporary.analyze(conn, REACHED_ACCOUNTS.name, size)
    run_all(conn, statements)
    return _filled(conn, page)


def _add_moved_keys(conn: Connection, resolution: Resolution) -> None:
    moved = [
        {"stream": stream, "ref": ref, "canonical": canonical}
        for stream, keys in sorted(resolution.moved.items())
        for ref, canonical in sorted(keys.items())
    ]
    if moved:
        conn.execute(insert(MOVED_KEYS), moved)


def _redefined_stages(conn: Connection) -> list[str]:
    """Stages that are new, or open where they were closed, or stand in another place."""
    staged, stages = STAGE["stages"], RECORD_TABLES["stages"]
    query = (
        select(staged.c.ref)
        .select_from(staged.outerjoin(stages, stages.c.ref == staged.c.ref))
        .where(
            staged.c.is_changed,
            or_(
                *(
                    staged.c[name].is_distinct_from(stages.c[name])
                    for name in ("is_closed", "position", "pipeline")
                )
            ),
        )
    )
    return list(conn.execute(query).scalars())


def _filled(conn: Connection, page: Page) -> frozenset[str]:
    tables = {TOUCHED_OF[source].name for source in page.sources}
    if "costs" in page.sources:
        tables.add(TOUCHED_CAMPAIGNS.name)
    names = sorted(tables)
    counts = ", ".join(f"(SELECT count(*) FROM {name})" for name in names)  # noqa: S608 - our own names
    sizes = dict(zip(names, conn.exec_driver_sql(f"SELECT {counts}").one(), strict=True))
    temporary.analyze_all(conn, sizes)
    if sizes.get(TOUCHED_CAMPAIGNS.name):
        sizes[TOUCHED_COSTS.name] += 1
    return frozenset(source for source in page.sources if sizes[TOUCHED_OF[source].name])


# ---------------------------------------------------------------- steps

_REDEFINED_STAGES: Final = "redefined stages"
_ANALYZE_REACHED: Final = "analyze reached"


@lru_cache(maxsize=256)
def _steps(page: Page, for_postgresql: bool) -> tuple[str, ...]:
    steps = _Steps(page, for_postgresql)
    steps.find()
    return tuple(steps.texts)


class _Steps:
    """The statements that fill the touched tables."""

    def __init__(self, page: Page, for_postgresql: bool) -> None:
        self.texts: list[str] = []
        self._sources = page.sources
        self._streams = page.streams
        self._moved_streams = page.moved
        self._matched = page.matched
        self._dimensions = page.dimensions
        self._neighbours = page.neighbours
        self._custom = page.custom
        self._for_postgresql = for_postgresql

    def find(self) -> None:
        """All of them."""
        needs_deals = {"deals", "visits", "purchases", "credits", "leads"}
        if self._sources & needs_deals or "deals" in self._custom:
            self._find_deals()
        finders: tuple[tuple[set[str], Callable[[], None]], ...] = (
            ({"credits"}, self._find_credits),
            ({"leads"}, self._find_leads),
            ({"tickets", "closings"}, self._find_tickets),
            ({"surveys"}, self._find_surveys),
            ({"costs"}, self._find_costs),
            ({"emails"}, self._find_emails),
            ({"contracts"}, self._find_contracts),
        )
        for sources, find in finders:
            if self._sources & sources:
                find()
        if "stages" in self._sources:
            self._touch(TOUCHED_STAGES, *_staged("stages", "ref"))
        for stream in sorted(self._custom):
            self._find_custom(stream)

    def _touch(self, table: Table, *selects: AnySelect) -> None:
        self.texts += [text_of(_insert(table, keys), self._for_postgresql) for keys in selects]

    # ---- sources

    def _find_deals(self) -> None:
        found: list[AnySelect] = []
        if "deals" in self._streams:
            found += _staged("deals", "ref")
        for stream in ("deal_stage_changes", "deal_contacts"):
            if stream in self._streams:
                found += _staged(stream, "deal") + _stored_of_staged(stream, "deal")
        found += self._moved("deals")
        found += self._of_changed_teams("deals")
        found += self._of_changed_channels()
        if "contacts" in self._moved_streams:
            self._reach("moved people", [], stream="contacts")
            parts = RECORD_TABLES["deal_contacts"]
            found.append(select(parts.c.deal).where(parts.c.contact.in_(_reached("moved people"))))
        self._touch(TOUCHED_DEALS, *found)
        if "deals" in self._matched:
            self._touch_copies()
        if "stages" in self._streams:
            self.texts.append(_REDEFINED_STAGES)

    def _touch_copies(self) -> None:
        """A deal that several CRMs know is touched in all of them, as it was and as it will be."""
        of_deals = IDENTITY.c.stream == _text("deals")
        touched = select(TOUCHED_DEALS.c.ref)
        if "deals" in self._moved_streams:
            moved = MOVED_KEYS.c.stream == _text("deals")
            self._touch(
                TOUCHED_DEALS,
                *(select(MOVED_KEYS.c[name]).where(moved) for name in ("ref", "canonical")),
            )
        self._touch(
            TOUCHED_DEALS,
            select(_ENTITY).where(of_deals, IDENTITY.c.ref.in_(touched)),
            select(IDENTITY.c.ref).where(of_deals, IDENTITY.c.canonical.in_(touched)),
        )

    def _find_credits(self) -> None:
        accounts = self._accounts_of_deals()
        if "contacts" in self._matched and self._streams & {"contacts", "campaign_members"}:
            accounts += self._accounts_of_matched_people()
        elif "contacts" in self._streams:
            accounts += _staged("contacts", "account") + _stored_of_staged("contacts", "account")
        if "leads" in self._streams:
            accounts += _staged("leads", "converted_account")
            accounts += _stored_of_staged("leads", "converted_account")
        if "campaign_members" in self._streams:
            for column in ("contact", "lead"):
                people = _staged("campaign_members", column)
                people += _stored_of_staged("campaign_members", column)
                accounts += _accounts_of_people(column, people)
        if "channel" in self._dimensions and "campaigns" in self._streams:
            members = RECORD_TABLES["campaign_members"]
            for column in ("contact", "lead"):
                of_campaign = select(members.c[column]).where(
                    members.c.campaign.in_(_staged("campaigns", "ref")[0])
                )
                accounts += _accounts_of_people(column, [of_campaign])
        self._reach("credits", accounts)
        deals = RECORD_TABLES["deals"]
        self._touch(
            TOUCHED_CREDITS,
            *_of_won_deals("ref"),
            # One that is won by this page is among the touched ones.
            select(deals.c.ref).where(
                deals.c.account.in_(_reached("credits")), deals.c.is_won, deals.c.is_closed
            ),
        )

    def _accounts_of_matched_people(self) -> list[AnySelect]:
        """Accounts under which anybody is known who is one with people of the page."""
        people: list[AnySelect] = []
        if "contacts" in self._streams:
            people += _staged("contacts", "ref")
        if "campaign_members" in self._streams:
            people += _staged("campaign_members", "contact")
            people += _stored_of_staged("campaign_members", "contact")
        self._reach("people", people, stream="contacts")
        return _either("contacts", "account", "ref", _reached("people"))

    def _find_leads(self) -> None:
        leads = RECORD_TABLES["leads"]
        found: list[AnySelect] = []
        if "leads" in self._streams:
            found += _staged("leads", "ref")
        found += self._moved("leads", "owners")
        found += self._of_changed_teams("leads")
        self._reach("leads", self._accounts_of_deals())
        touched = select(TOUCHED_DEALS.c.ref)
        found += [
            select(leads.c.ref).where(leads.c.converted_deal.in_(touched)),
            select(leads.c.ref).where(leads.c.converted_account.in_(_reached("leads"))),
        ]
        self._touch(TOUCHED_LEADS, *found)

    def _find_tickets(self) -> None:
        found: list[AnySelect] = []
        if "tickets" in self._streams:
            found += _staged("tickets", "ref")
        if "ticket_status_changes" in self._streams:
            found += _staged("ticket_status_changes", "ticket")
            found += _stored_of_staged("ticket_status_changes", "ticket")
        found += self._moved("tickets")
        found += self._of_changed_teams("tickets")
        self._touch(TOUCHED_TICKETS, *found)
        if "tickets" in self._neighbours:
            touched = select(TOUCHED_TICKETS.c.ref)
            self._reach("tickets", _either("tickets", "account", "ref", touched))
            tickets = RECORD_TABLES["tickets"]
            self._touch(
                TOUCHED_TICKETS,
                select(tickets.c.ref).where(tickets.c.account.in_(_reached("tickets"))),
            )

    def _find_surveys(self) -> None:
        surveys = RECORD_TABLES["survey_responses"]
        found = _staged("survey_responses", "ref") if "survey_responses" in self._streams else []
        found += self._moved("survey_responses", "accounts", "contacts")
        self._touch(TOUCHED_SURVEYS, *found)
        if "surveys" in self._neighbours:
            touched = select(TOUCHED_SURVEYS.c.ref)
            people = _either("survey_responses", "contact", "ref", touched)
            self._reach("asked", people, stream="contacts")
            self._touch(
                TOUCHED_SURVEYS,
                select(surveys.c.ref).where(surveys.c.contact.in_(_reached("asked"))),
            )

    def _find_costs(self) -> None:
        costs = RECORD_TABLES["costs"]
        campaigns: list[AnySelect] = []
        if "campaigns" in self._streams:
            campaigns += _staged("campaigns", "ref")
        if "costs" in self._streams:
            campaigns += _staged("costs", "campaign") + _stored_of_staged("costs", "campaign")
            self._touch(TOUCHED_COSTS, *_staged("costs", "ref"))
        self._touch(TOUCHED_CAMPAIGNS, *campaigns)
        if "campaigns" in self._streams:
            touched = select(TOUCHED_CAMPAIGNS.c.ref)
            self._touch(TOUCHED_COSTS, select(costs.c.ref).where(costs.c.campaign.in_(touched)))

    def _find_emails(self) -> None:
        emails = RECORD_TABLES["email_statistics"]
        if "email_statistics" in self._streams:
            self._touch(TOUCHED_EMAILS, *_staged("email_statistics", "ref"))
        if "channel" in self._dimensions and "campaigns" in self._streams:
            of_changed = emails.c.campaign.in_(_staged("campaigns", "ref")[0])
            self._touch(TOUCHED_EMAILS, select(emails.c.ref).where(of_changed))

    def _find_contracts(self) -> None:
        contracts, accounts = RECORD_TABLES["contracts"], RECORD_TABLES["accounts"]
        reached: list[AnySelect] = []
        if "contracts" in self._streams:
            reached += _staged("contracts", "account") + _stored_of_staged("contracts", "account")
            # One without an account belongs to nobody, and is looked at for itself.
            self._touch(TOUCHED_CONTRACTS, *_staged("contracts", "ref"))
        if "accounts" in self._streams:
            reached += _staged("accounts", "ref")
        if "owners" in self._moved_streams:
            owners = select(MOVED_KEYS.c.ref).where(MOVED_KEYS.c.stream == _text("owners"))
            reached.append(select(accounts.c.ref).where(accounts.c.owner.in_(owners)))
        self._reach("contracts", reached)
        self._touch(
            TOUCHED_CONTRACTS,
            select(contracts.c.ref).where(contracts.c.account.in_(_reached("contracts"))),
        )

    def _find_custom(self, stream: str) -> None:
        table, found = RECORD_TABLES[stream], list[AnySelect]()
        if stream == "deals":
            found.append(select(TOUCHED_DEALS.c.ref))
        elif stream in self._streams:
            found += _staged(stream, "ref")
        found += self._moved(stream)
        if "owner" in table.c:
            found += self._of_changed_teams(stream)
        if "campaign" in table.c:
            found += self._of_changed_channels(stream)
        moved = MOVED_KEYS.c.stream == _text(stream)
        found.append(select(MOVED_KEYS.c.ref).where(moved))
        if stream != "deals" and stream in self._matched:
            # What a copy says may count as the word of the record that stands for it.
            of_stream = IDENTITY.c.stream == _text(stream)
            touched = select(TOUCHED_CUSTOM.c.ref)
            found.append(select(MOVED_KEYS.c.canonical).where(moved))
            found.append(select(_ENTITY).where(of_stream, IDENTITY.c.ref.in_(touched)))
        self._touch(TOUCHED_CUSTOM, *found)

    # ---- what they have in common

    def _moved(self, stream: str, *links: str) -> list[AnySelect]:
        """Records whose account, owner or contact stands for somebody else now."""
        table = RECORD_TABLES[stream]
        columns = {
            link: name
            for link, name in (
                ("accounts", "account"),
                ("owners", "owner"),
                ("contacts", "contact"),
            )
            if name in table.c
        }
        return [
            select(table.c.ref).where(
                table.c[columns[link]].in_(
                    select(MOVED_KEYS.c.ref).where(MOVED_KEYS.c.stream == _text(link))
                )
            )
            for link in links or columns
            if link in self._moved_streams
        ]

    def _of_changed_teams(self, stream: str) -> list[AnySelect]:
        if "team" not in self._dimensions or "owners" not in self._streams:
            return []
        table = RECORD_TABLES[stream]
        owners = _staged("owners", "ref")[0]
        others = select(IDENTITY.c.ref).where(
            IDENTITY.c.stream == _text("owners"), IDENTITY.c.canonical.in_(owners)
        )
        return [
            select(table.c.ref).where(table.c.owner.in_(owners)),
            select(table.c.ref).where(table.c.owner.in_(others)),
        ]

    def _of_changed_channels(self, stream: str = "deals") -> list[AnySelect]:
        if "channel" not in self._dimensions or "campaigns" not in self._streams:
            return []
        table = RECORD_TABLES[stream]
        return [select(table.c.ref).where(table.c.campaign.in_(_staged("campaigns", "ref")[0]))]

    @staticmethod
    def _accounts_of_deals() -> list[AnySelect]:
        return _of_won_deals("account")

    def _reach(
        self, purpose: str, records: Sequence[AnySelect], *, stream: str = "accounts"
    ) -> None:
        """Note these records and every key that stands for one of them, before or after."""
        of_stream = IDENTITY.c.stream == _text(stream)
        steps = list(records)
        if stream in self._moved_streams:
            moved = MOVED_KEYS.c.stream == _text(stream)
            steps += [select(MOVED_KEYS.c[name]).where(moved) for name in ("ref", "canonical")]
        steps += [
            select(_ENTITY).where(of_stream, IDENTITY.c.ref.in_(_reached(purpose))),
            select(IDENTITY.c.ref).where(of_stream, IDENTITY.c.canonical.in_(_reached(purpose))),
        ]
        self.texts += [text_of(_reach_all(purpose, keys), self._for_postgresql) for keys in steps]
        self.texts.append(_ANALYZE_REACHED)


# ---------------------------------------------------------------- links


def _text(value: str) -> ColumnElement[str]:
    return literal_column(f"'{value}'")


def _staged(stream: str, column: str) -> list[AnySelect]:
    staged = STAGE[stream]
    return [select(staged.c[column]).where(staged.c.is_changed)]


def _stored_of_staged(stream: str, column: str) -> list[AnySelect]:
    """What the staged records linked to until now."""
    staged, stored = STAGE[stream], RECORD_TABLES[stream]
    return [
        select(stored.c[column])
        .join_from(staged, stored, stored.c.ref == staged.c.ref)
        .where(staged.c.is_changed)
    ]


def _either(stream: str, column: str, key: str, chosen: AnySelect) -> list[AnySelect]:
    """A column of the chosen records, as staged and as stored."""
    return [
        select(table.c[column]).where(table.c[key].in_(chosen))
        for table in (STAGE[stream], RECORD_TABLES[stream])
    ]


def _of_won_deals(column: str) -> list[AnySelect]:
    """A column of the touched deals that are won, as staged or as stored: no other is credited."""
    touched = select(TOUCHED_DEALS.c.ref)
    return [
        select(table.c[column]).where(table.c.ref.in_(touched), table.c.is_won, table.c.is_closed)
        for table in (STAGE["deals"], RECORD_TABLES["deals"])
    ]


def _accounts_of_people(column: str, people: Iterable[AnySelect]) -> list[AnySelect]:
    stream, link = (
        ("contacts", "account") if column == "contact" else ("leads", "converted_account")
    )
    return [found for some in people for found in _either(stream, link, "ref", some)]


def _reached(purpose: str) -> AnySelect:
    return select(REACHED_ACCOUNTS.c.ref).where(REACHED_ACCOUNTS.c.purpose == _text(purpose))


def reached(purpose: str) -> FromClause:
    """The reached accounts of one purpose, as a table of one column."""
    return _reached(purpose).subquery(f"reached_for_{purpose}")


def _visitors_of(stages: Sequence[str]) -> AnySelect:
    # Without an index: stages are redefined once in a blue moon.
    changes = DEAL_STAGE_CHANGES
    return select(changes.c.deal).where(changes.c.stage.in_(stages)).distinct()


# ---------------------------------------------------------------- statements


def _insert(table: Table, keys: AnySelect) -> Insert:
    refs = keys.subquery("refs")
    is_new = ~exists().where(table.c.ref == refs.c[0])
    chosen = select(refs.c[0]).where(refs.c[0].is_not(None), is_new).distinct()
    return insert(table).from_select(["ref"], chosen)


def _reach_all(purpose: str, keys: AnySelect) -> Insert:
    refs = keys.subquery("refs")
    is_new = ~exists().where(
        REACHED_ACCOUNTS.c.purpose == _text(purpose), REACHED_ACCOUNTS.c.ref == refs.c[0]
    )
    chosen = (
        select(_text(purpose).label("purpose"), refs.c[0].label("ref"))
        .where(refs.c[0].is_not(None), is_new)
        .distinct()
    )
    return insert(REACHED_ACCOUNTS).from_select(["purpose", "ref"], chosen)
