"""A worker process that pulls companies again and again, page by page, as others do beside it.

``python -m tests.contract.connectors.hubspot_worker URL REDIS PULLS`` prints how many companies
each pull brought.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tests.contract.connectors.hubspot_portal import QUICK, portal, pull
from tests.fixtures.sandboxes import Crm


def main(url: str, redis_url: str, pulls: str) -> None:
    since = datetime.now(UTC) - timedelta(days=1)
    tuning = replace(QUICK, page_size=2, retry_attempts=6, total_timeout=timedelta(seconds=100))
    with portal(Crm(url), tuning=tuning, limits_storage=redis_url) as connector:
        brought = [
            len(pull(connector, "accounts", since).ids("accounts")) for _ in range(int(pulls))
        ]
    print(json.dumps(brought))  # noqa: T201 - its answer


if __name__ == "__main__":
    main(*sys.argv[1:])
