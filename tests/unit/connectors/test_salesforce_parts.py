"""Small parts of the Salesforce connector: ids, JSON, faults, cursors, columns."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from connectors.base import Cursor, PushOutcome
from connectors.errors import (
    ConnectorError,
    CrmUnavailable,
    CursorExpired,
    MisconfiguredConnection,
    NothingLeft,
    PermissionMissing,
    RateLimited,
    RequestRefused,
)
from connectors.salesforce.cursor import Place
from connectors.salesforce.exactjson import exact_json
from connectors.salesforce.faults import (
    AnswerLost,
    NothingDone,
    QueryTooHeavy,
    UnknownName,
    outcome_of,
    retry_after,
    translate,
)
from connectors.salesforce.ids import long_id
from connectors.salesforce.login_faults import clock_skew
from connectors.salesforce.soql import Selection, column_groups, instant


@pytest.mark.parametrize(
    ("short", "expected"),
    [
        ("001D000000IqhSL", "001D000000IqhSLIAZ"),
        ("001000000000001", "001000000000001AAA"),
        ("001D000000IqhSLIAZ", "001D000000IqhSLIAZ"),
        ("no id", "no id"),
    ],
)
def test_ids_have_eighteen_characters(short: str, expected: str) -> None:
    assert long_id(short) == expected


def test_numbers_are_written_with_all_their_digits() -> None:
    text = exact_json(
        {
            "a": Decimal("1234567890123456.78"),
            "b": Decimal("1E+3"),
            "c": None,
            "d": [True, "ü\n"],
            "e": date(2026, 2, 28),
            "f": datetime(2026, 2, 28, 1, 2, 3, tzinfo=UTC),
        }
    )

    assert '"a":1234567890123456.78,"b":1000,"c":null' in text
    assert json.loads(text)["d"] == [True, "ü\n"]
    assert json.loads(text)["e"] == "2026-02-28"
    assert json.loads(text)["f"] == "2026-02-28T01:02:03.000Z"


def test_what_is_no_number_is_not_written() -> None:
    with pytest.raises(ValueError, match="finite"):
        exact_json([Decimal("NaN")])


def fault(code: str, message: str = "words") -> list[dict[str, str]]:
    return [{"errorCode": code, "message": message}]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (403, fault("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."), NothingLeft),
        (403, fault("REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit"), RateLimited),
        (403, fault("API_DISABLED_FOR_ORG"), PermissionMissing),
        (400, fault("INVALID_FIELD"), UnknownName),
        (400, fault("MALFORMED_QUERY"), MisconfiguredConnection),
        (400, fault("QUERY_TIMEOUT"), QueryTooHeavy),
        (400, fault("INVALID_QUERY_LOCATOR"), CursorExpired),
        (400, fault("SOMETHING_ELSE"), RequestRefused),
        (404, fault("NOT_FOUND"), RequestRefused),
        (410, fault("UNSUPPORTED_API_VERSION"), MisconfiguredConnection),
        (414, "<html><h1>URI Too Long</h1></html>", RequestRefused),
        (302, "", MisconfiguredConnection),
        (500, fault("UNKNOWN_EXCEPTION", "ErrorId: 123"), CrmUnavailable),
        (502, "<html><h1>Bad Gateway</h1></html>", CrmUnavailable),
        (503, {"error": "busy"}, NothingDone),
        (429, "", RateLimited),
    ],
)
def test_each_refusal_means_one_thing(
    status: int, body: object, expected: type[ConnectorError]
) -> None:
    error = translate("sf", status, body, {})

    assert type(error) is expected or (
        isinstance(error, expected) and expected in {MisconfiguredConnection, RequestRefused}
    )
    assert "<" not in error.message


def test_a_used_up_quota_pauses_for_a_quarter_of_an_hour() -> None:
    error = translate("sf", 403, fault("REQUEST_LIMIT_EXCEEDED", "TotalRequests"), {})

    assert isinstance(error, NothingLeft)
    assert error.until - datetime.now(UTC) > timedelta(minutes=14)


def test_retry_after_comes_as_seconds_or_as_a_date() -> None:
    assert retry_after({"Retry-After": "7"}) == 7
    assert retry_after({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}) == 0
    assert retry_after({"Retry-After": "soon"}) is None
    assert retry_after({}) is None


def test_what_may_have_happened_is_not_sent_again_by_itself() -> None:
    assert not AnswerLost("sf", "x").retryable
    assert NothingDone("sf", "x").retryable


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ({"statusCode": "UNABLE_TO_LOCK_ROW"}, PushOutcome.RETRY),
        ({"statusCode": "APEX_ERROR", "message": "… UNABLE_TO_LOCK_ROW …"}, PushOutcome.RETRY),
        ({"statusCode": "ENTITY_IS_DELETED", "fields": []}, PushOutcome.GONE),
        ({"statusCode": "INVALID_CROSS_REFERENCE_KEY"}, PushOutcome.GONE),
        (
            {"statusCode": "INVALID_CROSS_REFERENCE_KEY", "fields": ["OwnerId"]},
            PushOutcome.FAILED,
        ),
        ({"statusCode": "STRING_TOO_LONG", "message": "too long"}, PushOutcome.FAILED),
        ({"statusCode": "NOBODY_KNOWS_THIS"}, PushOutcome.FAILED),
        ({"statusCode": "UNKNOWN_EXCEPTION"}, PushOutcome.RETRY),
    ],
)
def test_a_records_errors_decide_its_outcome(
    error: dict[str, object], outcome: PushOutcome
) -> None:
    assert outcome_of([error])[0] is outcome


def test_a_failure_without_reason_is_still_a_failure() -> None:
    assert outcome_of([])[0] is PushOutcome.FAILED


def test_a_place_survives_as_text() -> None:
    place = Place(
        mode="full",
        org="00D",
        low=None,
        high=datetime(2026, 1, 1, tzinfo=UTC),
        at=datetime(2025, 1, 1, tzinfo=UTC),
        id="001",
        rows=7,
    )

    assert Place.from_cursor("sf", place.to_cursor()) == place


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"mode": "full"}'])
def test_a_text_of_somebody_else_is_refused(text: str) -> None:
    with pytest.raises(MisconfiguredConnection):
        Place.from_cursor("sf", Cursor(text))


def test_columns_are_split_when_the_line_would_be_too_long() -> None:
    columns = [f"C{number}" for number in range(10)]

    groups = column_groups(columns, ["Id"], first=len, further=len, longest=4)

    assert groups == [
        ["Id", "C0", "C1", "C2"], ["Id", "C3", "C4", "C5"], ["Id", "C6", "C7", "C8"], ["Id", "C9"],
    ]  # fmt: skip


def test_instants_are_written_as_soql_wants_them() -> None:
    assert instant(datetime(2026, 1, 1, 12, tzinfo=UTC)) == "2026-01-01T12:00:00Z"


def test_a_tie_asks_for_ids_behind_the_last_one() -> None:
    selection = Selection("Account", "SystemModstamp", "A = 'x' OR B = 'y'", 200)

    query = selection.tie(["Id"], at=datetime(2026, 1, 1, tzinfo=UTC), after_id="001'")

    assert query == (
        "SELECT Id FROM Account WHERE SystemModstamp = 2026-01-01T00:00:00Z AND Id > '001\\''"
        " AND (A = 'x' OR B = 'y') ORDER BY Id LIMIT 200"
    )


@pytest.mark.parametrize(
    "date", ["Sun, 22 Nov 2015 11:00:00 GMT", "Sun, 22 Nov 2015 11:00:00 -0000"]
)
def test_the_servers_clock_is_utc_however_it_writes_its_zone(date: str) -> None:
    ten_years = 10 * 365 * 86_400

    assert clock_skew({"Date": date}) > ten_years
