"""How fast Salesforce is read, against simple-salesforce's own ``query_all`` in the same run.

    python bench/salesforce.py --rows 50000 --rounds 5
    python bench/salesforce.py --rows 500000 --rounds 1 --ways bulk rest

The sandbox serves opportunities over HTTP on loopback. Each way runs in a process of its own, one
after the other in every round, and is measured from its first call on; medians are shown.

* ``library``: simple-salesforce fetches all rows into a list of dicts.
* ``rest``, ``bulk``: our pull, from the sandbox through the field map into a SQLite store.
* ``rest-read``, ``bulk-read``: the same without the store, up to canonical records.

Peak memory is that of the reading process (the sandbox is another one).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from worker.runtime import Runtime

ROOT = Path(__file__).parent.parent
WAYS = ("library", "rest-read", "bulk-read", "rest", "bulk")
COLUMNS = (
    "Id", "SystemModstamp", "IsDeleted", "Name", "AccountId", "OwnerId", "RecordTypeId",
    "StageName", "IsClosed", "IsWon", "Amount", "CloseDate", "LastStageChangeDate",
    "Probability", "Type", "LeadSource", "CampaignId", "ForecastCategoryName",
    "LastActivityDate", "CreatedDate",
)  # fmt: skip
"""What our pull asks for, too."""
CONFIG = """\
version: 1
database: sqlite:///{folder}/bench.db
company: {{currency: USD}}
connections:
  salesforce:
    type: salesforce
    base_url: {url}
    auth: {{flow: token, access_token: sandbox-token, instance_url: "{url}"}}
    streams: {{deals: {{api: {api}}}}}
kpis: {{use: [sales]}}
security: {{allow_hosts: [127.0.0.1]}}
"""


# ---------------------------------------------------------------- one way, in its own process


def read_by_library(url: str, folder: Path) -> int:
    """All rows by ``query_all``; returns how many."""
    del folder
    import requests  # noqa: PLC0415 - each way imports what it needs
    from requests.adapters import HTTPAdapter  # noqa: PLC0415
    from simple_salesforce.api import Salesforce  # noqa: PLC0415

    class ToSandbox(HTTPAdapter):
        """The library builds https addresses; the sandbox is elsewhere."""

        def send(  # type: ignore[override]  # passes through whatever comes
            self, request: requests.PreparedRequest, **how: object
        ) -> requests.Response:
            request.url = url + request.path_url
            return super().send(request, **how)  # type: ignore[arg-type]  # as it came

    session = requests.Session()
    session.mount("https://", ToSandbox())
    library = Salesforce(
        session_id="sandbox-token",
        instance_url="https://acme.my.salesforce.com",
        session=session,
        version="62.0",
    )
    soql = f"SELECT {','.join(COLUMNS)} FROM Opportunity ORDER BY SystemModstamp, Id"  # noqa: S608
    return len(library.query_all(soql, include_deleted=True)["records"])


def read_by_connector(url: str, folder: Path, *, api: str) -> int:
    """All rows as canonical records, page by page; returns how many."""
    with _runtime(url, folder, api) as runtime:
        connector = runtime.connector("salesforce")
        (stream,) = (one for one in connector.streams() if one.name == "deals")
        return sum(len(page.records) for page in connector.pull(stream, None))


def pull_into_store(url: str, folder: Path, *, api: str) -> int:
    """A first load into a store of its own; returns how many rows came."""
    from worker.pipeline import pull_stream  # noqa: PLC0415

    with _runtime(url, folder, api) as runtime:
        result = pull_stream(runtime, "salesforce", "deals")
        assert result.error is None, result.error
        return result.pulled


@contextlib.contextmanager
def _runtime(url: str, folder: Path, api: str) -> Iterator[Runtime]:
    from config.loader import load  # noqa: PLC0415
    from worker.observe import configure_logging  # noqa: PLC0415
    from worker.runtime import open_runtime  # noqa: PLC0415

    configure_logging(is_quiet=True)
    path = folder / "kpisync.yaml"
    path.write_text(CONFIG.format(folder=folder, url=url, api=api), encoding="utf-8")
    with open_runtime(load(path, {})) as runtime:
        assert runtime.engine is not None  # the schema is made before the clock starts
        yield runtime


def measure(way: str, url: str) -> dict[str, float]:
    """Seconds, CPU seconds, rows and peak memory of one way, in this process."""
    reading: dict[str, Callable[[str, Path], int]] = {
        "library": read_by_library,
        "rest-read": lambda url, folder: read_by_connector(url, folder, api="rest"),
        "bulk-read": lambda url, folder: read_by_connector(url, folder, api="bulk"),
        "rest": lambda url, folder: pull_into_store(url, folder, api="rest"),
        "bulk": lambda url, folder: pull_into_store(url, folder, api="bulk"),
    }
    # What a worker has long imported when it begins.
    for module in ("simple_salesforce.api", "worker.pipeline", "connectors.salesforce.connector"):
        importlib.import_module(module)
    with tempfile.TemporaryDirectory() as name:
        began, cpu = time.perf_counter(), time.process_time()
        rows = reading[way](url, Path(name))
        return {
            "rows": rows,
            "seconds": time.perf_counter() - began,
            "cpu": time.process_time() - cpu,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


# ---------------------------------------------------------------- all ways, in turn


@contextlib.contextmanager
def _sandbox(rows: int) -> Iterator[str]:
    """A sandbox process with so many opportunities."""
    arguments = [sys.executable, "-m", "sandbox", "--until-stdin-closes"]
    with subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["salesforce"]
        grown = {
            "object": "Opportunity",
            "count": rows,
            "days": 700,
            "fields": {"Name": "Deal #", "CloseDate": "2026-12-31"},
            "vary": {
                "StageName": ["Prospecting", "Closed Won", "Closed Lost", "Qualification"],
                "Amount": [100.5, 2500, None, 19.99, 75000],
                "LeadSource": ["Web", None, "Partner Referral"],
            },
        }
        body = json.dumps(grown).encode()
        asked = Request(f"{url}/__sandbox__/generate", body, method="POST")  # noqa: S310 - loopback
        with urlopen(asked, timeout=600) as answer:  # noqa: S310
            assert answer.status == 200
        yield url
        process.terminate()


def _in_own_process(way: str, url: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--one", way, "--url", url],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure the ways chosen, in turn, several times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.url)))
        return
    found: dict[str, list[dict[str, float]]] = {way: [] for way in arguments.ways}
    with _sandbox(arguments.rows) as url:
        for _ in range(arguments.rounds):
            for way in arguments.ways:
                one = _in_own_process(way, url)
                assert one["rows"] == arguments.rows, (way, one)
                found[way].append(one)
    print(f"{arguments.rows:,} opportunities, medians of {arguments.rounds} rounds")
    print(f"{'way':<10} {'seconds':>8} {'rows/s':>9} {'CPU s/1,000 rows':>17} {'peak MB':>8}")
    for way, ones in found.items():
        seconds = statistics.median(one["seconds"] for one in ones)
        cpu = statistics.median(one["cpu"] for one in ones)
        peak = max(one["peak_mb"] for one in ones)
        rate, each = arguments.rows / seconds, 1000 * cpu / arguments.rows
        print(f"{way:<10} {seconds:>8.2f} {rate:>9,.0f} {each:>17.4f} {peak:>8.0f}")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
