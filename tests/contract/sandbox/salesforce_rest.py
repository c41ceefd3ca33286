"""Speaks to the sandbox's Salesforce: plain requests, and the real simple-salesforce."""

# ruff: noqa: S608 - SOQL for an org that exists for this test alone

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from simple_salesforce import Salesforce

from tests.fixtures.sandboxes import Crm

DATA = "/services/data/v62.0"
TOKEN = "sandbox-token"


class Rest:
    """Plain requests with a bearer token; nothing is hidden and nothing retried."""

    def __init__(self, crm: Crm, token: str = TOKEN) -> None:
        self.crm = crm
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        where = path if path.startswith("/services") else f"{DATA}/{path}"
        return self.session.request(method, self.crm.url + where, timeout=30, **more)

    def get(self, path: str, **params: str) -> requests.Response:
        return self.call("GET", path, params=params)

    def query(self, soql: str, *, everything: bool = False, **headers: Any) -> requests.Response:
        path = "queryAll" if everything else "query"
        return self.call("GET", path, params={"q": soql}, headers=headers)

    def rows(self, soql: str, *, everything: bool = False, **headers: Any) -> list[dict[str, Any]]:
        """Every row of a query, its pages followed to the end."""
        answer = self.query(soql, everything=everything, **headers)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        rows: list[dict[str, Any]] = page["records"]
        while not page["done"]:
            page = self.get(page["nextRecordsUrl"]).json()
            rows += page["records"]
        return rows

    def one(self, object_name: str, record_id: str, *names: str) -> dict[str, Any]:
        soql = f"SELECT {', '.join(names)} FROM {object_name} WHERE Id = '{record_id}'"
        (row,) = self.rows(soql, everything=True)
        return row

    def update(
        self, object_name: str, *records: Mapping[str, Any], **how: Any
    ) -> list[dict[str, Any]]:
        """PATCH composite/sobjects; `headers=` and `all_or_none=` as needed."""
        answer = self.send_update(object_name, *records, **how)
        assert answer.status_code == 200, answer.text
        results: list[dict[str, Any]] = answer.json()
        return results

    def send_update(
        self,
        object_name: str,
        *records: Mapping[str, Any],
        all_or_none: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        typed = [{"attributes": {"type": object_name}, **record} for record in records]
        body = {"allOrNone": all_or_none, "records": typed}
        return self.call("PATCH", "composite/sobjects", json=body, headers=headers)

    def describe(self, object_name: str) -> dict[str, dict[str, Any]]:
        """The fields that describe lists, by name."""
        fields = self.get(f"sobjects/{object_name}/describe").json()["fields"]
        return {field["name"]: field for field in fields}


@contextmanager
def rest(crm: Crm, token: str = TOKEN) -> Iterator[Rest]:
    """A `Rest` that closes its connections."""
    speaker = Rest(crm, token)
    with speaker.session:
        yield speaker


class Rewritten(HTTPAdapter):
    """Sends what is meant for any https host to the sandbox."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._host = urlsplit(url).netloc

    def send(self, request: requests.PreparedRequest, *args: Any, **more: Any) -> Any:
        wanted = urlsplit(str(request.url))
        request.headers["X-Wanted-Host"] = wanted.netloc
        request.url = wanted._replace(scheme="http", netloc=self._host).geturl()
        return super().send(request, *args, **{**more, "timeout": 30})


@contextmanager
def simple_salesforce(crm: Crm, **auth: Any) -> Iterator[Salesforce]:
    """The real library, logged in by client credentials unless told otherwise."""
    with requests.Session() as session:
        session.trust_env = False
        session.mount("https://", Rewritten(crm.url))
        keys = auth or {
            "consumer_key": "sandbox-client",
            "consumer_secret": "sandbox-secret",
            "domain": "acme.my",
        }
        yield Salesforce(session=session, version="62.0", **keys)


def error_of(answer: requests.Response) -> tuple[int, str]:
    """Status and errorCode of a refusal."""
    return answer.status_code, answer.json()[0]["errorCode"]


def codes(results: list[dict[str, Any]]) -> list[str]:
    """Per result of Collections: "ok", or the first statusCode."""
    return ["ok" if each["success"] else each["errors"][0]["statusCode"] for each in results]
