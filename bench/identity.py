"""How long it takes to see which records of two CRMs are one: all of them, and page by page.

    python -m bench.identity [--accounts 1000000] [--store sqlite|postgresql] [--pages 15]

Half of the accounts stand in each of two CRMs. Three quarters of those of the second name the
record of the first by its id, the others share a domain with it. Everything is linked at once as
after a first load; then pages of 1,000 changed records of several kinds are committed.

The time of a page is that of its transaction, from the records as the CRM's connector gives them
to the durable commit: staged, compared, linked, stored, all cells moved. What is published after
it is not counted. The linking is a part of that very transaction, timed where it happens; what it
adds is that part beside all the rest. As a second measure each page is committed into a copy of
the store without any rules, by turns: the difference is the linking and, beside it, that the
records of one customer are looked at in both CRMs when one of them changes.

By the clock, and on SQLite in seconds of the processor. PostgreSQL is started for the purpose and
works in processes of its own, whose time only the clock shows.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from pathlib import Path
from typing import ParamSpec, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, func, select

from bench.stores import copy_of, stores
from metrics import catalog as kpi_catalog
from metrics import identities
from metrics.catalog import Catalog
from metrics.cells import commit_page
from metrics.definition import KpiSettings
from metrics.rebuild import rebuild
from store import fallbacks, identity, records
from store.canonical import Account, CanonicalRecord, Company, Deal, RecordRef
from store.conversion import RowMaker, columns_of
from store.engine import open_store, writing
from store.identity_evidence import with_checksum
from store.identity_rules import IdentityRules, MatchRule, StreamRules
from store.loading import load
from store.schema import ensure_current
from store.tables import IDENTITY

COMPANY = Company(ZoneInfo("Europe/Berlin"), "EUR")
RULES = IdentityRules(
    {
        "accounts": StreamRules(
            (
                MatchRule(
                    "same",
                    "same hubspot.salesforceaccountid = salesforce.Id",
                    (("hubspot", "salesforceaccountid"), ("salesforce", "")),
                    has_salesforce_ids=True,
                ),
                MatchRule("domain", "domain website", (("*", "domain"),)),
            ),
            ("salesforce", "hubspot"),
        )
    }
)
SETTINGS = KpiSettings(company=COMPANY, use=("sales", "customer"), periods=("month", "year"))
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
PAGE = 1_000
AT_ONCE = 10_000

_P = ParamSpec("_P")
_R = TypeVar("_R")


def salesforce_id(number: int) -> str:
    """An id of 18 characters."""
    return with_checksum(f"001Bench{number:07d}")


def account(crm: str, number: int, *, version: int = 0) -> Account:
    """The account of a number in one of the CRMs; another version has another website."""
    site = f"company-{number}{'' if not version else f'-v{version}'}"
    is_first = crm == "salesforce"
    names = number % 4 and not is_first
    return Account(
        ref=RecordRef(crm, "accounts", salesforce_id(number) if is_first else str(10**9 + number)),
        created_at=EPOCH + timedelta(minutes=number % 500_000),
        modified_at=EPOCH + timedelta(days=400 + version),
        name=f"Company {number} {'Inc.' if is_first else 'GmbH'}",
        domain=f"https://www.{site}.com/" if is_first else f"{site}.com",
        region=f"R{number % 7}",
        extra={"salesforceaccountid": salesforce_id(number)} if names else {},
    )


def deal(number: int, accounts: int) -> Deal:
    """A won deal of some account of either CRM."""
    of = account("salesforce" if number % 2 else "hubspot", number % accounts)
    return Deal(
        ref=RecordRef(of.ref.connection, "deals", f"D{number}"),
        created_at=EPOCH,
        account=of.ref.key,
        owner=f"{of.ref.connection}:{number % 50}",
        is_closed=True,
        is_won=True,
        close_date=date(2024, 1, 1) + timedelta(days=number % 700),
        amount=Decimal(100 + number % 1_000),
    )


def fill(engine: Engine, stream: str, some: Iterator[CanonicalRecord]) -> int:
    """Put records straight into their table."""
    count = 0
    with writing(engine) as conn:
        portion: list[CanonicalRecord] = []
        for one in some:
            portion.append(one)
            if len(portion) == AT_ONCE:
                load(conn, stream, columns_of(stream), RowMaker(stream, COMPANY).rows(portion))
                count, portion = count + len(portion), []
        load(conn, stream, columns_of(stream), RowMaker(stream, COMPANY).rows(portion))
    return count + len(portion)


def memory_mb() -> float:
    """The most this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _some_accounts(
    number: int, customers: int, *, count: int, other_websites: int
) -> list[Account]:
    """Accounts with another region; each so many-th with another website, too; 0: none."""
    version = number + 1
    found = [
        account(
            "salesforce" if row % 2 else "hubspot",
            (number * PAGE + row * 37) % customers,
            version=version if other_websites and row % other_websites == 0 else 0,
        )
        for row in range(count)
    ]
    edited = [replace(one, region=f"R{version}-{number}") for one in found]
    return list({one.ref: one for one in edited}.values())


def increment(number: int, customers: int) -> Sequence[CanonicalRecord]:
    """A thousand rows as a busy quarter of an hour brings them: accounts, and deals of theirs."""
    accounts = _some_accounts(number, customers, count=PAGE // 5, other_websites=10)
    deals = [
        replace(
            deal((number * PAGE + row * 13) % customers, customers),
            amount=Decimal((number + 1) * 7 + row),
        )
        for row in range(PAGE - len(accounts))
    ]
    return [*accounts, *{one.ref: one for one in deals}.values()]


def edited_accounts(number: int, customers: int) -> Sequence[CanonicalRecord]:
    """Accounts alone, none of which is to be linked anew."""
    return _some_accounts(number + 200, customers, count=PAGE, other_websites=0)


def moved_accounts(number: int, customers: int) -> Sequence[CanonicalRecord]:
    """Accounts alone; one of ten has another website."""
    return _some_accounts(number + 400, customers, count=PAGE, other_websites=10)


def new_accounts(number: int, customers: int) -> Sequence[CanonicalRecord]:
    """Accounts that nobody knew, half of them in each CRM: 500 new customers."""
    first = customers + number * PAGE // 2
    return [
        account(crm, first + row) for row in range(PAGE // 2) for crm in ("salesforce", "hubspot")
    ]


KINDS: Mapping[str, Callable[[int, int], Sequence[CanonicalRecord]]] = {
    "200 accounts, 800 deals; 20 other websites": increment,
    "accounts alone, other regions": edited_accounts,
    "accounts alone, 100 other websites": moved_accounts,
    "accounts alone, all of them new": new_accounts,
}
"""Pages of 1,000 changed records; the first kind is what the target is about."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """By the clock, and of this processor."""

    clock: float = 0.0
    processor: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.clock + other.clock, self.processor + other.processor)

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.clock - other.clock, self.processor - other.processor)


class Watch:
    """Adds up what blocks take."""

    def __init__(self) -> None:
        self.took = Seconds()

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the time of a block."""
        began = time.perf_counter(), time.process_time()
        yield
        self.took += Seconds(time.perf_counter() - began[0], time.process_time() - began[1])

    def watching(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """The function, each call of which is timed."""

        def timed(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with self.timed():
                return function(*args, **kwargs)

        return timed


def link_everything(engine: Engine) -> None:
    """All accounts at once, as after a first load."""
    before, linking, copying = memory_mb(), Watch(), Watch()
    with linking.timed(), writing(engine) as conn:
        identity.rebuild(conn, RULES)
    with copying.timed(), writing(engine) as conn:
        fallbacks.rebuild(conn, RULES)
    with engine.connect() as conn:
        linked = conn.execute(select(func.count()).select_from(IDENTITY)).scalar_one()
        stored = records.count(conn, "accounts")
    tell(
        f"{stored:,} accounts in two CRMs: {linked:,} linked in {linking.took.clock:.1f} s "
        f"({linking.took.processor:.1f} s of the processor), what counts of their copies in "
        f"{copying.took.clock:.1f} s ({copying.took.processor:.1f} s), "
        f"{memory_mb():.0f} MB at most ({before:.0f} MB before)"
    )


@dataclass(frozen=True, slots=True)
class Taken:
    """What one page took."""

    page: Seconds
    """All of it, durably."""
    finding: Seconds
    """Of it: who stands for whom now, and whose copies count otherwise."""
    storing: Seconds
    """Of it: storing that, and the values of copies."""

    @property
    def linking(self) -> Seconds:
        """Of the page."""
        return self.finding + self.storing


class Linked:
    """A store whose accounts are matched; its pages are timed by their parts."""

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self._engine = engine
        self._catalog = catalog
        self._finding, self._storing = Watch(), Watch()

    def commit(self, page: Sequence[CanonicalRecord]) -> Taken:
        """One page in its transaction."""
        before = self._finding.took, self._storing.took
        took = committed(self._engine, self._catalog, page)
        return Taken(took, self._finding.took - before[0], self._storing.took - before[1])

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Time the parts of pages where they happen: after what a page has read before them."""
        parts = {"resolve_page": self._finding, "save": self._storing}
        plain = {name: getattr(identities, name) for name in parts}
        for name, watch in parts.items():
            setattr(identities, name, watch.watching(plain[name]))
        try:
            yield
        finally:
            for name, function in plain.items():
                setattr(identities, name, function)


def committed(engine: Engine, catalog: Catalog, page: Sequence[CanonicalRecord]) -> Seconds:
    """What a page takes in its transaction."""
    watch = Watch()
    with watch.timed(), writing(engine) as conn:
        commit_page(conn, catalog, page, [])
    return watch.took


def compare_pages(matched: Engine, plain: Engine, customers: int, pages: int) -> None:
    """Pages of 1,000 rows, into a store with rules and into one without, by turns."""
    from bench.engine import vacuum  # noqa: PLC0415 - DuckDB comes with it: memory is measured by now

    catalogs = (
        kpi_catalog.build(replace(SETTINGS, matching=RULES)),
        kpi_catalog.build(SETTINGS),
    )
    for engine, catalog in zip((matched, plain), catalogs, strict=True):
        with writing(engine) as conn:
            rebuild(conn, catalog)
        if engine.dialect.name == "postgresql":
            # As autovacuum does within a minute of a first load; until then plans are poor.
            vacuum(engine)
    linked = Linked(matched, catalogs[0])
    with linked.watched():
        for kind, make in KINDS.items():
            ours: list[Taken] = []
            theirs: list[Seconds] = []
            for number in range(pages):
                page = make(number, customers)
                if number % 2:
                    ours.append(linked.commit(page))
                theirs.append(committed(plain, catalogs[1], page))
                if not number % 2:
                    ours.append(linked.commit(page))
            show(kind, ours, theirs)


def show(kind: str, ours: Sequence[Taken], theirs: Sequence[Seconds]) -> None:
    """The medians of one kind of page."""
    tell(f"{kind}, medians of {len(ours)}:")
    for words, part in (("by the clock", _CLOCK), ("of the processor", _PROCESSOR)):
        page, finding, storing, rest, plain = (
            statistics.median(some) * 1000
            for some in (
                [part(one.page) for one in ours],
                [part(one.finding) for one in ours],
                [part(one.storing) for one in ours],
                [part(one.page - one.linking) for one in ours],
                [part(one) for one in theirs],
            )
        )
        share = statistics.median(part(one.linking) / part(one.page - one.linking) for one in ours)
        tell(
            f"  {words}: {page:.1f} ms, of which finding {finding:.1f} and storing {storing:.1f}, "
            f"all else {rest:.1f}: linking adds {share:.1%}; without any rules {plain:.1f}"
        )


def tell(line: str) -> None:
    """Show a line at once: the next figure may take minutes."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


_CLOCK = attrgetter("clock")
_PROCESSOR = attrgetter("processor")


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--pages", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, stores(arguments.store, Path(folder)) as urls:
        measure(urls, arguments.accounts // 2, arguments.pages)


def measure(urls: Sequence[str], customers: int, pages: int) -> None:
    """Fill a store, link everything, copy it, and let both have the same pages."""
    engine = open_store(urls[0])
    tell(f"{engine.dialect.name}, {customers * 2:,} accounts, {customers:,} deals")
    ensure_current(engine)
    for crm in ("salesforce", "hubspot"):
        fill(engine, "accounts", (account(crm, number) for number in range(customers)))
    fill(engine, "deals", (deal(number, customers) for number in range(customers)))
    link_everything(engine)
    plain = copy_of(engine, urls[1])
    compare_pages(engine, plain, customers, pages)
    engine.dispose()
    plain.dispose()


if __name__ == "__main__":
    main()
