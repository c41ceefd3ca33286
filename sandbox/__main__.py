"""``python -m sandbox``: a fake Salesforce org and a fake HubSpot portal on loopback ports."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path

from sandbox import hubspot, salesforce
from sandbox.company import Company
from sandbox.csvload import BadDataError, read_company
from sandbox.load import Split, fill
from sandbox.org import Clock
from sandbox.seed import make_company
from sandbox.server import Listener, PortTakenError, serve

MIDDAY = time(12, tzinfo=UTC)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; 2 when the data cannot be loaded, 1 when a port is taken."""
    options = _parse(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s %(message)s"
    )
    today = options.today or datetime.now(UTC).date()
    start = datetime.combine(options.today, MIDDAY) if options.today else None
    try:
        company = _company(options, today)
    except BadDataError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command's answer to its caller
        return 2
    try:
        listeners = _listeners(options, company, Clock(start=start))
    except PortTakenError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command's answer to its caller
        return 1
    # What is loaded lives as long as the process: the collector need not walk it again.
    gc.freeze()
    asyncio.run(serve(listeners, until_stdin_closes=options.until_stdin_closes))
    return 0


def _listeners(
    options: argparse.Namespace, company: Company | None, clock: Clock
) -> dict[str, Listener]:
    seed = options.seed or 0
    salesforce_org = salesforce.new_org(clock=Clock.like(clock), seed=seed)
    hubspot_org = hubspot.new_org(clock=Clock.like(clock), seed=seed)
    if company is not None:
        fill(company, salesforce=salesforce_org, hubspot=hubspot_org, split=options.split)
    return {
        "salesforce": Listener(
            salesforce_org, salesforce.routes(salesforce_org), options.salesforce_port
        ),
        "hubspot": Listener(hubspot_org, hubspot.routes(hubspot_org), options.hubspot_port),
    }


def _company(options: argparse.Namespace, today: date) -> Company | None:
    if options.data is not None:
        return read_company(options.data)
    if options.seed is not None:
        return make_company(seed=options.seed, deals=options.size, today=today)
    return None


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox",
        description="Serves a fake Salesforce org and a fake HubSpot portal on 127.0.0.1.",
    )
    parser.add_argument("--salesforce-port", type=int, default=0, help="0: a free one")
    parser.add_argument("--hubspot-port", type=int, default=0, help="0: a free one")
    content = parser.add_mutually_exclusive_group()
    content.add_argument("--data", type=Path, help="folder of CSV files of a company")
    content.add_argument("--seed", type=int, help="invent a company of two years, repeatably")
    parser.add_argument("--size", type=int, default=600, help="deals of the invented company")
    parser.add_argument("--split", type=Split, choices=list(Split), default=Split.BOTH)
    parser.add_argument("--today", type=date.fromisoformat, help="the orgs' day (YYYY-MM-DD)")
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="end with the process that started it, should that die",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
