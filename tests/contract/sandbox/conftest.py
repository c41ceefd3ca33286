"""HubSpot's own client pointed at the sandbox's portal, by its typed and its untyped calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hubspot import HubSpot

from tests.fixtures.sandboxes import Sandbox, start_sandbox

TOKEN = "pat-na1-sandbox"


class Api:
    """Any path of HubSpot's API, by its own client's untyped call.

    That call reaches paths which no typed method has (dated ones, campaigns, the account), and
    answers with status, headers and body as they came.
    """

    def __init__(self, url: str, token: str | None = TOKEN) -> None:
        self.client = HubSpot(access_token=token, base_url=url, host=url)

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        answer: requests.Response = self.client.api_request(
            {"method": method, "path": path, **options}
        )
        return answer

    def get(self, path: str, **query: Any) -> requests.Response:
        return self.send("GET", path, qs=query)

    def post(self, path: str, body: Any) -> requests.Response:
        return self.send("POST", path, body=body)

    def patch(self, path: str, body: Any) -> requests.Response:
        return self.send("PATCH", path, body=body)

    def form(self, path: str, fields: dict[str, str]) -> requests.Response:
        """A form, as the login wants it."""
        return self.send("POST", path, body=fields, default_json=False)

    def search(self, kind: str, **body: Any) -> requests.Response:
        return self.post(f"/crm/v3/objects/{kind}/search", body)

    def found(self, kind: str, **body: Any) -> list[str]:
        answer = self.search(kind, **body)
        assert answer.status_code == 200, answer.text
        return [one["id"] for one in answer.json()["results"]]

    def update(self, kind: str, *inputs: dict[str, Any]) -> requests.Response:
        return self.post(f"/crm/v3/objects/{kind}/batch/update", {"inputs": inputs})


@pytest.fixture
def api(sandbox: Sandbox) -> Api:
    return Api(sandbox.hubspot.url)


@pytest.fixture(scope="module")
def steady() -> Iterator[Sandbox]:
    """A sandbox without limits for tables of cases that leave nothing behind they look at."""
    with start_sandbox() as sandbox:
        sandbox.hubspot.settings(search_per_second=1_000_000, burst=1_000_000)
        yield sandbox


@pytest.fixture(scope="module")
def steady_api(steady: Sandbox) -> Api:
    return Api(steady.hubspot.url)


@pytest.fixture
def client(sandbox: Sandbox) -> HubSpot:
    return HubSpot(access_token=TOKEN, host=sandbox.hubspot.url, base_url=sandbox.hubspot.url)
