"""Webhooks as the portal delivers them: late, twice, in any order, signed for one address."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from connectors.base import Stream, StreamSettings
from connectors.hubspot.webhooks import Delivery, DeliveryRefused, streams_of
from tests.contract.connectors.hubspot_portal import fresh, portal
from tests.fixtures.sandboxes import Crm, Sandbox, start_sandbox

SECRET = "the-apps-client-secret"


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with start_sandbox() as sandbox:
        sandbox.hubspot.add_field("companies", "kpi_count", "number")
        yield sandbox


@pytest.fixture
def crm(shared: Sandbox) -> Crm:
    return fresh(shared.hubspot)


@dataclass
class Receiver:
    """An endpoint that takes deliveries as a server of ours would."""

    streams: list[Stream]
    url: str = ""
    secret: str = SECRET
    news: list[frozenset[str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def take(self, delivery: Delivery) -> int:
        try:
            found = streams_of(
                delivery,
                secret=self.secret,
                now=datetime.now(UTC),
                streams=self.streams,
                portal_id="7654321",
                own_properties=frozenset({"kpi_count"}),
            )
        except DeliveryRefused as refusal:
            self.refused.append(refusal.message)
            return refusal.status
        self.news.append(found)
        return 204

    @property
    def all_news(self) -> frozenset[str]:
        return frozenset().union(*self.news)


@contextmanager
def receiving(crm: Crm, path: str = "/hooks/hubspot?from=a%3Ab") -> Iterator[Receiver]:
    streams = {name: StreamSettings() for name in ("accounts", "contacts", "deals", "tickets")}
    with portal(crm, streams=streams) as connector:
        receiver = Receiver(list(connector.streams()))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            uri = f"http://{self.headers['Host']}{self.path}"
            headers = dict(self.headers.items())
            delivery = Delivery(method="POST", uri=uri, headers=headers, body=body)
            self.send_response(receiver.take(delivery))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}{path}"
    crm.admin("webhooks", url=receiver.url, secret=SECRET, types=[])
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_changes_name_the_streams_that_have_news(crm: Crm) -> None:
    with receiving(crm) as receiver:
        deal_id = crm.create("deals", {"dealname": "Deal"})
        crm.edit("deals", deal_id, {"amount": 7})
        crm.delete("deals", deal_id)
        crm.admin("deliver")
        assert receiver.all_news == {"deals"}

        first, second = crm.create_many("contacts", [{"email": "a@x.org"}, {"email": "b@x.org"}])
        crm.merge("contacts", first, [second])
        crm.admin("deliver")

    assert receiver.all_news == {"deals", "contacts", "leads"}
    assert receiver.refused == []


def test_deliveries_that_come_twice_and_shuffled_are_the_same_news(crm: Crm) -> None:
    with receiving(crm) as receiver:
        crm.create_many("tickets", [{"subject": f"Ticket {n}"} for n in range(150)])
        crm.create("companies", {"name": "Account 0001"})
        crm.admin("deliver", twice=True, shuffle=True)

    assert receiver.all_news == {"tickets", "accounts"}
    assert len(receiver.news) > 2
    assert receiver.refused == []


def test_our_own_writes_are_no_news(crm: Crm) -> None:
    company_id = crm.create("companies", {"name": "Account 0001"})

    with receiving(crm) as receiver:
        crm.edit("companies", company_id, {"kpi_count": 7})
        crm.admin("deliver")

    assert receiver.news
    assert receiver.all_news == frozenset()


def test_a_delivery_of_an_hour_ago_is_refused_and_kept_by_hubspot(crm: Crm) -> None:
    with receiving(crm) as receiver:
        crm.create("deals", {"dealname": "Deal"})
        told = crm.admin("deliver", age_seconds=3600)
        assert set(told["statuses"]) == {401}  # type: ignore[call-overload]  # plain JSON
        assert receiver.news == []
        crm.admin("deliver")

    assert receiver.all_news == {"deals"}
    assert {"five minutes" in words for words in receiver.refused} == {True}


def test_a_delivery_for_another_app_is_refused(crm: Crm) -> None:
    with receiving(crm) as receiver:
        receiver.secret = "another-apps-secret"
        crm.create("deals", {"dealname": "Deal"})
        crm.admin("deliver")

    assert receiver.news == []
    assert {"client secret" in words for words in receiver.refused} == {True}
