"""How fast HubSpot is read: from the sandbox into a store, against the client library's own loop.

    python bench/hubspot.py --rows 20000 --rounds 5

Three ways take turns in every round, over the same records with the same properties: the client
library's `get_page` loop, which builds its models and keeps nothing; the connector, which maps
every record and reads its links; and the connector with a store behind it, as a first load does.
Rows a second are wall-clock time, CPU is that of this process alone, without the sandbox. Figures
are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

# This file has the client library's name: its folder must not come first.
sys.path.append(sys.path.pop(0))

from connectors.base import ConnectionSettings, Stream, StreamSettings, Tuning
from connectors.hubspot.client import HubSpotClient
from connectors.hubspot.connector import HubSpotConnector, connect
from connectors.hubspot.minimum import Minimum
from connectors.hubspot.streams import Planner
from metrics import catalog as kpi_catalog
from metrics.cells import commit_page
from metrics.definition import KpiSettings
from store.canonical import Company
from store.engine import open_store, writing
from store.schema import ensure_current

TOKEN = "pat-na1-sandbox"  # noqa: S105 - the sandbox's well-known token
COMPANY = Company(ZoneInfo("UTC"), "USD")
STREAM_OF = {"contacts": "contacts", "deals": "deals"}
AT_ONCE = 2_000


@dataclass(frozen=True)
class Lap:
    """One way, once."""

    rows: int
    seconds: float
    cpu_seconds: float

    @property
    def rows_per_second(self) -> float:
        """By the clock on the wall."""
        return self.rows / self.seconds

    @property
    def microseconds_per_row(self) -> float:
        """CPU of this process."""
        return 1e6 * self.cpu_seconds / self.rows


def _admin(url: str, verb: str, **body: object) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - the sandbox on loopback
        f"{url}/__sandbox__/{verb}", json.dumps(body).encode(), method="POST"
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - see above
        content: dict[str, Any] = json.load(answer)
    return content


@contextmanager
def _sandbox() -> Iterator[str]:
    """A fake portal without limits that would be measured instead; its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = str(json.loads(process.stdout.readline())["hubspot"])
        _admin(url, "settings", burst=10_000_000, search_per_second=1_000, daily=1_000_000_000)
        yield url
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def _fill(url: str, object_name: str, rows: int) -> None:
    company = str(_admin(url, "create", object="companies", fields={"name": "Account 0001"})["id"])
    for start in range(0, rows, AT_ONCE):
        numbers = range(start, min(rows, start + AT_ONCE))
        records = [_contact(n) if object_name == "contacts" else _deal(n) for n in numbers]
        ids = _admin(url, "create", object=object_name, records=records)["ids"]
        _admin(url, "associate", **{"from": "companies"}, id=company, to=object_name, to_ids=ids)


def _contact(number: int) -> dict[str, object]:
    return {
        "firstname": "Person",
        "lastname": f"{number:07}",
        "email": f"person{number:07}@x.example",
        "lifecyclestage": ("subscriber", "lead", "customer")[number % 3],
        "hs_analytics_source": "ORGANIC_SEARCH",
    }


def _deal(number: int) -> dict[str, object]:
    stage = ("appointmentscheduled", "closedwon", "closedlost")[number % 3]
    return {"dealname": f"Deal {number:07}", "amount": f"{number}.50", "dealstage": stage}


def _settings(url: str, stream: str) -> ConnectionSettings:
    return ConnectionSettings(
        name="web",
        type="hubspot",
        auth={"flow": "token", "token": TOKEN},
        company=COMPANY,
        streams={stream: StreamSettings()},
        base_url=url,
        tuning=Tuning(read_timeout=timedelta(seconds=60)),
        limits_storage=f"memory://{time.monotonic_ns()}",
    )


def _stream_of(connector: HubSpotConnector, name: str) -> Stream:
    return next(one for one in connector.streams() if one.name == name)


def _library_loop(
    url: str, object_name: str, properties: Sequence[str], past: Sequence[str]
) -> int:
    """What the client library's documentation shows: page after page of models."""
    library = import_module("hubspot").HubSpot(access_token=TOKEN, host=url)
    api = getattr(library.crm, object_name).basic_api
    more = {"properties_with_history": list(past)} if past else {}
    rows, after = 0, None
    while True:
        page = api.get_page(
            limit=50 if past else 100, properties=list(properties), after=after or "0", **more
        )
        rows += len(page.results)
        if page.paging is None:
            return rows
        after = page.paging.next.after


def _mapped(url: str, stream: str) -> int:
    """The connector alone: every record mapped, its links read."""
    connector = connect(_settings(url, stream))
    rows = 0
    for page in connector.pull(_stream_of(connector, stream), None):
        rows += sum(record.ref.stream == stream for record in page.records)
    connector.close()
    return rows


def _stored(url: str, stream: str) -> int:
    """A first load: a transaction for every page, in a store of its own."""
    catalog = kpi_catalog.build(KpiSettings(company=COMPANY))
    connector = connect(_settings(url, stream))
    rows = 0
    with tempfile.TemporaryDirectory() as folder:
        engine = open_store(f"sqlite:///{Path(folder) / 'bench.db'}")
        ensure_current(engine)
        for page in connector.pull(_stream_of(connector, stream), None):
            with writing(engine) as conn:
                commit_page(conn, catalog, page.records, page.deleted, defer=True)
            rows += sum(record.ref.stream == stream for record in page.records)
        engine.dispose()
    connector.close()
    return rows


def _lap(way: Callable[[], int]) -> Lap:
    cpu, wall = time.process_time(), time.perf_counter()
    rows = way()
    return Lap(rows, time.perf_counter() - wall, time.process_time() - cpu)


def _asked_for(url: str, stream: str) -> tuple[Sequence[str], Sequence[str]]:
    """The properties that the connector reads, so that both ways ask for the same."""
    settings = _settings(url, stream)
    connector = connect(settings)
    client = HubSpotClient(settings, connector.calls)
    plan = Planner(client, settings).plan(_stream_of(connector, stream), Minimum(connector.calls))
    client.close()
    connector.close()
    return plan.properties, plan.history


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--object", choices=sorted(STREAM_OF), default="contacts")
    options = parser.parse_args()
    stream = STREAM_OF[options.object]
    with _sandbox() as url:
        _fill(url, options.object, options.rows)
        properties, past = _asked_for(url, stream)
        ways: dict[str, Callable[[], int]] = {
            "client library, get_page loop": partial(
                _library_loop, url, options.object, properties, past
            ),
            "connector, mapped": partial(_mapped, url, stream),
            "connector, into the store": partial(_stored, url, stream),
        }
        laps: dict[str, list[Lap]] = {name: [] for name in ways}
        for name, way in ways.items():
            assert way() == options.rows, name  # a first time unmeasured: imports, warm caches
        for _ in range(options.rounds):
            for name, way in ways.items():
                laps[name].append(_lap(way))
    print(
        f"{options.rows:,} {options.object}, {len(properties)} properties, {options.rounds} rounds"
    )
    for name, found in laps.items():
        rows = statistics.median(lap.rows_per_second for lap in found)
        cpu = statistics.median(lap.microseconds_per_row for lap in found)
        print(f"  {name:<32} {rows:9,.0f} rows/s   {cpu:7.1f} us CPU a row")


if __name__ == "__main__":
    main()
