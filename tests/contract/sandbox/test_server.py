"""The sandbox as a process: start, end, clock, log, and the faults it serves on request."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest
import requests
from hubspot import HubSpot
from urllib3.exceptions import MaxRetryError

from tests.fixtures.sandboxes import Sandbox, SandboxRefusedError

from .conftest import Api

DEALS = "/crm/v3/objects/deals"


def test_it_serves_both_crms_on_loopback_soon_and_ends_on_sigterm(
    start_sandbox: Callable[..., Sandbox],
) -> None:
    began = time.monotonic()
    sandbox = start_sandbox()
    ready = time.monotonic() - began

    assert ready < 10, "about a quarter of a second on an idle machine"
    for crm in (sandbox.salesforce, sandbox.hubspot):
        assert crm.url.startswith("http://127.0.0.1:")
        assert isinstance(crm.snapshot(), dict)
    sandbox.process.terminate()
    assert sandbox.process.wait(10) == 0


def test_it_ends_with_the_process_that_started_it(sandbox: Sandbox) -> None:
    assert sandbox.process.stdin is not None

    sandbox.process.stdin.close()

    assert sandbox.process.wait(10) == 0


def test_ports_can_be_chosen(start_sandbox: Callable[..., Sandbox]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    sandbox = start_sandbox("--hubspot-port", str(port))

    assert f"http://127.0.0.1:{port}" == sandbox.hubspot.url


def test_a_port_that_is_taken_is_said_in_plain_words(start_sandbox: Callable[..., Sandbox]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(SandboxRefusedError) as refused:
            start_sandbox("--hubspot-port", str(port))

    assert refused.value.code == 1
    assert f"port {port}" in refused.value.said
    assert "Traceback" not in refused.value.said


def test_the_date_header_is_the_orgs_clock(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.clock(fix="2024-02-29T12:00:00Z")
    fixed = parsedate_to_datetime(api.get(DEALS).headers["Date"])
    sandbox.hubspot.clock(advance=90)
    advanced = parsedate_to_datetime(api.get(DEALS).headers["Date"])
    sandbox.hubspot.clock(run=True, move_to="2030-01-01T00:00:00Z")
    moved = parsedate_to_datetime(api.get(DEALS).headers["Date"])

    assert datetime(2024, 2, 29, 12, tzinfo=UTC) == fixed
    assert datetime(2024, 2, 29, 12, 1, 30, tzinfo=UTC) == advanced
    assert moved.year == 2030
    other = requests.get(sandbox.salesforce.url + "/services/data/", timeout=20)
    assert abs(parsedate_to_datetime(other.headers["Date"]) - datetime.now(UTC)).seconds < 60


def test_requests_are_logged_with_their_status_and_admin_calls_are_not(
    sandbox: Sandbox, api: Api
) -> None:
    api.get(DEALS, limit=5)
    api.get(f"{DEALS}/1")

    assert [("GET", DEALS, "limit=5", 200), ("GET", f"{DEALS}/1", "", 404)] == [
        (line["method"], line["path"], line["query"], line["status"])
        for line in sandbox.hubspot.requests()
    ]
    assert sandbox.salesforce.requests() == []
    sandbox.hubspot.forget()
    assert sandbox.hubspot.requests() == []


@pytest.mark.parametrize(
    ("what", "status", "body"),
    [
        (
            {"kind": "status", "status": 503, "body": {"message": "busy"}},
            503,
            '{"message": "busy"}',
        ),
        (
            {"kind": "status", "status": 418, "body": "", "headers": {"Retry-After": "9"}},
            418,
            "",
        ),
        ({"kind": "html", "status": 200}, 200, None),
        ({"kind": "html"}, 502, None),
        ({"kind": "empty"}, 200, ""),
    ],
    ids=str,
)
def test_an_answer_can_be_replaced(
    steady: Sandbox, steady_api: Api, what: dict[str, object], status: int, body: str | None
) -> None:
    steady.hubspot.admin("fault", **what)

    answer = steady_api.get(DEALS)

    assert status == answer.status_code
    if body is None:
        assert answer.headers["Content-Type"] == "text/html"
        assert answer.text.startswith("<html>")
    else:
        assert body == answer.text
    if "headers" in what:
        assert answer.headers["Retry-After"] == "9"
    assert steady_api.get(DEALS).status_code == 200, "once only"


def test_a_fault_picks_its_requests_and_lets_some_pass_first(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.fault(
        "status",
        status=500,
        times=2,
        after=1,
        method="post",
        path="/search",
        body_contains="amount",
    )

    def statuses(count: int, **body: object) -> list[int]:
        return [api.search("deals", **body).status_code for _ in range(count)]

    assert [api.get(DEALS).status_code, *statuses(1)] == [200, 200]
    asked = {"properties": ["amount"]}
    assert statuses(4, **asked) == [200, 500, 500, 200]


def test_a_fault_that_lasts_is_cleared(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.fault("status", status=503, times="forever", path="limit=1&archived")

    def status() -> int:
        return api.get(DEALS, limit=1, archived="false").status_code

    assert [status() for _ in range(5)] == [503] * 5
    sandbox.hubspot.clear_faults()
    assert status() == 200


def test_cut_json_is_no_json(sandbox: Sandbox, api: Api, client: HubSpot) -> None:
    sandbox.hubspot.create("deals", {})
    sandbox.hubspot.fault("cut_json", times=2)

    answer = api.get(DEALS)

    assert answer.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    # HubSpot's client makes of it a page without a list, and raises nothing.
    assert client.crm.deals.basic_api.get_page().results is None


def test_a_connection_can_close_before_anything_is_done(sandbox: Sandbox, api: Api) -> None:
    deal = sandbox.hubspot.create("deals", {"amount": "1"})
    sandbox.hubspot.fault("disconnect")

    with pytest.raises(requests.ConnectionError):
        api.patch(f"{DEALS}/{deal}", {"properties": {"amount": "2"}})

    assert sandbox.hubspot.journal() == []
    assert [line["status"] for line in sandbox.hubspot.requests()] == [0]


def test_an_answer_can_get_lost_after_the_write_was_done(sandbox: Sandbox, api: Api) -> None:
    deal = sandbox.hubspot.create("deals", {"amount": "1"})
    sandbox.hubspot.fault("lost_answer")

    with pytest.raises(requests.ConnectionError):
        api.patch(f"{DEALS}/{deal}", {"properties": {"amount": "2"}})

    assert [(line["old"], line["new"]) for line in sandbox.hubspot.journal()] == [("1", "2")]


def test_a_slow_answer_comes_late_and_keeps_nobody_else_waiting(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.fault("slow", seconds=1.0, path="limit=7")
    took: list[float] = []

    def ask() -> None:
        began = time.monotonic()
        api.get(DEALS, limit=7)
        took.append(time.monotonic() - began)

    slow = threading.Thread(target=ask)
    slow.start()
    while not took and sandbox.hubspot.requests() == []:
        api.get(DEALS)
    assert not took
    slow.join()
    assert took[0] >= 1.0


def test_a_hanging_request_meets_the_clients_timeout_and_does_not_hold_up_the_end(
    sandbox: Sandbox, client: HubSpot
) -> None:
    sandbox.hubspot.fault("hang", times="forever")

    # Left to itself, the client repeats a broken GET three times.
    with pytest.raises(MaxRetryError, match="Read timed out"):
        client.crm.deals.basic_api.get_page(_request_timeout=0.1)
    # A caller that sends and never reads is no client's call.
    port = int(sandbox.hubspot.url.rsplit(":", 1)[1])
    open_one = socket.create_connection(("127.0.0.1", port), timeout=20)
    with open_one:
        open_one.sendall(f"GET {DEALS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(0.2)
        began = time.monotonic()
        sandbox.process.terminate()
        assert sandbox.process.wait(10) == 0

    assert time.monotonic() - began < 5


def test_a_hang_ends_by_itself(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.fault("hang", seconds=0.3)

    with pytest.raises(requests.ConnectionError):
        api.get(DEALS)


@pytest.mark.parametrize(
    ("verb", "body", "status", "words"),
    [
        ("create", {}, 400, '"object" is missing'),
        ("create", {"object": "dealz", "fields": {}}, 400, "dealz"),
        ("create", {"object": "deals", "fields": {"amount": [1]}}, 400, "amount"),
        (
            "create",
            {"object": "deals", "fields": {}, "at": "2025-01-01T00:00:00"},
            400,
            "time zone",
        ),
        ("edit", {"object": "deals", "id": "404", "fields": {}}, 404, "deals has no record 404"),
        ("create", {"object": "deals", "commit_afer": 3}, 400, "unknown key commit_afer"),
        ("create", {"object": "deals", "associations": {"companies": ["404"]}}, 404, "404"),
        ("fault", {"kind": "earthquake"}, 400, "earthquake"),
        ("settings", {"colour": "red"}, 400, "colour"),
        ("settings", {"burst": "many"}, 400, "burst"),
        ("settings", {"time_zone": "Mars/Base"}, 400, "Mars/Base"),
        ("lag", {"seconds": "long"}, 400, "long"),
        ("set_stages", {"stages": [{"name": "A", "probability": "x"}]}, 400, "probability"),
        ("associate", {"from": "deals", "to": "companies"}, 400, '"id" is missing'),
        ("pipeline", {"id": "x"}, 400, '"label" is missing'),
    ],
    ids=str,
)
def test_an_admin_request_that_makes_no_sense_is_refused_in_words(
    steady: Sandbox, verb: str, body: dict[str, object], status: int, words: str
) -> None:
    answer = requests.post(f"{steady.hubspot.url}/__sandbox__/{verb}", json=body, timeout=20)

    assert status == answer.status_code
    assert words in answer.json()["error"]


def test_a_deal_can_be_created_with_its_companies(sandbox: Sandbox, api: Api) -> None:
    companies = sandbox.hubspot.create_many("companies", [{}, {}])

    deal = sandbox.hubspot.create("deals", {}, associations={"companies": companies})

    links = api.get(f"/crm/v4/objects/deals/{deal}/associations/companies").json()["results"]
    assert [
        (int(companies[0]), ["Primary", None]),
        (int(companies[1]), [None]),
    ] == [
        (link["toObjectId"], [one["label"] for one in link["associationTypes"]]) for link in links
    ]


def test_edits_of_many_records_bear_one_stamp(sandbox: Sandbox) -> None:
    ids = sandbox.hubspot.create_many("deals", [{}] * 50)
    sandbox.hubspot.edit("deals", ids, {"dealname": "bulk"})

    stamps = {record["modified"] for record in sandbox.hubspot.snapshot()["deals"]}

    assert len(stamps) == 1


def test_the_stages_of_the_pipeline_can_be_replaced(sandbox: Sandbox, api: Api) -> None:
    stages = [
        {"name": "Talking", "probability": 0.3},
        {"name": "Closed Won", "is_closed": True, "is_won": True, "probability": 1},
    ]
    sandbox.hubspot.admin("set_stages", stages=stages)

    shown = api.get("/crm/v3/pipelines/deals/default").json()["stages"]

    assert [(stage["id"], stage["label"]) for stage in shown] == [
        ("talking", "Talking"),
        ("closedwon", "Closed Won"),
    ]


def test_undeleting_brings_a_record_back(sandbox: Sandbox, api: Api) -> None:
    deal = sandbox.hubspot.create("deals", {"dealname": "D"})
    sandbox.hubspot.delete("deals", deal)
    sandbox.hubspot.undelete("deals", deal)

    assert [deal] == api.found("deals")
