"""A whole installation in a world: its configuration, its processes, its bell."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from config.loader import load
from config.models import Config
from connectors.base import ConnectionSettings
from metrics.catalog import Catalog, available
from metrics.writeback import WritebackSpec
from store.errors import StoreError
from tests.simulation.connector import CalmWire, MemoryConnector, Wire
from tests.simulation.crm import Crm
from tests.simulation.stores import Disk
from tests.simulation.world import Process, SimulatedClock, World
from worker.ports import Ports
from worker.progress import Unwatched
from worker.results import RunResult
from worker.runtime import Runtime, open_runtime

CONNECTION: Final = "crm"
WRITEBACK: Final = "kpis"

# The type is one that is installed; the port gives another connector for it.
_YAML: Final = """\
version: 1
company: {{currency: EUR, timezone: Europe/Berlin}}
connections:
  crm:
    type: hubspot
    auth: {{flow: token, token: "${{CRM_TOKEN}}"}}
    every: {every}
    streams: {{accounts: {{}}, deals: {{{deals}}}}}
kpis:
  use: [sales, customer]
  skip: [{skip}]
  periods: [{periods}]
writebacks:
  kpis:
    to: crm.companies
    fields: {{kpi_revenue: revenue, kpi_win_rate: win_rate}}
    every: {every}
    approve: never
    guard: {{max_records: 5000, max_changed: 100%, max_shrink: 100%, max_jump: 1000000}}
advanced: {{lease: 10s, canary: 1, retry_wait: 1s, step_rows: 20, verify_nights: 0}}
"""

KEPT: Final = frozenset({"revenue", "win_rate", "open_value", "new_customers"})
RESTART: Final = timedelta(seconds=15)
"""How long a supervisor takes to start a process again: what its predecessor held has run out."""


@dataclass(frozen=True)
class Definition:
    """What a configuration file says, read once."""

    config: Config
    catalog: Catalog
    writebacks: Mapping[str, WritebackSpec]


def defined(*, deals: str = "", periods: str = "month", every: str = "5m") -> Definition:
    """A configuration with a few KPIs."""
    skipped = ", ".join(sorted(set(available()) - KEPT))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kpisync.yaml"
        path.write_text(
            _YAML.format(deals=deals, periods=periods, every=every, skip=skipped), encoding="utf-8"
        )
        config = load(path, {"CRM_TOKEN": "token-of-the-simulation"})
    world = World()
    crm = Crm(world)
    ports = Ports(connect=lambda settings: MemoryConnector(settings, crm, world, CalmWire()))
    with open_runtime(config, ports=ports) as runtime:
        return Definition(config, runtime.catalog, runtime.writebacks)


@dataclass
class Installation:
    """Processes on one store and one CRM."""

    world: World
    disk: Disk
    crm: Crm
    definition: Definition
    wire: Wire = field(default_factory=CalmWire)
    results: list[RunResult] = field(default_factory=list)
    on_death: Callable[[Process], None] = lambda process: None  # noqa: ARG005 - nobody minds
    restart: Callable[[], timedelta] = lambda: RESTART
    """How long a supervisor takes."""
    started: int = 0

    def __post_init__(self) -> None:
        self.disk.world = self.world

    def open(self, place: str) -> Runtime:
        """What a fresh process at a place works with."""
        definition = self.definition
        ports = Ports(
            clock=SimulatedClock(self.world),
            open_store=lambda _: self.disk.engine(place),
            connect=self._connect,
        )
        runtime = Runtime(
            definition.config, catalog=definition.catalog, progress=Unwatched(), ports=ports
        )
        runtime.writebacks = definition.writebacks
        return runtime

    def _connect(self, settings: ConnectionSettings) -> MemoryConnector:
        return MemoryConnector(settings, self.crm, self.world, self.wire)

    def start(
        self,
        place: str,
        body: Callable[[Runtime], object],
        *,
        after: timedelta = timedelta(0),
        is_supervised: bool = False,
    ) -> None:
        """A process begins at a place; one under a supervisor is started again when it ends."""
        self.started += 1
        process = Process(f"{place}.{self.started}")

        def again() -> None:
            self.on_death(process)
            self.start(place, body, after=self.restart(), is_supervised=True)

        if is_supervised:
            process.on_death = again

        def lives() -> None:
            try:
                with self.open(place) as runtime:
                    body(runtime)
            except StoreError as error:
                if not error.retryable:
                    raise
                self.world.tell(f"the database is away: {error}")
                if is_supervised:
                    again()

        self.world.start(process.name, lives, process, after=after)

    def work(self, body: Callable[[Runtime], object], place: str = "settle") -> None:
        """One process that works by itself to its end, with nothing going wrong."""
        self.start(place, body)
        self.world.run()


def told(result: RunResult) -> str:
    """What a step did, in a line of the trace."""
    about = result.stream or result.writeback or ""
    words = [result.error or "", *result.warnings]
    return f"= {result.kind} {about} {result.state} {' '.join(words)}".rstrip()
