"""The portal tells of what happened in it: signed, more than once, in any order, late."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hubspot.utils.signature import Signature

from tests.fixtures.sandboxes import Sandbox

from .conftest import Api

SECRET = "of-the-app"


class Receiver:
    """Somebody who subscribed: takes batches, and answers as told."""

    def __init__(self) -> None:
        self.batches: list[list[dict[str, Any]]] = []
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((dict(self.headers), body))
                receiver.batches.append(json.loads(body))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as its base
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks?crm=hubspot"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for batch in self.batches for event in batch]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver(sandbox: Sandbox) -> Iterator[Receiver]:
    receiver = Receiver()
    sandbox.hubspot.admin("webhooks", url=receiver.url, secret=SECRET)
    yield receiver
    receiver.close()


def test_batches_carry_the_signature_that_hubspots_client_checks(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    sandbox.hubspot.create("deals", {"dealname": "D"})

    sandbox.hubspot.admin("deliver")
    sandbox.hubspot.edit("companies", sandbox.hubspot.create("companies", {}), {"name": "C"})
    sandbox.hubspot.admin("deliver", age_seconds=600)

    (headers, body), (old, old_body) = receiver.requests

    def is_valid(sent: dict[str, str], raw: bytes, secret: str = SECRET) -> bool:
        checked: bool = Signature.is_valid(
            signature=sent["X-HubSpot-Signature-v3"],
            client_secret=secret,
            request_body=raw.decode(),
            http_uri=receiver.url,
            http_method="POST",
            signature_version="v3",
            timestamp=sent["X-HubSpot-Request-Timestamp"],
        )
        return checked

    assert is_valid(headers, body)
    assert not is_valid(headers, body, secret="of-somebody-else")
    assert not is_valid(headers, body + b" ")
    with pytest.raises(Exception, match=r"(?i)timestamp"):
        is_valid(old, old_body)


def test_events_say_what_happened_to_which_record(sandbox: Sandbox, receiver: Receiver) -> None:
    crm = sandbox.hubspot
    deal = crm.create("deals", {"dealname": "D"}, at="2025-01-01T00:00:00Z")
    crm.edit("deals", deal, {"amount": "5"}, at="2025-01-02T00:00:00Z")
    company, contact, other = (
        crm.create("companies", {}),
        crm.create("contacts", {}),
        crm.create("contacts", {}),
    )
    crm.associate("deals", deal, "companies", [company])
    merged = crm.merge("contacts", contact, [other])
    crm.erase("contacts", merged)
    crm.delete("deals", deal)

    crm.admin("deliver")

    kinds = [event["subscriptionType"] for event in receiver.events]
    assert {
        "deal.creation",
        "deal.propertyChange",
        "deal.associationChange",
        "contact.merge",
        "contact.privacyDeletion",
        "deal.deletion",
    } <= set(kinds)
    amount = next(one for one in receiver.events if one.get("propertyName") == "amount")
    assert (amount["objectId"], amount["propertyValue"], amount["portalId"]) == (
        int(deal),
        "5",
        7654321,
    )
    assert amount["occurredAt"] == 1735776000000
    merge = next(one for one in receiver.events if one["subscriptionType"] == "contact.merge")
    assert (merge["mergedObjectIds"], merge["newObjectId"]) == ([int(other)], int(merged))
    assert len({one["eventId"] for one in receiver.events}) == len(receiver.events)


def test_events_come_twice_unordered_and_late(sandbox: Sandbox, receiver: Receiver) -> None:
    crm = sandbox.hubspot
    crm.admin("webhooks", url=receiver.url, secret=SECRET, types=["deal.creation"])
    crm.create_many("deals", [{} for _ in range(250)])

    first = crm.admin("deliver", twice=True, shuffle=True, hold=30)
    second = crm.admin("deliver")

    assert first == {"statuses": [200] * 6, "waiting": 30, "given_up": 0}
    assert second["waiting"] == 0
    assert [len(batch) for batch in receiver.batches] == [100, 100, 100, 100, 20, 20, 30]
    ids = [event["eventId"] for event in receiver.events]
    assert len(set(ids)) == 250
    assert ids != sorted(ids)


def test_a_batch_nobody_takes_is_sent_again_up_to_ten_times(
    sandbox: Sandbox, receiver: Receiver
) -> None:
    crm = sandbox.hubspot
    crm.admin("webhooks", url=receiver.url, secret=SECRET, types=["deal.creation"])
    crm.create("deals", {})
    receiver.status = 500

    answers = [crm.admin("deliver") for _ in range(11)]

    assert [event["attemptNumber"] for event in receiver.events] == list(range(10))
    assert answers[-1] == {"statuses": [], "waiting": 0, "given_up": 1}


def test_nothing_is_kept_for_nobody(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.create("deals", {})

    assert sandbox.hubspot.admin("deliver") == {"statuses": [], "waiting": 0, "given_up": 0}
    assert api.get("/crm/v3/objects/deals").status_code == 200
