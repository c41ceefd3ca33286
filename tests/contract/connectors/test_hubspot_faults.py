"""Bad days at HubSpot: waited out, told, or given up with a clear word; never taken for the end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from connectors.base import ConnectionSettings, Tuning
from connectors.errors import (
    AuthenticationFailed,
    CrmUnavailable,
    MalformedAnswer,
    MisconfiguredConnection,
    QuotaExhausted,
    RateLimited,
)
from connectors.hubspot.connector import connect
from store.canonical import Company, Deal
from tests.contract.connectors.hubspot_portal import (
    QUICK,
    TOKEN,
    Waits,
    fresh,
    paths,
    portal,
    pull,
)
from tests.fixtures.sandboxes import Crm, Sandbox, start_sandbox

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with start_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def crm(shared: Sandbox) -> Crm:
    return fresh(shared.hubspot)


# ---------------------------------------------------------------- answers that are none


@pytest.mark.parametrize(
    "path",
    ["objects/deals?", "deals/search", "batch/read", "associations", "properties", "pipelines"],
)
@pytest.mark.parametrize("kind", ["html", "cut_json"])
def test_no_call_takes_a_broken_answer_for_its_end(crm: Crm, path: str, kind: str) -> None:
    ids = crm.create_many("deals", [{"dealname": f"D{n}"} for n in range(3)])
    crm.fault(kind, path=path, status=200, times=2)

    with portal(crm) as connector:
        pulled = pull(connector, "deals")

    assert pulled.ids("deals") == set(ids)
    assert not pulled.deleted


@pytest.mark.parametrize("path", ["objects/deals?", "deals/search", "batch/read", "associations"])
@pytest.mark.parametrize(
    "body",
    [
        *('{"status": "COMPLETE"}', "[]", "null", '{"results": null}'),
        *('{"results": [null]}', '{"results": [{"properties": {}}]}'),
    ],
)
def test_json_without_results_is_a_fault(crm: Crm, path: str, body: str) -> None:
    crm.create("deals", {"dealname": "D"})
    crm.fault("status", path=path, status=200, body=body, times="forever")

    with portal(crm) as connector, pytest.raises(MalformedAnswer):
        pull(connector, "deals", LONG_AGO if "search" in path else None)


def test_an_empty_search_that_counts_records_is_asked_for_again(crm: Crm) -> None:
    deal_id = crm.create("deals", {"dealname": "D"})
    crm.fault("status", path="search", status=200, body={"total": 1, "results": []}, times=2)

    with portal(crm) as connector:
        assert pull(connector, "deals", LONG_AGO).ids("deals") == {deal_id}


def test_a_search_that_counts_records_and_never_shows_them_is_a_fault(crm: Crm) -> None:
    body = {"total": 1, "results": []}
    crm.fault("status", path="search", status=200, body=body, times="forever")

    with portal(crm) as connector, pytest.raises(MalformedAnswer):
        pull(connector, "deals", LONG_AGO)


def test_a_search_page_that_comes_twice_is_no_progress(crm: Crm) -> None:
    ids = crm.create_many("deals", [{"dealname": f"D{n}"} for n in range(4)])
    rows = [{"id": one, "properties": {}} for one in sorted(ids)[:2]]
    body = {"total": 4, "results": rows}

    with portal(crm, tuning=replace(QUICK, page_size=2)) as connector:
        crm.fault("status", path="search", status=200, body=body, after=1, times=2)
        pulled = pull(connector, "deals", LONG_AGO)

    assert pulled.ids("deals") == set(ids)


def test_list_pages_that_go_in_a_circle_are_a_fault(crm: Crm) -> None:
    deal_id = crm.create("deals", {"dealname": "D"})
    row = {"id": deal_id, "properties": {}, "archived": False}
    body = {"results": [row], "paging": {"next": {"after": deal_id}}}
    crm.fault("status", path="objects/deals?", status=200, body=body, times="forever")

    with portal(crm) as connector, pytest.raises(MalformedAnswer, match="not the one asked for"):
        pull(connector, "deals")


def test_a_record_no_reader_takes_stands_alone_in_the_dead_letters(crm: Crm) -> None:
    ids = crm.create_many("deals", [{"dealname": f"D{n}"} for n in range(12)])
    poison = '{"results": [{"id": 1, "properties": {"dealname": "\\x"}}]}'
    crm.fault("status", path="properties=dealname", status=200, body=poison, times="forever")
    crm.fault(
        "status",
        path="batch/read",
        body_contains=f'"{ids[7]}"',
        status=200,
        body=poison,
        times="forever",
    )

    with portal(crm) as connector:
        pulled = pull(connector, "deals")

    assert pulled.ids("deals") == set(ids) - {ids[7]}
    assert [one.ref.native_id for one in pulled.rejected] == [ids[7]]
    assert not pulled.deleted


def test_a_lone_surrogate_is_text_for_the_store_to_clean(crm: Crm) -> None:
    deal_id = crm.create("deals", {"dealname": "D"})
    row = f'{{"id": "{deal_id}", "properties": {{"dealname": "a\\ud800b", "hs_is_closed": "false"'
    body = f'{{"results": [{row}, "hs_is_closed_won": "false"}}}}]}}'
    crm.fault("status", path="properties=dealname", status=200, body=body, times=1)

    with portal(crm) as connector:
        deal = pull(connector, "deals").one("deals", deal_id)

    assert isinstance(deal, Deal)
    assert deal.name == "a\ud800b"


# ---------------------------------------------------------------- silence


def test_a_hanging_call_is_given_up_in_time(crm: Crm) -> None:
    tuning = replace(
        QUICK, read_timeout=timedelta(milliseconds=300), total_timeout=timedelta(seconds=1)
    )
    crm.fault("hang", path="/crm/", seconds=20, times="forever")
    started = time.monotonic()

    with portal(crm, tuning=tuning) as connector, pytest.raises(CrmUnavailable, match="in time"):
        pull(connector, "accounts")

    assert time.monotonic() - started < 2.5


def test_a_broken_connection_is_tried_again(crm: Crm) -> None:
    crm.create("deals", {"dealname": "D"})
    waits = Waits()

    with portal(crm, waits=waits) as connector:
        connector.check()
        crm.fault("disconnect", path="batch/read", times=2)
        pulled = pull(connector, "deals")

    assert len(pulled.ids("deals")) == 1
    assert len(waits.told) == 2
    assert all("broke" in reason for reason, _ in waits.told)


def test_every_try_is_counted_as_a_call(crm: Crm) -> None:
    crm.fault("status", path="account-info", status=502, times=2)

    with portal(crm) as connector:
        connector.check()

        assert connector.calls.made == len(crm.requests())


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that answers every connection in its own way."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65_536)
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        host, port = listener.getsockname()
        yield f"http://{host}:{port}"
        # A blocked accept does not notice that its socket closes.
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def settings(base_url: str, tuning: Tuning = QUICK) -> ConnectionSettings:
    return ConnectionSettings(
        name="web",
        type="hubspot",
        auth={"flow": "token", "token": TOKEN},
        company=Company(ZoneInfo("UTC"), "USD"),
        streams={},
        base_url=base_url,
        tuning=tuning,
        limits_storage=f"memory://{base_url}",
    )


def test_an_answer_that_trickles_is_given_up_in_time() -> None:
    def trickle(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            try:
                connection.sendall(b" ")
            except OSError:
                return
            time.sleep(0.05)

    tuning = replace(
        QUICK, total_timeout=timedelta(milliseconds=500), read_timeout=timedelta(seconds=5)
    )
    started = time.monotonic()
    with server(trickle) as address:
        connector = connect(settings(address, tuning))
        report = connector.check()
        connector.close()

    assert "in time" in report.problems[0].message
    assert time.monotonic() - started < 4


def test_a_redirect_is_not_followed_with_our_token() -> None:
    seen: list[int] = []

    def redirect(connection: socket.socket) -> None:
        seen.append(1)
        target = connection.getsockname()
        connection.sendall(
            f"HTTP/1.1 302 Found\r\nLocation: http://{target[0]}:{target[1]}/elsewhere\r\n"
            "Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )

    with server(redirect) as address:
        connector = connect(settings(address))
        report = connector.check()
        connector.close()

    assert "redirect" in report.problems[0].message
    assert len(seen) == 1


def test_an_answer_without_a_date_cannot_fix_a_window() -> None:
    def undated(connection: socket.socket) -> None:
        body = b'{"portalId": 1}'
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)

    with server(undated) as address:
        connector = connect(settings(address))
        report = connector.check()
        connector.close()

    assert "Date" in report.problems[0].message


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"policyName": "TEN_SECONDLY_ROLLING", "message": "ten_secondly_rolling"}, 10.0),
        ({"message": "You have reached your secondly limit.", "category": "RATE_LIMITS"}, 1.0),
    ],
)
def test_a_429_says_how_long_it_would_take(crm: Crm, body: dict[str, str], seconds: float) -> None:
    crm.fault("status", path="companies/search", status=429, body=body, times="forever")
    tuning = replace(QUICK, retry_wait_max=timedelta(milliseconds=500))

    with portal(crm, tuning=tuning) as connector, pytest.raises(RateLimited) as caught:
        pull(connector, "accounts", LONG_AGO)

    assert caught.value.wait_seconds == seconds
    assert len(paths(crm, "search")) == 1


def test_a_search_limit_is_waited_out_and_told(crm: Crm) -> None:
    waits = Waits()
    company_id = crm.create("companies", {"name": "Account 0001"})
    body = {"message": "You have reached your secondly limit.", "category": "RATE_LIMITS"}
    crm.fault("status", path="search", status=429, body=body, times=1)

    with portal(crm, waits=waits) as connector:
        assert pull(connector, "accounts", LONG_AGO).ids("accounts") == {company_id}

    ((reason, seconds),) = waits.told
    assert "secondly" in reason
    assert 1.0 <= seconds < 1.2


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [(423, {}, 2.0), (429, {"Retry-After": "7"}, 7.0), (477, {"Retry-After": "86400"}, 86_400.0)],
)
def test_a_wait_that_hubspot_asks_for_is_kept(
    crm: Crm, status: int, headers: dict[str, str], seconds: float
) -> None:
    crm.fault("status", path="properties", status=status, headers=headers, times="forever")
    tuning = replace(QUICK, retry_wait_max=timedelta(seconds=1))

    with portal(crm, tuning=tuning) as connector, pytest.raises(RateLimited) as caught:
        pull(connector, "accounts")

    assert caught.value.wait_seconds == seconds


def test_the_burst_limit_of_the_portal_is_learned_and_kept(crm: Crm) -> None:
    time.sleep(1.0)  # until the calls of the test before have left the portal's window
    crm.settings(burst=20, burst_seconds=1)
    ids = crm.create_many("companies", [{"name": f"Account {n}"} for n in range(300)])
    waits = Waits()
    tuning = replace(QUICK, page_size=10)

    with portal(crm, tuning=tuning, waits=waits) as connector:
        pulled = pull(connector, "accounts")

    assert pulled.ids("accounts") == set(ids)
    assert 429 not in [one["status"] for one in crm.requests()]
    assert any("rate limit" in reason for reason, _ in waits.told)


def test_searches_keep_to_five_a_second(crm: Crm) -> None:
    crm.settings(search_per_second=5)
    ids = crm.create_many("companies", [{"name": f"Account {n}"} for n in range(12)])

    with portal(crm, tuning=replace(QUICK, page_size=1)) as connector:
        pulled = pull(connector, "accounts", LONG_AGO)

    assert pulled.ids("accounts") == set(ids)
    refused = [one for one in crm.requests() if one["status"] == 429]
    assert len(refused) <= 1


def test_a_used_up_day_pauses_until_hubspot_says_it_ends(crm: Crm) -> None:
    crm.fault(
        "status",
        path="properties",
        status=429,
        body={"policyName": "DAILY", "message": "You have reached your daily limit."},
        times="forever",
    )
    reset = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=3)
    crm.fault(
        "status",
        path="api-usage",
        status=200,
        body={"results": [{"currentUsage": 5, "resetsAt": reset.isoformat()}]},
        times="forever",
    )

    with portal(crm) as connector, pytest.raises(QuotaExhausted) as caught:
        pull(connector, "accounts")

    assert caught.value.until == reset
    assert len(paths(crm, "properties")) == 1


def test_a_used_up_day_ends_at_the_portals_midnight_where_nobody_says(crm: Crm) -> None:
    crm.settings(time_zone="Asia/Tokyo")
    with portal(crm, zone="US/Pacific") as connector:
        connector.check()
        crm.fault("status", status=429, body={"policyName": "DAILY"}, times="forever")
        with pytest.raises(QuotaExhausted) as caught:
            pull(connector, "accounts")

    midnight = caught.value.until.astimezone(ZoneInfo("Asia/Tokyo"))
    assert (midnight.hour, midnight.minute, midnight.second) == (0, 0, 0)
    assert timedelta(0) < midnight - datetime.now(UTC) <= timedelta(days=1)


# ---------------------------------------------------------------- credentials


def test_one_401_in_the_midst_of_a_run_is_a_hiccup(crm: Crm) -> None:
    company_id = crm.create("companies", {"name": "Account 0001"})
    body = {"category": "EXPIRED_AUTHENTICATION", "message": "expired"}
    crm.fault("status", path="batch/read", status=401, body=body, times=1)

    with portal(crm) as connector:
        assert pull(connector, "accounts").ids("accounts") == {company_id}


def test_a_dead_token_stops_after_one_more_try_and_is_never_shown(crm: Crm) -> None:
    body = {"category": "INVALID_AUTHENTICATION", "message": f"Unknown token {TOKEN}"}
    crm.fault("status", path="properties", status=401, body=body, times="forever")

    with portal(crm) as connector, pytest.raises(AuthenticationFailed) as caught:
        pull(connector, "accounts")

    assert len(paths(crm, "properties")) == 2
    assert "service key" in str(caught.value)
    assert TOKEN not in f"{caught.value} {caught.value!r} {caught.value.__cause__}"


@pytest.mark.parametrize(
    ("auth", "words"),
    [
        ({"flow": "token", "token": " "}, "token is missing"),
        ({"flow": "refresh_token", "client_id": "x"}, "client_secret is missing"),
        ({"flow": "password"}, "password is not supported"),
    ],
)
def test_credentials_that_cannot_work_are_refused_before_any_call(
    auth: dict[str, str], words: str
) -> None:
    with pytest.raises(MisconfiguredConnection, match=words):
        connect(replace(settings("http://127.0.0.1:9"), auth=auth))


def test_an_unknown_api_version_is_refused() -> None:
    with pytest.raises(MisconfiguredConnection, match=r"62\.0 is no version"):
        connect(replace(settings("http://127.0.0.1:9"), api_version="62.0"))
