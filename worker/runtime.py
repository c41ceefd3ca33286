"""The one place where things are constructed: engine, catalogue, connectors, write-backs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from types import TracebackType
from typing import Final, Self

import structlog
from sqlalchemy import Engine

from config.errors import ConfigurationError, Problem
from config.models import Config
from connectors.base import Connector, WriteTarget
from connectors.errors import MisconfiguredConnection
from metrics.catalog import Catalog
from metrics.writeback import WritebackSpec
from store.canonical import Company
from store.schema import ensure_current
from worker import observe, settings, telemetry
from worker.holding import HeldLeases
from worker.kpi_settings import built_catalog
from worker.ports import PORTS, Clock, Ports
from worker.progress import Progress, Unwatched
from worker.sharing import OpenStore, StoredLedger, StoredNotes, StoredTokens
from worker.writeback_settings import WritebackReader

_SHORTEST_PAUSE: Final = timedelta(minutes=1)
_SAID_ALOUD_SECONDS: Final = 5.0


class Runtime:
    """Everything a step works with; closes what it opened.

    Nothing is connected before it is needed: a command that only checks the configuration
    touches neither database nor CRM.
    """

    def __init__(
        self,
        config: Config,
        *,
        catalog: Catalog,
        progress: Progress,
        ports: Ports = PORTS,
    ) -> None:
        self.config = config
        self.catalog = catalog
        self.progress = progress
        self.clock: Clock = ports.clock
        self.company: Company = settings.company_of(config)
        self.lease_ttl: timedelta = config.advanced.lease
        # A wait that no call sleeps through has to be remembered, however short it is.
        self.pause_min: timedelta = min(
            config.advanced.pause_min or _SHORTEST_PAUSE, config.advanced.retry_wait_max
        )
        self.recognised: set[str] = set()
        """Connections whose org this process has compared with the pinned one."""
        self.writebacks: Mapping[str, WritebackSpec] = {}
        self._connectors: dict[str, Connector] = {}
        self._ledgers: dict[str, StoredLedger] = {}
        self._engine: Engine | None = None
        self._ports = ports
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give connections back."""
        for connector in self._connectors.values():
            connector.close()
        self._connectors.clear()
        for ledger in self._ledgers.values():
            ledger.flush()
        self._ledgers.clear()
        if self._engine is not None:
            self._engine.dispose()
        telemetry.flush()

    # ------------------------------------------------------------ the store

    @property
    def engine(self) -> Engine:
        """The store, its schema brought up to date where that is allowed.

        Raises:
            SchemaTooNew: A newer kpisync has upgraded the database.
            SchemaTooOld: The database waits for `kpisync db upgrade`.
            StoreUnavailable: The database is away.
        """
        if self._engine is None:
            engine = self._ports.open_store(self.config.database)
            try:
                ensure_current(engine)
            except BaseException:
                engine.dispose()
                raise
            self._engine = engine
        return self._engine

    def open_store(self) -> None:
        """Open the store before the CRM is met: the shared token is kept there.

        Raises:
            StoreError: As `engine`.
        """
        _ = self.engine

    @cached_property
    def leases(self) -> HeldLeases:
        """The leases this process holds."""
        return HeldLeases(self.engine, self.lease_ttl, self.clock)

    # ------------------------------------------------------------ the CRMs

    def connector(self, name: str) -> Connector:
        """The connector of a configured connection, opened once.

        Raises:
            MisconfiguredConnection: No connector of its type is installed.
        """
        if name not in self._connectors:
            ledger = StoredLedger(self._opened_store, name, self.clock)
            plain = settings.connection_settings(self.config, name, on_wait=self._waiting)
            self._connectors[name] = self._ports.connect(
                replace(
                    plain,
                    ledger=ledger,
                    tokens=StoredTokens(
                        self._store_of_tokens(plain.auth), name, plain.auth, lambda: self.leases
                    ),
                    notes=StoredNotes(self._opened_store, name),
                )
            )
            self._ledgers[name] = ledger
        return self._connectors[name]

    def flush_ledgers(self) -> None:
        """Write down every call counted so far."""
        for ledger in self._ledgers.values():
            ledger.flush()

    def _opened_store(self) -> Engine | None:
        """The store, if somebody has opened it: looking at a CRM alone creates no database."""
        return self._engine

    def _store_of_tokens(self, auth: Mapping[str, str]) -> OpenStore:
        """Where a login is kept.

        A refresh token may be replaced at every login: one that a mere look at the CRM brought
        must not end with this process, because the one before it is dead.
        """
        return (lambda: self.engine) if "refresh_token" in auth else self._opened_store

    def target(self, name: str) -> WriteTarget:
        """The write side of a connection.

        Raises:
            MisconfiguredConnection: The connector cannot be written.
        """
        connector = self.connector(name)
        if not isinstance(connector, WriteTarget):
            raise MisconfiguredConnection(name, "KPI values cannot be written to this connection.")
        return connector

    def _waiting(self, reason: str, seconds: float) -> None:
        """No wait is silent, and none costs us a lease."""
        log = structlog.get_logger("kpisync.wait")
        log.info("waiting for a CRM", reason=reason, seconds=round(seconds, 1))
        if seconds >= _SAID_ALOUD_SECONDS:
            self.progress.say(f"waiting {seconds:.0f} s: {reason}")
        if self._engine is not None:
            self.leases.renew(extra=timedelta(seconds=seconds))

    # ------------------------------------------------------------ stopping

    @property
    def is_stopping(self) -> bool:
        """Whether steps should end at the next good place."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Ask running steps to end at the next good place; safe in a signal handler."""
        self._stop.set()

    def rest(self, seconds: float) -> None:
        """Sleep, unless somebody asks to stop."""
        self.clock.wait(self._stop, seconds)


def open_runtime(
    config: Config, *, progress: Progress | None = None, ports: Ports = PORTS
) -> Runtime:
    """Construct everything a configuration describes, connecting to nothing yet.

    Raises:
        ConfigurationError: With every fault that shows once KPIs and connectors are known.
    """
    observe.hide(settings.secrets_of(config))
    catalog, problems = built_catalog(config)
    if catalog is None:
        raise ConfigurationError(problems)
    runtime = Runtime(config, catalog=catalog, progress=progress or Unwatched(), ports=ports)
    try:
        problems = _open_connectors(runtime)
        if not problems:
            runtime.writebacks, problems = _writebacks(runtime)
    except BaseException:
        runtime.close()
        raise
    if problems:
        runtime.close()
        raise ConfigurationError(problems)
    return runtime


def _open_connectors(runtime: Runtime) -> list[Problem]:
    problems: list[Problem] = []
    for name in runtime.config.connections:
        try:
            runtime.connector(name)
        except MisconfiguredConnection as error:
            problems.append(runtime.config.problem(("connections", name), error.message))
    return problems


def _writebacks(runtime: Runtime) -> tuple[dict[str, WritebackSpec], list[Problem]]:
    config = runtime.config
    specs: dict[str, WritebackSpec] = {}
    problems: list[Problem] = []
    for name, section in config.writebacks.items():
        if section.connection not in config.connections:
            # The loader refuses this; a Config made in other ways may still say it.
            known = ", ".join(config.connections)
            message = f'There is no connection "{section.connection}".'
            problems.append(
                config.problem(("writebacks", name, "to"), message, f"Configured are: {known}.")
            )
            continue
        reader = WritebackReader(
            config,
            name,
            catalog=runtime.catalog,
            capabilities=runtime.connector(section.connection).capabilities,
        )
        spec = reader.spec()
        problems.extend(reader.problems)
        if spec is not None:
            specs[name] = spec
    return specs, problems
