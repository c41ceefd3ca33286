"""The stored records as they count, read one by one."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from operator import itemgetter
from sys import intern
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from metrics.catalog import Catalog
from metrics.verify.book import EXACT, Dimensions, Number
from metrics.verify.joining import joined
from store import decisions, records
from store.canonical import (
    Account,
    Campaign,
    CanonicalRecord,
    Contact,
    Deal,
    DealContact,
    Owner,
    Rate,
    Scalar,
    Stage,
    StageChange,
)
from store.decisions import DatedDecision
from store.kpis import plain

_R = TypeVar("_R", bound=CanonicalRecord)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def exists(record: CanonicalRecord) -> bool:
    """Deleted records do not exist, merged ones count as their winner."""
    return not record.deleted and record.merged_into is None


def named(record: CanonicalRecord) -> str:
    """A record among those of all streams; what a book is told of it carries this name."""
    return f"{record.ref.stream} {record.ref.key}"


def cut(text: str | None) -> str | None:
    """A free text as far as it tells groups apart."""
    return None if text is None else text[:120]


class Reader:
    """Reads records and who stands for whom."""

    def __init__(self, conn: Connection, catalog: Catalog, now: datetime) -> None:
        self._conn = conn
        self._company = catalog.company
        self.settings = catalog.settings
        self._mapped_fields = catalog.mapped_by_stream
        self.now = now
        self.today = now.astimezone(catalog.company.timezone).date()

    def all(self, record_type: type[_R]) -> Iterator[_R]:
        """Every stored record of a type, deleted ones too, sorted by key."""
        for record in records.iterate(self._conn, record_type.STREAM, self._company):
            if isinstance(record, record_type):
                yield record

    def live(self, record_type: type[_R]) -> Iterator[_R]:
        """Those that exist."""
        return (record for record in self.all(record_type) if exists(record))

    def local_day(self, instant: datetime | None) -> date | None:
        """The company's day of an instant."""
        return None if instant is None else instant.astimezone(self._company.timezone).date()

    # ---- deals

    @cached_property
    def stages(self) -> Mapping[str, Stage]:
        """Every stage by its key."""
        return {stage.ref.key: stage for stage in self.all(Stage)}

    @cached_property
    def campaigns(self) -> Mapping[str, Campaign]:
        """Every campaign by its key."""
        return {campaign.ref.key: campaign for campaign in self.all(Campaign)}

    @cached_property
    def _history(self) -> Mapping[str, list[tuple[datetime, str]]]:
        history: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
        for change in self.live(StageChange):
            history[change.deal].append((change.at, intern(change.stage)))
        for changes in history.values():
            # They came sorted by key: of one instant they keep that order.
            changes.sort(key=itemgetter(0))
        return history

    @cached_property
    def roles(self) -> Mapping[str, set[str]]:
        """Deal -> the people with a part in it."""
        found: dict[str, set[str]] = defaultdict(set)
        for part in self.live(DealContact):
            found[part.deal].add(self.person(part.contact) or part.contact)
        return found

    def deals(self) -> Iterator[tuple[Deal, Dimensions]]:
        """Live deals with what they are grouped by; of several copies of one the preferred."""
        for deal in self.live(Deal):
            if self.deal(deal.ref.key) == deal.ref.key:
                whole = self.whole(deal)
                yield whole, self._of_deal(whole)

    def won(self) -> Iterator[tuple[Deal, Dimensions, date | None]]:
        """Purchases with the day they count on."""
        for deal, dimensions in self.deals():
            if deal.is_closed and deal.is_won:
                yield deal, dimensions, self.closed_day(deal)

    def closed_day(self, deal: Deal) -> date | None:
        """The day a closed deal counts on."""
        known = deal.close_date or self.local_day(deal.closed_at)
        return self.local_day(self.last_closing(deal)) if known is None else known

    def last_closing(self, deal: Deal) -> datetime | None:
        """When a deal entered a closed stage last, by its stage changes."""
        closings = [at for at, stage in self.entries(deal) if self.is_closed(stage, deal)]
        return closings[-1] if closings else None

    def entries(self, deal: Deal) -> list[tuple[datetime, str]]:
        """When the deal entered a stage other than the one it stood in, and which."""
        entries: list[tuple[datetime, str]] = []
        for at, stage in self._history.get(deal.ref.key, ()):
            if not entries or entries[-1][1] != stage:
                entries.append((at, stage))
        return entries

    def is_closed(self, stage: str, deal: Deal) -> bool | None:
        """Whether a stage is a closed one; None: nobody knows."""
        known = self.stages.get(stage)
        if known is None:
            return deal.is_closed if stage == deal.stage else None
        return known.is_closed

    def _of_deal(self, deal: Deal) -> Dimensions:
        owner = self.owner(deal.owner)
        campaign = self.campaigns.get(deal.campaign or "")
        return {
            "owner": owner,
            "team": self.team(owner),
            "account": self.account(deal.account),
            "pipeline": deal.pipeline,
            "stage": deal.stage,
            "product": cut(deal.product),
            "source": cut(deal.source),
            "type": cut(deal.type),
            "kind": cut(deal.kind),
            "region": cut(deal.region),
            "segment": cut(deal.segment),
            "campaign": deal.campaign,
            "channel": None if campaign is None else cut(campaign.channel),
            "lost_reason": cut(deal.lost_reason),
            "size_band": _band(deal.amount),
            "decision_makers": str(len(self.roles.get(deal.ref.key, ()))),
            "deal": deal.ref.key,
            "record": named(deal),
            **self.mapped(deal),
        }

    def mapped(self, record: CanonicalRecord) -> Dimensions:
        """The mapped fields of a record by which built-in KPIs are grouped."""
        return {
            name: _group_of(
                getattr(record, name) if hasattr(record, name) else record.extra.get(name)
            )
            for name in self._mapped_fields.get(record.STREAM, ())
        }

    # ---- money

    @cached_property
    def _rates(self) -> Mapping[str, list[tuple[date, Decimal]]]:
        found: dict[str, dict[date, Decimal]] = defaultdict(dict)
        for dated in self.settings.dated_rates:
            found[dated.currency][dated.since] = dated.rate
        if self.settings.rates_from is not None:
            for rate in self.live(Rate):
                if rate.ref.connection == self.settings.rates_from and rate.rate > 0:
                    found[rate.currency][rate.date] = rate.rate
        return {currency: sorted(rates.items()) for currency, rates in found.items()}

    def rate(self, currency: str | None, day: date | None) -> Decimal | None:
        """Company units for one unit of a currency on a day; of an unknown day that of today."""
        if not currency or currency == self._company.currency:
            return Decimal(1)
        rates = self._rates.get(currency)
        if not rates:
            return self.settings.rates.get(currency)
        place = bisect_right([since for since, _ in rates], day or self.today)
        return rates[max(0, place - 1)][1]

    def money(
        self, amount: Decimal | None, currency: str | None, day: date | None
    ) -> dict[str, Number]:
        """An amount as figures: money and priced, or why not."""
        if amount is None:
            return {"without_amount": 1}
        rate = self.rate(currency, day)
        if rate is None:
            return {"without_rate": 1}
        return {"money": EXACT.multiply(amount, rate), "priced": 1}

    # ---- who stands for whom

    @cached_property
    def accounts(self) -> Mapping[str, Account]:
        """Every account by its key."""
        return {account.ref.key: account for account in self.all(Account)}

    @cached_property
    def _owners(self) -> Mapping[str, Owner]:
        return {owner.ref.key: owner for owner in self.all(Owner)}

    def customer(self, key: str) -> Account | None:
        """What is known of a customer, by all records that stand behind it."""
        known = self.accounts.get(key)
        return None if known is None else self.whole(known)

    def account(self, key: str | None) -> str | None:
        """The account that a key stands for."""
        if key is None:
            return None
        last = _last_winner(key, self.accounts)
        account = self.accounts.get(last)
        is_gone = account is not None and account.deleted and account.merged_into is None
        return None if is_gone else self._joined_accounts.get(last, last)

    def deal(self, key: str | None) -> str | None:
        """The deal that counts in the place of one: the preferred of its copies."""
        return None if key is None else self._joined_deals.get(key, key)

    def whole(self, record: _R) -> _R:
        """A record with what its copies say where it says nothing itself, or is asked later."""
        copies = self._copies.get((record.STREAM, record.ref.key))
        if not copies or not exists(record):
            return record
        return self._mixed(record, copies)

    def _mixed(self, record: _R, copies: Sequence[CanonicalRecord]) -> _R:
        rules = self.settings.identity.of(record.STREAM)
        first = dict(rules.preferred)
        everybody: list[CanonicalRecord] = [record, *copies]

        def asked(name: str) -> list[CanonicalRecord]:
            favourite = [one for one in everybody if one.ref.connection == first.get(name)]
            return [*favourite, *(one for one in everybody if one not in favourite)]

        values: dict[str, Any] = {}
        for name in _TAKEN_FROM_COPIES[record.STREAM]:
            for one in asked(name):
                if getattr(one, name) is not None:
                    values[name] = getattr(one, name)
                    if name in {"amount", "annual_revenue"}:
                        values["currency"] = getattr(one, "currency", None)
                    break
        currency = values.get("currency", getattr(record, "currency", None)) or rules.currency
        extra = dict(record.extra)
        for name in rules.mapped:
            sources = asked(name)
            if name in rules.money:
                sources = [
                    one
                    for one in sources
                    if (getattr(one, "currency", None) or rules.currency) == currency
                ]
                extra.pop(name, None)
            said = [one.extra[name] for one in sources if one.extra.get(name) is not None]
            if said:
                extra[name] = said[0]
        return replace(record, extra=extra, **values)

    @cached_property
    def _copies(self) -> Mapping[tuple[str, str], list[CanonicalRecord]]:
        found: dict[tuple[str, str], list[CanonicalRecord]] = defaultdict(list)
        for kind, joined_to in (
            (Account, self._joined_accounts),
            (Contact, self._joined_contacts),
            (Deal, self._joined_deals),
        ):
            for one in self.live(kind) if joined_to else ():
                counted = joined_to.get(one.ref.key)
                if counted is not None:
                    found[kind.STREAM, counted].append(one)
        return found

    def person(self, key: str | None) -> str | None:
        """The contact that a key stands for."""
        return None if key is None else self._joined_contacts.get(key, key)

    @cached_property
    def _joined_accounts(self) -> Mapping[str, str]:
        return self._joined(Account)

    @cached_property
    def _joined_contacts(self) -> Mapping[str, str]:
        return self._joined(Contact)

    @cached_property
    def _joined_deals(self) -> Mapping[str, str]:
        return self._joined(Deal)

    def decided(self, stream: str) -> Sequence[DatedDecision]:
        """What people said of a stream's records."""
        return decisions.every(self._conn, stream)

    def _joined(self, record_type: type[CanonicalRecord]) -> Mapping[str, str]:
        rules = self.settings.identity.of(record_type.STREAM)
        if not rules and record_type is not Contact:
            return {}
        said = self.decided(record_type.STREAM) if rules else ()
        return joined(self.all(record_type), rules, said)

    def owner(self, key: str | None) -> str | None:
        """The person that a key stands for."""
        if key is None:
            return None
        last = _last_winner(key, self._owners)
        return self._same_owner.get(last, last)

    def team(self, owner: str | None) -> str | None:
        """The team of a person."""
        known = self._owners.get(owner or "")
        return None if known is None else cut(known.team)

    @cached_property
    def _same_owner(self) -> Mapping[str, str]:
        if not self.settings.match_owners_by_email:
            return {}
        by_email: dict[str, set[str]] = defaultdict(set)
        for key in self._owners:
            owner = self._owners.get(_last_winner(key, self._owners))
            if owner is not None and owner.email and owner.email.strip():
                by_email[owner.email.strip().lower()].add(owner.ref.key)
        return {
            key: min(keys)
            for keys in by_email.values()
            if len({key.split(":")[0] for key in keys}) > 1
            for key in keys
        }

    # ---- time

    def seconds(self, start: datetime, end: datetime, *, is_business: bool) -> int | None:
        """Whole seconds between two instants, of the clock or of work; None: unknown."""
        if not is_business:
            return (end - start) // timedelta(seconds=1)
        hours = self.settings.working_hours
        if hours is None:
            return None
        zone = self._company.timezone
        worked = timedelta()
        day = start.astimezone(zone).date()
        while day <= end.astimezone(zone).date():
            if day.weekday() in hours.weekdays and day not in hours.holidays:
                opens = datetime.combine(day, hours.opens, zone).astimezone(UTC)
                closes = datetime.combine(day, hours.closes, zone).astimezone(UTC)
                worked += max(timedelta(), min(closes, end) - max(opens, start))
            day += timedelta(days=1)
        return worked // timedelta(seconds=1)


def _group_of(value: Scalar) -> str | None:
    """What tells groups apart: a text, a number, yes or no, a day."""
    match value:
        case None | datetime():
            return None
        case bool():
            return "true" if value else "false"
        case int() | Decimal():
            return plain(Decimal(value))
        case date():
            return value.isoformat()
    return cut(value)


_TAKEN_FROM_COPIES: Final[Mapping[str, tuple[str, ...]]] = {
    "accounts": (
        *("name", "domain", "owner", "parent", "type", "industry", "segment", "region"),
        *("country", "employees", "annual_revenue", "contract_end"),
    ),
    "contacts": ("name", "email", "owner", "source", "lifecycle_stage", "nps_score"),
    "deals": (
        *("amount", "product", "source", "type", "kind", "region", "segment", "lost_reason"),
    ),
}


def _band(amount: Decimal | None) -> str | None:
    if amount is None:
        return None
    for bound, name in ((1_000, "under 1k"), (10_000, "1k-10k"), (100_000, "10k-100k")):
        if amount < bound:
            return name
    return "100k and more"


def _last_winner(key: str, known: Mapping[str, CanonicalRecord]) -> str:
    seen = [key]
    while (record := known.get(seen[-1])) is not None and record.merged_into is not None:
        if record.merged_into in seen:
            return min(seen[seen.index(record.merged_into) :])
        seen.append(record.merged_into)
    return seen[-1]
