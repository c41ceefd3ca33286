"""How long it takes to see which records of two CRMs are one: all of them, and page by page.

    python -m bench.identity [--accounts 1000000] [--store sqlite|postgresql] [--pages 15]

Half of the accounts stand in each of two CRMs. Three quarters of those of the second name the
record of the first by its id, the others share a domain with it. Everything is linked at once as
after a first load; then pages of 1,000 changed accounts and deals are committed, the time of
linking measured apart: by the clock, and on SQLite in seconds of the processor. PostgreSQL is
started for the purpose and works in processes of its own, whose time only the clock shows.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, func, select

from metrics import catalog as catalogs
from metrics import identities
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


def page(number: int, customers: int, version: int) -> Sequence[CanonicalRecord]:
    """A thousand rows as a busy quarter of an hour brings them: accounts, and deals of theirs."""
    start = number * PAGE
    changed = [
        account(
            "salesforce" if row % 2 else "hubspot",
            (start + row * 37) % customers,
            # Every tenth account has another website than before, the others another region.
            version=version if row % 10 == 0 else 0,
        )
        for row in range(PAGE // 5)
    ]
    edited = [replace(one, region=f"R{version}-{number}") for one in changed]
    unique = {one.ref: one for one in edited}
    deals = [
        replace(deal((start + row * 13) % customers, customers), amount=Decimal(version * 7 + row))
        for row in range(PAGE - len(unique))
    ]
    return [*unique.values(), *{one.ref: one for one in deals}.values()]


class Watch:
    """Seconds by the clock, and of this processor."""

    def __init__(self) -> None:
        self.clock: list[float] = []
        self.processor: list[float] = []

    @contextmanager
    def timed(self, *, is_more: bool = False) -> Iterator[None]:
        """Time a block; `is_more`: as a part of the last one."""
        began = time.perf_counter(), time.process_time()
        yield
        took = time.perf_counter() - began[0], time.process_time() - began[1]
        if is_more:
            self.clock[-1] += took[0]
            self.processor[-1] += took[1]
        else:
            self.clock.append(took[0])
            self.processor.append(took[1])


def link_everything(engine: Engine) -> None:
    """All accounts at once, as after a first load."""
    before, watch = memory_mb(), Watch()
    with watch.timed(), writing(engine) as conn:
        identity.rebuild(conn, RULES)
    with watch.timed(), writing(engine) as conn:
        fallbacks.rebuild(conn, RULES)
    with engine.connect() as conn:
        linked = conn.execute(select(func.count()).select_from(IDENTITY)).scalar_one()
        stored = records.count(conn, "accounts")
    sys.stdout.write(
        f"{stored:,} accounts in two CRMs: {linked:,} linked in {watch.clock[0]:.1f} s "
        f"({watch.processor[0]:.1f} s of the processor), what counts of their copies in "
        f"{watch.clock[1]:.1f} s ({watch.processor[1]:.1f} s), "
        f"{memory_mb():.0f} MB at most ({before:.0f} MB before)\n"
    )


def compare_pages(engine: Engine, customers: int, pages: int) -> None:
    """Pages of 1,000 rows: what the linking adds, in seconds of the processor."""
    linked = catalogs.build(replace(SETTINGS, matching=RULES))
    linking, whole = Watch(), Watch()
    with writing(engine) as conn:
        rebuild(conn, linked)
    for number in range(pages):
        rows = page(number, customers, number + 1)
        with writing(engine) as conn:
            staged = records.stage(conn, rows, [], COMPANY)
            with linking.timed():
                resolution = identities.resolve_page(conn, linked, staged.streams)
            records.apply(conn, staged)
            with linking.timed(is_more=True):
                identities.save(conn, linked, resolution)
            conn.rollback()
        with whole.timed(), writing(engine) as conn:
            commit_page(conn, linked, rows, [])
    for name, ours, everything in (
        ("by the clock", linking.clock, whole.clock),
        ("of the processor", linking.processor, whole.processor),
    ):
        resolving, all_of_it = statistics.median(ours), statistics.median(everything)
        sys.stdout.write(
            f"pages of {PAGE:,} rows: {all_of_it * 1000:.0f} ms {name}, of which linking "
            f"{resolving * 1000:.0f} ms: {resolving / (all_of_it - resolving):.1%} on top "
            f"(medians of {pages})\n"
        )


@contextmanager
def store(kind: str) -> Iterator[str]:
    """The URL of an empty store."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{Path(folder) / 'bench.db'}"
        return
    from tests.fixtures.servers import new_database, start_postgres  # noqa: PLC0415 - only here

    with start_postgres() as server, new_database(server.url) as url:
        yield url


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--pages", type=int, default=15)
    arguments = parser.parse_args()
    customers = arguments.accounts // 2
    with store(arguments.store) as url:
        sys.stdout.write(f"{arguments.store}, {arguments.accounts:,} accounts\n")
        engine = open_store(url)
        ensure_current(engine)
        for crm in ("salesforce", "hubspot"):
            fill(engine, "accounts", (account(crm, number) for number in range(customers)))
        fill(engine, "deals", (deal(number, customers) for number in range(customers)))
        link_everything(engine)
        compare_pages(engine, customers, arguments.pages)
        engine.dispose()


if __name__ == "__main__":
    main()
