"""One storm over server mode: workers, beat, PostgreSQL, Redis and both CRMs, all for real.

People edit, CRMs fail, processes are killed and frozen, Redis and PostgreSQL are lost; then it is
quiet and every promise is looked at. ``python -m tests.chaos.fire --first 7 --seeds 1`` replays
the seventh: what is done is the same, the instants at which it meets the processes are not.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import psycopg
import redis

from metrics.catalog import PACKS
from tests.chaos.checker import Look, findings
from tests.chaos.inside import Inside
from tests.chaos.people import People
from tests.chaos.samples import (
    MOST_FILES,
    MOST_MEMORY_MB,
    MOST_SESSIONS,
    Samples,
    asking,
)
from tests.chaos.service import Service
from tests.chaos.storm import FAULTS, LOSING, SECRETS, WRITTEN, YAML, with_fields
from tests.fixtures.cli import Cli
from tests.fixtures.sandboxes import Crm, Sandbox, launch
from tests.fixtures.servers import (
    PostgresServer,
    RedisServer,
    new_database,
    start_postgres,
    start_redis,
)
from worker.crashpoints import POINTS

LEASE_SECONDS = 3.0
QUIET_SECONDS = 240.0
PROMISED = {"worker": 90.0, "redis": 60.0, "postgres": 30.0}
"""Seconds until work goes on after the end of each kind of trouble."""

KEPT = {"revenue", "win_rate", "won_count", "open_value", "sales_cycle_days", "is_stalled"}
"""A few KPIs of each kind: computing all of them would take most of a storm's time."""

_BLOWS = {
    "kill_child": 75,
    "kill_main": 5,
    "kill_group": 4,
    "kill_beat": 2,
    "crash_point": 6,
    "freeze_child": 2,
    "freeze_main": 1,
    "freeze_group": 3,
    "freeze_beat": 1,
    "stop": 2,
}
_LOSSES = ("redis_killed", "redis_flushed", "redis_frozen", "redis_killed_for_long")
_STOPS = ("postgres_stopped", "postgres_backends_killed")


@dataclass
class Fire:
    """One seed's worth of trouble over server mode."""

    seed: int
    kills: int
    folder: Path
    postgres: PostgresServer
    redis: RedisServer
    workers: int = 1
    size: int = 30
    losses: int = 3
    """How often Redis or PostgreSQL is lost."""
    is_loud: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    recovery: dict[str, float] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311 - chance that can be replayed
        self._services: list[Service] = []
        self._samples: Samples | None = None

    # ------------------------------------------------------------ the whole

    def blow(self) -> list[str]:
        """Everything that was broken at the end."""
        begun = time.monotonic()
        sandbox = launch(
            *("--seed", str(self.seed), "--size", str(self.size)),
            *("--today", "2026-06-30", "--split", "both"),
        )
        try:
            with new_database(self.postgres.url) as database:
                self.found = self._blow(sandbox, database)
        finally:
            sandbox.end()
        self.seconds = time.monotonic() - begun
        return self.found

    def _blow(self, sandbox: Sandbox, database: str) -> list[str]:
        with redis.Redis.from_url(self.redis.url) as client:
            client.flushall()
        cli = prepared(self.folder, sandbox, database, self.redis.url)
        cli("db", "upgrade")
        self._samples = Samples(database, timedelta(seconds=1))
        with self._running(cli):
            self._await_work("start", database, most_seconds=60)
            self._rage(sandbox, database)
            for crm in (sandbox.salesforce, sandbox.hubspot):
                crm.clear_faults()
            # The log of deletions tells whole minutes: what went with its parent is in it later.
            sandbox.salesforce.clock(advance=60)
            self._come_to_rest(cli, database)
        self._count_deaths()
        look = Look(
            cli,
            sandbox,
            WRITTEN,
            # A batch has ten records with two fields each.
            lost_answers=self.counts["lost_answers"] * 20,
            secrets=SECRETS,
            database=database,
            forgotten_counts=self.counts["redis_losses"],
        )
        self._measure(sandbox, database)
        found = [
            *findings(look),
            *self._samples.behind_checkpoint[:5],
            *self._too_large(),
            *self.found,
        ]
        if found:
            self._keep_traces(cli, sandbox)
        return found

    def _keep_traces(self, cli: Cli, sandbox: Sandbox) -> None:
        """What one needs to understand a broken promise, once servers and CRMs are gone."""
        traces: dict[str, object] = {
            name: cli("dump", *name.split(), expect_exit=None).out.splitlines()
            for name in (
                "records deals",
                "records accounts",
                "kpis",
                "deadletters",
                "runs",
                "outbox",
            )
        }
        for name, crm in (("salesforce", sandbox.salesforce), ("hubspot", sandbox.hubspot)):
            traces[name] = [crm.snapshot(), crm.journal(), crm.requests()]
        (self.folder / "traces.json").write_text(json.dumps(traces, indent=1), encoding="utf-8")

    @contextmanager
    def _running(self, cli: Cli) -> Iterator[None]:
        names = [f"worker{number}" for number in range(1, self.workers + 1)]
        self._services = [
            *(Service(cli, ("worker", "--concurrency", "2"), label=name) for name in names),
            Service(cli, ("beat",), label="beat"),
        ]
        try:
            for service in self._services:
                service.start()
            yield
        finally:
            for service in self._services:
                service.stop()

    # ------------------------------------------------------------ trouble

    def _rage(self, sandbox: Sandbox, database: str) -> None:
        people = People(sandbox, self.seed)
        rounds = 0
        losses = [self._chance.choice(_LOSSES), self._chance.choice((*_LOSSES, *_STOPS))]
        losses.append(self._chance.choice(_STOPS))
        del losses[: -self.losses]
        at = sorted(self._chance.sample(range(3, max(7, self.kills)), len(losses)))
        while self.killed < self.kills:
            rounds += 1
            people.work(self._chance.randrange(0, 6))
            if self._chance.random() < 0.3:
                self._break_a_crm(sandbox)
            if at and self.killed >= at[0]:
                at.pop(0)
                self._lose(losses.pop(), database)
            self._strike()
            # Mostly hectic, sometimes long enough for a change to travel through.
            lull = (2.0, 5.0) if self._chance.random() < 0.15 else (0.2, 1.2)
            time.sleep(self._chance.uniform(*lull))
            for service in self._services:
                service.tend()
            assert self._samples is not None
            self._samples.take(self._services)
            if rounds % 5 == 0:
                self._samples.look(sandbox, but=people.restored)
            if self.is_loud:
                print(f"  {dict(self.counts)} {self.recovery}", flush=True)  # noqa: T201

    @property
    def killed(self) -> int:
        return sum(service.kills.total() for service in self._services)

    @property
    def _pool(self) -> list[Service]:
        return [service for service in self._services if service.name == "worker"]

    def _strike(self) -> None:
        kind = self._chance.choices(tuple(_BLOWS), weights=tuple(_BLOWS.values()))[0]
        which = self._chance.randrange(1000)
        worker = self._chance.choice(self._pool)
        point = f"{self._chance.choice(POINTS)}:{self._chance.randrange(2, 12)}"
        if kind != "kill_child":
            self.counts[kind] += 1
        match kind:
            case "kill_child":
                worker.kill_child(which)
            case "kill_main":
                worker.kill_main()
            case "kill_group":
                worker.kill_group()
            case "kill_beat":
                self._services[-1].kill_main()
            case "crash_point":
                # From now on its children die at a named point, until it is killed again.
                worker.environment = {"KPISYNC_TEST": "1", "KPISYNC_CRASH_AT": point}
                worker.kill_main()
                worker.start()
                worker.environment = {}
            case "freeze_child":
                worker.freeze(which, LEASE_SECONDS + 1)
            case "freeze_main" | "freeze_group" | "freeze_beat":
                frozen = self._services[-1] if kind == "freeze_beat" else worker
                frozen.tend()
                with frozen.frozen(is_whole=kind == "freeze_group"):
                    time.sleep(LEASE_SECONDS + 1)
            case _:
                worker.stop()

    def _break_a_crm(self, sandbox: Sandbox) -> None:
        crm: Crm = self._chance.choice((sandbox.salesforce, sandbox.hubspot))
        what: dict[str, object] = dict(self._chance.choice(FAULTS))
        self.counts["faults"] += 1
        self.counts["lost_answers"] += what["kind"] in LOSING
        crm.fault(**what, after=self._chance.randrange(0, 8))  # type: ignore[arg-type]  # a kind and its words

    # ------------------------------------------------------------ losses

    def _lose(self, kind: str, database: str) -> None:
        for worker in self._pool:
            if worker.is_armed:
                # With children that die again and again there is no work to go on with.
                worker.kill_main()
                worker.tend()
        self.counts[kind] += 1
        server = "redis" if kind.startswith("redis") else "postgres"
        self.counts[f"{server}_losses"] += 1
        losses: dict[str, Callable[[], None]] = {
            "redis_killed": lambda: self._restart(self.redis, signal.SIGKILL, 0),
            "redis_killed_for_long": lambda: self._restart(self.redis, signal.SIGKILL, 4),
            "redis_flushed": self._flush,
            "redis_frozen": self._freeze_redis,
            "postgres_stopped": lambda: self._restart(
                self.postgres, signal.SIGQUIT, self._chance.choice((0, 2))
            ),
            "postgres_backends_killed": lambda: self._kill_backends(database),
        }
        losses[kind]()
        for service in self._services:
            service.tend()
        self._await_work(server, database, most_seconds=PROMISED[server])

    @staticmethod
    def _restart(server: PostgresServer | RedisServer, ending: signal.Signals, wait: float) -> None:
        server.stop(ending)
        time.sleep(wait)
        server.start()

    def _flush(self) -> None:
        with redis.Redis.from_url(self.redis.url) as client:
            client.flushall()

    def _freeze_redis(self) -> None:
        self.redis.send(signal.SIGSTOP)
        time.sleep(self._chance.uniform(2, 6))
        self.redis.send(signal.SIGCONT)

    def _kill_backends(self, database: str) -> None:
        with asking(database) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'kpisync' AND datname = current_database()"
            )

    def _await_work(self, after: str, database: str, *, most_seconds: float) -> None:
        """Until a pull that began after now has ended well; people and CRMs stand still."""
        begun = time.monotonic()
        with asking(database) as conn:
            now = _one(conn, "SELECT clock_timestamp()")
            while not _one(
                conn,
                "SELECT count(*) FROM runs WHERE kind = 'pull' AND state = 'ok' AND started > %s",
                now,
            ):
                if time.monotonic() - begun > most_seconds:
                    self.found.append(f"nothing was pulled for {most_seconds:.0f} s after {after}")
                    break
                for service in self._services:
                    service.tend()
                time.sleep(0.1)
        took = round(time.monotonic() - begun, 1)
        self.recovery[after] = max(self.recovery.get(after, 0.0), took)

    # ------------------------------------------------------------ calm

    def _come_to_rest(self, cli: Cli, database: str) -> None:
        """Workers without crash points go on alone until nothing is left to do."""
        for worker in self._pool:
            worker.kill_main()
        for service in self._services:
            service.tend()
        self._await_work("worker", database, most_seconds=PROMISED["worker"])
        with asking(database) as conn:
            self._free_the_quarantined(cli)
            since = _one(conn, "SELECT clock_timestamp()")
            begun = time.monotonic()
            while unfinished := _unfinished(conn, since):
                if time.monotonic() - begun > QUIET_SECONDS:
                    self.found.append(f"no rest within {QUIET_SECONDS:.0f} s: {unfinished}")
                    break
                time.sleep(0.5)
        self.recovery["rest"] = round(time.monotonic() - begun, 1)

    def _free_the_quarantined(self, cli: Cli) -> None:
        """What a person does who reads `status`."""
        for line in cli("status", "--json", expect_exit=None).json["streams"]:
            if line["state"] == "quarantined":
                self.counts["quarantined"] += 1
                cli("pull", f"{line['connection']}.{line['stream']}", expect_exit=None)

    def _count_deaths(self) -> None:
        for service in self._services:
            self.counts["child_deaths"] += service.deaths_of_children()
            self.found += service.slow_stops
            self.counts += service.kills

    def _measure(self, sandbox: Sandbox, database: str) -> None:
        journals = [crm.journal() for crm in (sandbox.salesforce, sandbox.hubspot)]
        self.counts["writes"] = sum(len(journal) for journal in journals)
        self.counts["redundant"] = sum(
            bool(entry["redundant"]) for journal in journals for entry in journal
        )
        with asking(database) as conn:
            self.counts["runs"] = int(str(_one(conn, "SELECT count(*) FROM runs")))
        self.counts["calls"] = sum(
            len(crm.requests()) for crm in (sandbox.salesforce, sandbox.hubspot)
        )

    def _too_large(self) -> Iterator[str]:
        assert self._samples is not None
        for what, seen, most in (
            ("MB of memory", self._samples.memory_mb, MOST_MEMORY_MB),
            ("open files", self._samples.files, MOST_FILES),
            ("database sessions", self._samples.sessions, MOST_SESSIONS * self.workers),
        ):
            if seen > most:
                yield f"I14: {seen:.0f} {what}, at most {most:.0f} are allowed"

    def summary(self) -> dict[str, object]:
        """One line of figures."""
        samples = self._samples
        return {
            "mode": "server",
            "seed": self.seed,
            **{name: count for name, count in sorted(self.counts.items()) if count},
            "kills": sum(self.counts[kind] for kind in ("child", "main", "group")),
            "lost": sum(one.startswith(("I1:", "I2:")) for one in self.found),
            "wrong_values": sum(one.startswith("I3:") for one in self.found),
            "recovery_seconds": self.recovery,
            "memory_mb": round(samples.memory_mb) if samples else 0,
            "files": samples.files if samples else 0,
            "sessions": samples.sessions if samples else 0,
            "looks": samples.looks if samples else 0,
            "seconds": round(self.seconds),
            "found": self.found,
        }


def _one(conn: psycopg.Connection, question: str, *values: object) -> object:
    row = conn.execute(question, values).fetchone()
    return row[0] if row else None


def _unfinished(conn: psycopg.Connection, since: object) -> str:
    """What is left to do, in words; empty when nothing is."""
    questions: dict[str, Callable[[], object]] = {
        "streams": lambda: _one(
            conn,
            "SELECT string_agg(connection || '.' || stream || ' ' || state, ', ')"
            " FROM checkpoints c WHERE NOT EXISTS (SELECT FROM runs r WHERE r.state = 'ok' AND"
            " (r.connection, r.stream) = (c.connection, c.stream) AND r.started > %s)",
            since,
        ),
        "dirty keys": lambda: _one(conn, "SELECT count(*) FROM dirty_keys"),
        "outbox": lambda: _one(
            conn, "SELECT count(*) FROM outbox WHERE state IN ('pending', 'sending')"
        ),
        "write-backs": lambda: _one(
            conn,
            "SELECT 2 - count(DISTINCT writeback) FROM runs WHERE kind = 'push' AND state = 'ok'"
            " AND sent = 0 AND started > GREATEST(%s, (SELECT max(valid_from) FROM kpi_values))",
            since,
        ),
    }
    for what, ask in questions.items():
        if answer := ask():
            return f"{what}: {answer}"
    return ""


def prepared(folder: Path, sandbox: Sandbox, database: str, broker: str) -> Inside:
    """A configured installation of server mode, short leases and waits."""
    cli = Inside(folder, {"SF_SECRET": SECRETS[0], "HS_TOKEN": SECRETS[1]})
    text = YAML.format(
        database=database, salesforce=sandbox.salesforce.url, hubspot=sandbox.hubspot.url
    )
    skip = ", ".join(
        kpi.name for pack in ("sales", "customer") for kpi in PACKS[pack] if kpi.name not in KEPT
    )
    text = text.replace("periods: [quarter, year]", f"periods: [year], skip: [{skip}]")
    more = f"lease: {LEASE_SECONDS:.0f}s, lookback: 1s, index_lag: 1s, pause_min: 1s,"
    more += " retry_wait_max: 2s,"
    cli.configure(f'broker: "{broker}"\n' + text.replace("advanced: {", f"advanced: {{{more} "))
    sandbox.hubspot.settings(tokens=[SECRETS[1]], daily=10_000_000)
    with_fields(sandbox)
    return cli


def main() -> int:
    """Storms one after another; the exit code says whether any promise was broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="where folders of broken storms are kept")
    parser.add_argument("--loud", action="store_true")
    options = parser.parse_args()
    broken, total = 0, Counter[str]()
    with start_postgres() as postgres, start_redis() as broker:
        for seed in range(options.first, options.first + options.seeds):
            folder = Path(tempfile.mkdtemp(prefix=f"storm-{seed}-", dir=options.keep))
            fire = Fire(
                seed,
                options.kills,
                folder,
                postgres,
                broker,
                options.workers,
                is_loud=options.loud,
            )
            try:
                found = fire.blow()
            except Exception as error:  # noqa: BLE001 - the storms after it go on
                found = fire.found = [f"the storm itself failed: {error!r}"]
            broken += bool(found)
            total += fire.counts
            print(json.dumps(fire.summary()), flush=True)  # noqa: T201
            if not found:
                with suppress(OSError):
                    for path in folder.iterdir():
                        path.unlink()
                    folder.rmdir()
    figures = {"storms": options.seeds, "broken": broken, **dict(sorted(total.items()))}
    print(json.dumps(figures), flush=True)  # noqa: T201
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
