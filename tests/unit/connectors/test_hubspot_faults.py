"""What HubSpot answers when it refuses, and which of our errors that is."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from urllib3.exceptions import ConnectTimeoutError, ProtocolError

from connectors.errors import (
    AuthenticationFailed,
    ConnectorError,
    CrmUnavailable,
    MisconfiguredConnection,
    PermissionMissing,
    RateLimited,
)
from connectors.hubspot.faults import (
    AnswerLost,
    DailyLimitReached,
    Refused,
    answered,
    entries_of,
    unanswered,
)


def answer(
    status: int, body: object = None, headers: dict[str, str] | None = None
) -> ConnectorError:
    return answered("web", status, headers or {}, json.dumps(body or {}).encode())


def wait_of(error: ConnectorError) -> float:
    assert isinstance(error, RateLimited)
    return error.wait_seconds


def test_a_missing_scope_is_named() -> None:
    context = {"requiredGranularScopes": ["crm.objects.deals.read"]}
    error = answer(403, {"category": "MISSING_SCOPES", "errors": [{"context": context}]})

    assert isinstance(error, PermissionMissing)
    assert "crm.objects.deals.read" in error.message


def test_a_refused_token_is_said_in_hubspots_words() -> None:
    error = answer(401, {"category": "EXPIRED_AUTHENTICATION", "message": "expired"})

    assert isinstance(error, AuthenticationFailed)
    assert "EXPIRED_AUTHENTICATION" in error.message


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"policyName": "TEN_SECONDLY_ROLLING"}, 10.0),
        ({"message": "You have reached your ten_secondly_rolling limit."}, 10.0),
        ({"message": "You have reached your secondly limit.", "category": "RATE_LIMITS"}, 1.0),
        ({}, 10.0),
    ],
)
def test_a_rate_limit_is_waited_for_as_long_as_it_rolls(
    body: dict[str, str], seconds: float
) -> None:
    assert seconds == wait_of(answer(429, body))


def test_retry_after_is_obeyed_where_it_stands() -> None:
    body = {"policyName": "TEN_SECONDLY_ROLLING"}
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)

    assert wait_of(answer(429, body, {"Retry-After": "3"})) == 3.0
    assert 25 < wait_of(answer(429, body, {"retry-after": soon})) <= 30


def test_the_daily_limit_is_no_rate_limit() -> None:
    assert isinstance(answer(429, {"policyName": "DAILY"}), DailyLimitReached)


def test_a_locked_portal_is_left_alone_for_two_seconds() -> None:
    assert wait_of(answer(423)) == 2.0


def test_a_moving_account_says_how_long() -> None:
    assert wait_of(answer(477, headers={"Retry-After": "86400"})) == 86_400.0


@pytest.mark.parametrize("status", [500, 502, 504, 521, 523, 524, 530])
def test_after_a_server_error_nobody_knows_whether_it_was_done(status: int) -> None:
    error = answered("web", status, {}, b"<html>Bad gateway</html>")

    assert isinstance(error, AnswerLost)
    assert error.retryable


def test_a_redirect_is_a_wrong_address() -> None:
    assert isinstance(answer(302), MisconfiguredConnection)


def test_no_connection_means_not_sent_and_a_broken_one_means_unknown() -> None:
    refused = unanswered("web", "http://h:1", ConnectTimeoutError())
    broken = unanswered("web", "http://h:1", ProtocolError("cut"))

    assert type(refused) is CrmUnavailable
    assert "http://h:1" in refused.message
    assert type(broken) is AnswerLost


def test_the_list_inside_a_message_is_read_and_not_shown() -> None:
    message = (
        'Property values were not valid: [{"isValid":false,"message":"x was not a number",'
        '"error":"INVALID_INTEGER","name":"kpi_a"}]'
    )
    error = answer(400, {"message": message, "category": "VALIDATION_ERROR"})

    assert isinstance(error, Refused)
    assert [(one.code, one.fields) for one in error.entries] == [("INVALID_INTEGER", ("kpi_a",))]
    assert error.message.endswith("Property values were not valid: x was not a number")


def test_an_entry_keeps_the_trace_of_its_input_beside_its_property() -> None:
    message = 'Invalid: [{"message":"no","error":"INVALID_OPTION","name":"kpi_a"}]'
    context = {"objectWriteTraceId": ["t1"]}

    (entry,) = entries_of({"errors": [{"message": message, "context": context}]})

    assert entry.context == {"objectWriteTraceId": ("t1",), "propertyName": ("kpi_a",)}


def test_errors_survive_pickling() -> None:
    for error in (answer(400, {"message": "no"}), answer(429, {"policyName": "DAILY"})):
        assert str(error) == str(pickle.loads(pickle.dumps(error)))  # noqa: S301 - our own


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b'{"errors": 7, "message": null}'])
def test_any_part_of_an_error_may_be_missing(body: bytes) -> None:
    assert isinstance(answered("web", 400, None, body), Refused)
