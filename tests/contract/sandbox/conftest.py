"""A plain HTTP client and HubSpot's own client, both pointed at the sandbox's portal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hubspot import HubSpot

from tests.fixtures.sandboxes import Sandbox, start_sandbox

TOKEN = "pat-na1-sandbox"


class Api:
    """HubSpot's API by plain requests, for what its client lacks or hides."""

    def __init__(self, url: str, session: requests.Session) -> None:
        self.url = url
        self.session = session

    def get(self, path: str, **query: Any) -> requests.Response:
        return self.session.get(self.url + path, params=query, timeout=20)

    def post(self, path: str, body: Any) -> requests.Response:
        return self.session.post(self.url + path, json=body, timeout=20)

    def patch(self, path: str, body: Any) -> requests.Response:
        return self.session.patch(self.url + path, json=body, timeout=20)

    def search(self, kind: str, **body: Any) -> requests.Response:
        return self.post(f"/crm/v3/objects/{kind}/search", body)

    def found(self, kind: str, **body: Any) -> list[str]:
        answer = self.search(kind, **body)
        assert answer.status_code == 200, answer.text
        return [one["id"] for one in answer.json()["results"]]

    def update(self, kind: str, *inputs: dict[str, Any]) -> requests.Response:
        return self.post(f"/crm/v3/objects/{kind}/batch/update", {"inputs": inputs})


@pytest.fixture
def api(sandbox: Sandbox) -> Iterator[Api]:
    yield from _connected(sandbox)


@pytest.fixture(scope="module")
def steady() -> Iterator[Sandbox]:
    """A sandbox without limits for tables of cases that leave nothing behind they look at."""
    with start_sandbox() as sandbox:
        sandbox.hubspot.settings(search_per_second=1_000_000, burst=1_000_000)
        yield sandbox


@pytest.fixture(scope="module")
def steady_api(steady: Sandbox) -> Iterator[Api]:
    yield from _connected(steady)


def _connected(sandbox: Sandbox) -> Iterator[Api]:
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {TOKEN}"
        yield Api(sandbox.hubspot.url, session)


@pytest.fixture
def client(sandbox: Sandbox) -> HubSpot:
    return HubSpot(access_token=TOKEN, host=sandbox.hubspot.url, base_url=sandbox.hubspot.url)
