"""The HTTP side of a server: health and metrics to look at, doorbells for CRMs to ring.

Everything shown is read from the database at the moment of asking: no counter lives in a process
that may die. Webhooks are a doorbell as the broker is: a rung stream is pulled earlier, and one
that nobody rang for is pulled on schedule.
"""

from __future__ import annotations

import hmac
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
import uvicorn
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from connectors.base import Doorbell, WebRequest
from connectors.errors import ConnectorError
from store import checkpoints, runs
from store.engine import operating, reading
from store.errors import StoreError
from worker import observe
from worker.health import Pulse
from worker.pulling import stream_names
from worker.runtime import Runtime
from worker.status import Status, gather
from worker.watching import Watch

ROLE: Final = "web"
LONGEST_BODY: Final = 1_000_000
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class NotProtectedError(Exception):
    """The address can be reached from outside, and no token is set."""

    def __str__(self) -> str:
        """What to do."""
        return (
            "beyond this machine the pages need a token: set KPISYNC_WEB_TOKEN (or name a file "
            "with it in KPISYNC_WEB_TOKEN_FILE) and send it as `Authorization: Bearer ...`, or "
            "bind to 127.0.0.1"
        )


def serve(
    runtime: Runtime, host: str, port: int, current: Callable[[], Runtime] | None = None
) -> None:
    """Answer until SIGTERM or Ctrl-C, and tell of troubles meanwhile.

    Args:
        runtime: What the pages show.
        host: Where to listen.
        port: Where to listen.
        current: The runtime whose troubles are told, exchanged with the configuration.

    Raises:
        NotProtectedError: `host` is no loopback address and KPISYNC_WEB_TOKEN is not set.
        StoreUnavailable: The database is away when it starts.
    """
    token = _token()
    if host not in LOOPBACK and not token:
        raise NotProtectedError
    server = uvicorn.Server(
        uvicorn.Config(
            application(runtime, token),
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=10,
        )
    )
    # uvicorn hands a signal on once it has ended; by then we have done what it asked for.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with Pulse(runtime.engine, ROLE), Watch(current or (lambda: runtime)):
        runtime.progress.say(f"http://{host}:{port}/health and /metrics")
        server.run()


def _token() -> str:
    """What a reader must present; empty where nothing is set."""
    file = os.environ.get("KPISYNC_WEB_TOKEN_FILE")
    token = Path(file).read_text(encoding="utf-8") if file else os.environ.get("KPISYNC_WEB_TOKEN")
    token = (token or "").strip()
    if token:
        observe.hide({token})
    return token


def application(runtime: Runtime, token: str = "") -> Starlette:  # no token is a choice on loopback
    """The pages as an ASGI application.

    Args:
        runtime: What they show.
        token: What a reader must present; empty: nothing.
    """

    def guarded(page: Callable[[], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            if not _is_welcome(request, token):
                return PlainTextResponse("a token is needed\n", status_code=401)
            return await run_in_threadpool(page)

        return answer

    async def ring(request: Request) -> Response:
        return await _ring(runtime, request)

    return Starlette(
        routes=[
            Route("/health", guarded(lambda: _health(runtime))),
            Route("/metrics", guarded(lambda: _metrics(runtime))),
            Route("/hooks/{connection}", ring, methods=["POST"]),
        ]
    )


def _is_welcome(request: Request, token: str) -> bool:
    if not token:
        return True
    said = request.headers.get("authorization", "").removeprefix("Bearer ")
    return hmac.compare_digest(said.encode(), token.encode())


# ---------------------------------------------------------------- health


def _health(runtime: Runtime) -> Response:
    """200 while everything is as it should be, 503 with the reasons otherwise."""
    try:
        found = gather(runtime)
    except StoreError as error:
        return JSONResponse({"ok": False, "messages": [str(error)]}, status_code=503)
    is_well = not found.has_failed and not found.is_stale
    return JSONResponse(
        {"ok": is_well, "messages": list(found.sentences)}, status_code=200 if is_well else 503
    )


# ---------------------------------------------------------------- metrics


def _metrics(runtime: Runtime) -> Response:
    registry = CollectorRegistry()
    try:
        found = gather(runtime)
        registry.register(_Collector(runtime, found))
    except StoreError as error:
        return PlainTextResponse(f"# {error}\n", status_code=503)
    return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")


class _Collector(Collector):
    """The state of everything as Prometheus metrics."""

    def __init__(self, runtime: Runtime, found: Status) -> None:
        self._runtime = runtime
        self._found = found

    def collect(self) -> Iterator[Metric]:
        """Gauges, each read from the tables just now."""
        yield from self._streams()
        yield from self._stock()
        yield from self._quota()
        yield from self._runs()

    def _streams(self) -> Iterator[Metric]:
        lag = _gauge("stream_lag_seconds", "Age of what a stream is complete up to.", *_STREAM)
        state = _gauge("stream_state", "1 for the state a stream is in.", *_STREAM, "state")
        rejects = _gauge("stream_rejects", "Records that could not be read.", *_STREAM)
        for one in self._found.streams:
            place = [one.connection, one.stream]
            if one.lag_seconds is not None:
                lag.add_metric(place, one.lag_seconds)
            state.add_metric([*place, one.state], 1)
            rejects.add_metric(place, one.rejects)
        yield from (lag, state, rejects)

    def _stock(self) -> Iterator[Metric]:
        dirty = _gauge("dirty_keys", "Cells whose values are not published yet.")
        dirty.add_metric([], self._found.dirty_keys)
        outbox = _gauge("outbox", "Field updates by state.", "state")
        for state, count in self._found.outbox.items():
            outbox.add_metric([state], count)
        silent = _gauge("heartbeat_silent_seconds", "Since a process last spoke.", "role", "host")
        for beat in self._found.heartbeats:
            silent.add_metric([beat.role, beat.host], beat.silent_seconds)
        yield from (dirty, outbox, silent)

    def _quota(self) -> Iterator[Metric]:
        made = _gauge("api_calls_24h", "API calls in the last 24 hours.", "connection", "purpose")
        org = _gauge("org_calls", "Calls of the whole org, as the CRM says.", "connection")
        limit = _gauge("org_calls_limit", "The org's own limit.", "connection")
        for quota in self._found.quota:
            usage = quota.usage
            for purpose, count in usage.calls.items():
                made.add_metric([usage.connection, purpose], count)
            if usage.org_calls is not None and usage.org_limit is not None:
                org.add_metric([usage.connection], usage.org_calls)
                limit.add_metric([usage.connection], usage.org_limit)
        yield from (made, org, limit)

    def _runs(self) -> Iterator[Metric]:
        ended = _gauge("last_run_timestamp_seconds", "When a step last ended.", *_RUN)
        newest: dict[tuple[str, str, str], float] = {}
        with reading(self._runtime.engine) as conn:
            for run in runs.every(conn, limit=_RUNS_LOOKED_AT):
                if run.ended is not None:
                    subject = run.writeback or ".".join(filter(None, (run.connection, run.stream)))
                    newest.setdefault((run.kind, subject, run.state), run.ended.timestamp())
        for labels, instant in newest.items():
            ended.add_metric(list(labels), instant)
        yield ended


_STREAM: Final = ("connection", "stream")
_RUN: Final = ("kind", "subject", "state")
_RUNS_LOOKED_AT: Final = 1_000


def _gauge(name: str, words: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"kpisync_{name}", words, labels=list(labels))


# ---------------------------------------------------------------- doorbells


async def _ring(runtime: Runtime, request: Request) -> Response:
    """Note which streams a genuine notification concerns; whatever else it says is not used."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_BODY:
            return PlainTextResponse("the notification is too long\n", status_code=413)
    asked = WebRequest(
        method=request.method,
        url=_public_url(request),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=bytes(body),
    )
    name = str(request.path_params["connection"])
    return await run_in_threadpool(lambda: _rung(runtime, name, asked))


def _rung(runtime: Runtime, name: str, request: WebRequest) -> Response:
    log = structlog.get_logger("kpisync.web")
    bell = _bell(runtime, name)
    if bell is None:
        return PlainTextResponse("nothing listens here\n", status_code=404)
    try:
        streams = bell.rung(request, datetime.now(UTC))
    except ConnectorError as error:
        log.warning("a notification was refused", connection=name, reason=error.message)
        return PlainTextResponse("refused\n", status_code=401)
    known = set(stream_names(runtime, name))
    try:
        with operating(runtime.engine) as conn:
            for stream in sorted(streams & known):
                checkpoints.ring(conn, name, stream)
    except StoreError as error:
        log.warning("a notification could not be noted", connection=name, reason=str(error))
        return PlainTextResponse("try again later\n", status_code=503)
    return Response(status_code=204)


def _bell(runtime: Runtime, name: str) -> Doorbell | None:
    if name not in runtime.config.connections:
        return None
    connector: object = runtime.connector(name)
    return connector if isinstance(connector, Doorbell) else None


def _public_url(request: Request) -> str:
    """The address the CRM used: a proxy in front says so in its own headers."""
    scheme = request.headers.get("x-forwarded-proto", request.url.scheme)
    host = request.headers.get("x-forwarded-host", request.headers.get("host", ""))
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{scheme}://{host}{request.url.path}{query}"
