"""Deliveries of HubSpot's webhooks: which are real, and what they say has news."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hubspot.utils.signature import Signature

from connectors.base import Stream
from connectors.hubspot.webhooks import (
    LARGEST_BODY,
    SIGNATURE,
    TIMESTAMP,
    Delivery,
    DeliveryRefused,
    streams_of,
)

SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
AT = datetime.fromtimestamp(1_764_000_000, UTC)
STREAMS = [
    Stream(name=name, object=native, yields=(name,))
    for name, native in [
        ("owners", "owners"),
        ("stages", "pipelines"),
        ("accounts", "companies"),
        ("contacts", "contacts"),
        ("leads", "contacts"),
        ("deals", "deals"),
        ("survey_responses", "0-19"),
        ("costs", "2-77"),
        ("contracts", "p_subscription"),
    ]
]

# printf '%s' "POST${URI_DECODED}${BODY}1764000000000" | openssl dgst -sha256 -hmac "$SECRET"
#   -binary | base64
BODY = (
    b'[{"eventId":1,"subscriptionId":2,"portalId":7654321,"occurredAt":1764000000000,'
    b'"subscriptionType":"deal.propertyChange","propertyName":"amount","propertyValue":"7",'
    b'"objectId":9}]'
)
BY_OPENSSL = Delivery(
    method="POST",
    uri="https://kpi.example.com/hooks/hubspot?x=a%3Ab%40c",
    headers={
        "X-HubSpot-Signature-v3": "oLDsItUsMyO8rMWiCMezaRhs/UmObMvslIFhOgNfbJk=",
        "X-HubSpot-Request-Timestamp": "1764000000000",
    },
    body=BODY,
)


def signed(*events: dict[str, object], at: datetime = AT) -> Delivery:
    """A delivery with the signature that HubSpot's own client library makes."""
    body = json.dumps(list(events))
    timestamp = str(int(at.timestamp() * 1000))
    uri = "https://kpi.example.com/hooks/hubspot"
    signature = Signature.get_signature(SECRET, body, "v3", uri, "POST", timestamp)
    return Delivery(
        method="POST",
        uri=uri,
        headers={SIGNATURE: signature, TIMESTAMP: timestamp},
        body=body.encode(),
    )


def news(delivery: Delivery, secret: str = SECRET, at: datetime = AT) -> frozenset[str]:
    return streams_of(delivery, secret=secret, now=at, streams=STREAMS, portal_id="7654321")


@pytest.mark.parametrize("uri", [BY_OPENSSL.uri, "https://kpi.example.com/hooks/hubspot?x=a:b@c"])
def test_a_delivery_signed_by_another_program_is_accepted(uri: str) -> None:
    assert news(replace(BY_OPENSSL, uri=uri)) == {"deals"}


@pytest.mark.parametrize(
    "forged",
    [
        replace(BY_OPENSSL, body=BODY.replace(b'"7"', b'"8"')),
        replace(BY_OPENSSL, method="PUT"),
        replace(BY_OPENSSL, uri="https://kpi.example.com/hooks/other?x=a:b@c"),
        replace(BY_OPENSSL, headers={**BY_OPENSSL.headers, SIGNATURE: "nonsense é"}),
        replace(BY_OPENSSL, headers={**BY_OPENSSL.headers, TIMESTAMP: "1764000000001"}),
        replace(BY_OPENSSL, headers={}),
    ],
)
def test_a_forged_delivery_is_refused(forged: Delivery) -> None:
    with pytest.raises(DeliveryRefused) as caught:
        news(replace(forged, headers={k.lower(): v for k, v in forged.headers.items()}))

    assert caught.value.status == 401
    assert SECRET not in str(caught.value)


def test_another_apps_secret_is_refused() -> None:
    with pytest.raises(DeliveryRefused, match="client secret"):
        news(BY_OPENSSL, secret="zzzzzzzz")
    with pytest.raises(DeliveryRefused, match="No client secret"):
        news(BY_OPENSSL, secret="")


@pytest.mark.parametrize("minutes", [-5.01, 5.01])
def test_a_delivery_that_was_recorded_is_not_taken_again(minutes: float) -> None:
    event = {"subscriptionType": "deal.creation", "portalId": 7654321}

    assert news(signed(event), at=AT + timedelta(minutes=4.9)) == {"deals"}
    with pytest.raises(DeliveryRefused, match="five minutes"):
        news(signed(event), at=AT + timedelta(minutes=minutes))


@pytest.mark.parametrize("timestamp", ["", "soon", "1e12", "-1", "9" * 40])
def test_a_timestamp_that_is_none_is_refused(timestamp: str) -> None:
    strange = replace(BY_OPENSSL, headers={SIGNATURE: "x", TIMESTAMP: timestamp})

    with pytest.raises(DeliveryRefused):
        news(strange)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"subscriptionType": "contact.creation"}, {"contacts", "leads"}),
        ({"subscriptionType": "company.merge"}, {"accounts"}),
        ({"subscriptionType": "object.propertyChange", "objectTypeId": "0-3"}, {"deals"}),
        ({"subscriptionType": "object.creation", "objectTypeId": "0-19"}, {"survey_responses"}),
        (
            {"subscriptionType": "deal.associationChange", "associationType": "DEAL_TO_COMPANY"},
            {"deals", "accounts"},
        ),
        (
            {
                "subscriptionType": "object.associationChange",
                "fromObjectTypeId": "0-3",
                "toObjectTypeId": "0-2",
            },
            {"deals", "accounts"},
        ),
        ({"subscriptionType": "object.restore", "objectTypeId": "2-77"}, {"costs", "contracts"}),
        ({"subscriptionType": "object.restore", "objectTypeId": "2-99"}, {"contracts"}),
        ({"subscriptionType": "conversation.newMessage"}, set()),
        ({"subscriptionType": "product.creation"}, set()),
        ({"subscriptionType": "deal.creation", "portalId": 1}, set()),
        ({"subscriptionType": "company.propertyChange", "propertyName": "kpi_value"}, set()),
        ({}, set()),
    ],
)
def test_an_event_names_the_streams_that_have_news(
    event: dict[str, object], expected: set[str]
) -> None:
    delivery = signed({"portalId": 7654321, **event})

    found = streams_of(
        delivery,
        secret=SECRET,
        now=AT,
        streams=STREAMS,
        portal_id="7654321",
        own_properties=frozenset({"kpi_value"}),
    )

    assert found == expected


def test_doubled_and_unordered_events_are_one_piece_of_news() -> None:
    deal = {"subscriptionType": "deal.creation", "portalId": 7654321}
    contact = {"subscriptionType": "contact.deletion", "portalId": 7654321}

    assert news(signed(deal, contact, deal)) == {"deals", "contacts", "leads"}


def test_a_body_without_end_is_not_even_looked_at() -> None:
    with pytest.raises(DeliveryRefused) as caught:
        news(replace(BY_OPENSSL, body=b" " * (LARGEST_BODY + 1)))

    assert caught.value.status == 413


@pytest.mark.parametrize("body", [b"", b"null", b"[1]", b"<html>", b'["x"]'])
def test_a_signed_body_that_is_no_list_of_events_is_refused(body: bytes) -> None:
    timestamp = BY_OPENSSL.headers["X-HubSpot-Request-Timestamp"]
    uri = "https://kpi.example.com/"
    signature = Signature.get_signature(SECRET, body.decode(), "v3", uri, "POST", timestamp)
    headers = {SIGNATURE: signature, TIMESTAMP: timestamp}

    with pytest.raises(DeliveryRefused) as caught:
        news(Delivery(method="POST", uri=uri, headers=headers, body=body))

    assert caught.value.status == 400
