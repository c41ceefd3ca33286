"""The transport under simple-salesforce: bounded in time, exact in numbers, honest about ends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from decimal import Decimal

import pytest
import requests

from connectors.base import CallCounter, Tuning
from connectors.salesforce.transport import Session

TUNING = Tuning(
    connect_timeout=timedelta(seconds=1),
    read_timeout=timedelta(seconds=1),
    total_timeout=timedelta(seconds=2),
)


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server of one connection that answers as told."""

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65_536)
            # The client may hang up, as it should.
            with suppress(OSError):
                answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            thread.join()


def get(base_url: str, calls: CallCounter | None = None) -> requests.Response:
    with Session(TUNING, calls or CallCounter(), base_url) as session:
        return session.get("https://acme.my.salesforce.com/services/data/?q=1")


def http(body: bytes, length: int | None = None) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


def test_numbers_lose_nothing() -> None:
    body = b'{"a": 0.1234567890123456789, "b": 1, "c": ' + b"9" * 5000 + b', "d": 1e400}'

    with serving(lambda connection: connection.sendall(http(body))) as url:
        answer = get(url).json()

    assert answer["a"] == Decimal("0.1234567890123456789")
    assert answer["b"] == 1
    assert isinstance(answer["c"], Decimal)
    assert answer["d"] == Decimal("1e400")


def test_endless_nesting_is_no_json() -> None:
    body = b"[" * 20_000 + b"]" * 20_000

    with serving(lambda connection: connection.sendall(http(body))) as url:
        answer = get(url)

    with pytest.raises(ValueError, match="nested"):
        answer.json()


def test_an_answer_that_drips_is_given_up_in_time() -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(http(b"", 1000))
        for _ in range(100):
            connection.sendall(b" ")
            time.sleep(0.1)

    started = time.monotonic()
    with serving(drip) as url, pytest.raises(requests.ReadTimeout):
        get(url)

    assert time.monotonic() - started < 4


def test_an_answer_that_stops_is_given_up_in_time() -> None:
    def stop(connection: socket.socket) -> None:
        connection.sendall(http(b"{", 1000))
        time.sleep(1.5)

    with serving(stop) as url, pytest.raises(requests.ReadTimeout):
        get(url)


def test_an_answer_cut_off_is_no_answer() -> None:
    with (
        serving(lambda connection: connection.sendall(http(b"[]", 1000))) as url,
        pytest.raises(requests.ConnectionError),
    ):
        get(url)


def test_calls_go_to_the_base_url_with_the_wanted_host_and_are_counted() -> None:
    seen: list[bytes] = []
    calls = CallCounter()

    def remember(connection: socket.socket) -> None:
        connection.sendall(http(b"{}"))

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                seen.append(connection.recv(65_536))
                remember(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        get(f"http://127.0.0.1:{listening.getsockname()[1]}", calls)
        thread.join()

    assert seen[0].startswith(b"GET /services/data/?q=1 HTTP/1.1\r\n")
    assert b"X-Forwarded-Host: acme.my.salesforce.com\r\n" in seen[0]
    assert calls.made == 1


def test_a_netrc_cannot_replace_the_token(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("machine acme.my.salesforce.com login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    session = Session(TUNING, CallCounter(), None)

    prepared = session.prepare_request(
        requests.Request(
            "GET", "https://acme.my.salesforce.com/", headers={"Authorization": "Bearer token"}
        )
    )

    assert prepared.headers["Authorization"] == "Bearer token"
