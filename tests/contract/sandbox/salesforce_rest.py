"""Speaks to the sandbox's Salesforce, by the real simple-salesforce alone."""

# ruff: noqa: S608 - SOQL for an org that exists for this test alone

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import SalesforceError

from sandbox import salesforce
from sandbox.server import Listener
from tests.fixtures.sandboxes import Crm

DATA = "/services/data/v62.0"
TOKEN = "sandbox-token"


class Rest:
    """simple-salesforce's own way to call, with the answer as it came instead of its exceptions."""

    def __init__(self, crm: Crm, session: requests.Session, token: str = TOKEN) -> None:
        self.crm = crm
        self.session = session
        self.client = Salesforce(
            session=session, session_id=token, instance_url=crm.url, version="62.0"
        )
        # Kept on the session, where a test can take it away.
        session.headers["Authorization"] = self.client.headers.pop("Authorization")
        session.hooks["response"].append(self._remember)
        self._last = requests.Response()

    def _remember(self, response: requests.Response, **_: Any) -> None:
        self._last = response

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        where = path if path.startswith("/") else f"{DATA}/{path}"
        if isinstance(more.get("data"), dict):
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            more["headers"] = {**form, **(more.get("headers") or {})}
        more["headers"] = more.get("headers") or {}
        with suppress(SalesforceError):
            self.client._call_salesforce(method, f"https://{self._host}{where}", **more)
        return self._last

    @property
    def _host(self) -> str:
        return urlsplit(self.crm.url).netloc

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
    with requests.Session() as session:
        session.trust_env = False
        session.mount("https://", Rewritten(crm.url))
        yield Rest(crm, session, token)


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
        yield Salesforce(session=session, **{"version": "62.0", **keys})


def error_of(answer: requests.Response) -> tuple[int, str]:
    """Status and errorCode of a refusal."""
    return answer.status_code, answer.json()[0]["errorCode"]


def codes(results: list[dict[str, Any]]) -> list[str]:
    """Per result of Collections: "ok", or the first statusCode."""
    return ["ok" if each["success"] else each["errors"][0]["statusCode"] for each in results]


@dataclass(frozen=True)
class OrgAlone:
    """Stands where a whole sandbox is asked for and only its Salesforce is used."""

    salesforce: Crm


class _Failures(logging.Handler):
    """Keeps what went wrong inside the sandbox."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


@contextmanager
def fresh_org(*, seed: int = 0) -> Iterator[Crm]:
    """An org of its own behind a port of its own, served by a thread: there in milliseconds."""
    org = salesforce.new_org(seed=seed)
    listener = Listener(org, salesforce.routes(org), 0)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=[listener.serve()])
    failures = _Failures()
    logging.getLogger("sandbox").addHandler(failures)
    thread.start()
    try:
        yield Crm(listener.url)
    finally:
        loop.call_soon_threadsafe(listener.stop)
        thread.join(10)
        loop.close()
        logging.getLogger("sandbox").removeHandler(failures)
    assert not failures.said, f"the sandbox failed inside: {failures.said}"
