"""Server mode for fault tests: worker, beat, PostgreSQL, Redis and both CRMs, all of one's own."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from pathlib import Path

import psycopg

from tests.acceptance.wire import Wire, wire_to
from tests.acceptance.yaml_texts import two_crms
from tests.chaos.inside import Inside
from tests.chaos.service import Service
from tests.chaos.storm import with_fields
from tests.fixtures.sandboxes import Sandbox, start_sandbox
from tests.fixtures.servers import PostgresServer, RedisServer, start_postgres, start_redis

SHORT = "{retry_wait: 1s, retry_attempts: 3, connect_timeout: 2s, read_timeout: 5s, lease: 3s}"
DEFAULTS = "{}"
"""What an installation has that tunes nothing."""


@dataclass
class Site:
    """An installation at work, and what is seen of it from outside."""

    cli: Inside
    sandbox: Sandbox
    postgres: PostgresServer
    redis: RedisServer
    wire: Wire
    worker: Service
    beat: Service
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    # ------------------------------------------------------------ seen from the CRM

    def sell(self) -> Callable[[], bool]:
        """Win a deal for a new account; whether its worth has come back into the account."""
        number = next(self._numbers)
        account = self.sandbox.salesforce.create("Account", {"Name": f"Account {number:04d}"})
        self.win(account, 1000 + number)
        return lambda: self.revenue(account) == 1000 + number

    def win(self, account: str, amount: int) -> None:
        """Win a deal for an account."""
        deal = {"Name": f"Deal of {amount}", "StageName": "Closed Won", "CloseDate": "2026-06-01"}
        self.sandbox.salesforce.create(
            "Opportunity", {**deal, "AccountId": account, "Amount": amount}
        )

    def revenue(self, account: str) -> Decimal | None:
        """What stands in the account's field."""
        held = self.sandbox.salesforce.record("Account", account)["fields"]
        assert isinstance(held, dict)
        value = held.get("KPI_Revenue__c")
        return None if value is None else Decimal(str(value))

    def calls(self, path: str) -> list[dict[str, object]]:
        """Calls of Salesforce whose path has a part in it, so far."""
        return [one for one in self.sandbox.salesforce.requests() if path in str(one["path"])]

    def redundant_writes(self) -> list[dict[str, object]]:
        return [
            entry
            for crm in (self.sandbox.salesforce, self.sandbox.hubspot)
            for entry in crm.journal()
            if entry["redundant"]
        ]

    # ------------------------------------------------------------ waiting

    def wait(self, is_done: Callable[[], bool], seconds: float) -> float:
        """Seconds until it was done; dead processes are started again, as a supervisor does."""
        begun = time.monotonic()
        while not is_done():
            if time.monotonic() - begun > seconds:
                logs = "\n".join(
                    service.log.read_text(errors="replace")[-3000:]
                    for service in (self.worker, self.beat)
                )
                raise AssertionError(
                    f"not done within {seconds:.0f} s; the processes said:\n{logs}"
                )
            self.worker.tend()
            self.beat.tend()
            time.sleep(0.2)
        return time.monotonic() - begun

    def recovers(self, seconds: float) -> float:
        """Seconds until a change made now has come through everything, into the CRM."""
        return self.wait(self.sell(), seconds)

    def is_well(self) -> None:
        """Nothing was written twice, and every value becomes what a recomputation gives.

        At once it need not: the last changes may be read and not computed yet.
        """
        assert self.redundant_writes() == []
        self.wait(lambda: self.cli("verify", "--json", expect_exit=None).exit_code == 0, 60)

    # ------------------------------------------------------------ servers

    @contextmanager
    def second_worker(self) -> Iterator[Service]:
        """As on another host: a group of its own, and the same queues."""
        service = Service(self.cli, ("worker", "--concurrency", "2"), "worker2")
        service.start()
        try:
            yield service
        finally:
            service.stop()

    def leases(self) -> dict[str, int]:
        """How often each lease has been taken."""
        with self.asking() as conn:
            return dict(conn.execute("SELECT name, token FROM leases").fetchall())

    @contextmanager
    def asking(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.postgres.url, autocommit=True) as conn:
            yield conn

    def lose(self, server: PostgresServer | RedisServer, *, seconds: float = 0.0) -> None:
        """The server ends without a goodbye, and comes back after a while."""
        is_redis = isinstance(server, RedisServer)
        server.stop(signal.SIGKILL if is_redis else signal.SIGQUIT)
        time.sleep(seconds)
        server.start()


@contextmanager
def at_work(folder: Path, *, advanced: str = SHORT, size: int = 40) -> Iterator[Site]:
    """An installation whose first load and first push are done.

    Args:
        folder: Where it lives.
        advanced: The section of that name.
        size: Deals of the company.
    """
    with ExitStack() as stack:
        postgres = stack.enter_context(start_postgres())
        redis = stack.enter_context(start_redis())
        sandbox = stack.enter_context(
            start_sandbox(*("--seed", "11", "--size", str(size), "--today", "2026-06-30"))
        )
        with_fields(sandbox)
        cli = Inside(folder)
        wire = stack.enter_context(wire_to(redis.port))
        broker = redis.url.replace(str(redis.port), str(wire.port))
        text = two_crms(sandbox, database=postgres.url, broker=broker)
        head, _, _ = text.partition("advanced:")
        cli.configure(f"{head}advanced: {advanced}\n")
        cli("db", "upgrade")
        worker = Service(cli, ("worker", "--concurrency", "2"), "worker")
        beat = Service(cli, ("beat",), "beat")
        for service in (worker, beat):
            service.start()
            stack.callback(service.stop)
        site = Site(cli, sandbox, postgres, redis, wire, worker, beat)
        # A machine under load takes its time for the first load.
        site.recovers(300)
        yield site
