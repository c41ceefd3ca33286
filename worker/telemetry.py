"""Optional: faults to Sentry, a span for each step to an OpenTelemetry collector.

Both are extras of the package (``kpisync[sentry]``, ``kpisync[otel]``), off unless the variables
that their own tools know are set: ``SENTRY_DSN``, ``OTEL_EXPORTER_OTLP_ENDPOINT``. What leaves is
redacted like the log, and holds names, states and counts, never a record.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import structlog

from worker import observe
from worker.results import RunResult, State

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer
    from sentry_sdk.types import Event, Hint

SENTRY: Final = "SENTRY_DSN"
OTEL: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"

_COUNTS: Final = ("pulled", "stored", "unchanged", "dead", "sent", "failed", "calls")
_FLUSH_SECONDS: Final = 2.0


def _is_wanted(variable: str, package: str, extra: str) -> bool:
    if not os.environ.get(variable):
        return False
    if not _is_installed(package):
        structlog.get_logger("kpisync.telemetry").error(
            f"{variable} is set, but its package is not installed",
            remedy=f"Install kpisync[{extra}], or unset the variable.",
        )
        return False
    return True


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the package above it is missing
        return False


@functools.cache
def _has_sentry() -> bool:
    """Whether faults are reported; the first call of a process prepares it."""
    if not _is_wanted(SENTRY, "sentry_sdk", "sentry"):
        return False
    import sentry_sdk  # noqa: PLC0415 - an extra

    sentry_sdk.init(
        # Nothing by itself: variables of frames and what libraries collect may hold secrets.
        default_integrations=False,
        auto_enabling_integrations=False,
        include_local_variables=False,
        include_source_context=False,
        send_default_pii=False,
        max_breadcrumbs=0,
        before_send=_redacted,
    )
    return True


def _redacted(event: Event, _hint: Hint) -> Event:
    for name, value in list(event.items()):
        event[name] = observe.cleaned(value)  # type: ignore[literal-required]  # every part alike
    return event


@functools.cache
def _tracer() -> Tracer | None:
    """What makes spans; None: nobody listens. The first call of a process prepares it."""
    if not _is_wanted(OTEL, "opentelemetry.exporter.otlp.proto.http", "otel"):
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - an extra
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    name = os.environ.get("OTEL_SERVICE_NAME", "kpisync")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _flushes.append(lambda: provider.force_flush(int(_FLUSH_SECONDS * 1000)))
    return provider.get_tracer("kpisync")


_flushes: list[Callable[[], object]] = []


@contextmanager
def step(kind: str, subject: Mapping[str, str | None]) -> Iterator[Callable[[RunResult], None]]:
    """A span around one step of the product.

    Args:
        kind: What it does: ``pull``, ``compute``, ``push`` ...
        subject: Connection, stream, write-back and run, as far as it has them.

    Yields:
        What takes the step's result; without it the step ended by an exception.
    """
    tracer = _tracer()
    if tracer is None:
        yield _report
        return
    named = {f"kpisync.{name}": value for name, value in subject.items() if value}
    with tracer.start_as_current_span(
        f"kpisync {kind}", attributes=named, record_exception=False
    ) as span:
        yield functools.partial(_ended, span)


def _ended(span: Span, result: RunResult) -> None:
    from opentelemetry.trace import StatusCode  # noqa: PLC0415 - an extra

    span.set_attribute("kpisync.state", result.state.value)
    for name in _COUNTS:
        span.set_attribute(f"kpisync.{name}", getattr(result, name))
    if result.state in {State.FAILED, State.REFUSED, State.PARTLY_FAILED}:
        span.set_status(StatusCode.ERROR, observe.redacted(result.error or result.state.value))
    _report(result)


def _report(result: RunResult) -> None:
    """A step that failed, to Sentry; an unexpected error has been sent with its trace."""
    if result.state not in {State.FAILED, State.REFUSED} or not _has_sentry():
        return
    import sentry_sdk  # noqa: PLC0415 - an extra

    with sentry_sdk.new_scope() as scope:
        for name in ("connection", "stream", "writeback", "run"):
            scope.set_tag(name, getattr(result, name) or "")
        scope.fingerprint = [result.kind, result.connection or "", result.stream or ""]
        words = f"{result.kind} {result.state}: {result.error or ''}"
        sentry_sdk.capture_message(words, level="error", scope=scope)


def fault(error: BaseException) -> None:
    """An error that nobody expected, with its trace."""
    if _has_sentry():
        import sentry_sdk  # noqa: PLC0415 - an extra

        sentry_sdk.capture_exception(error)


def flush() -> None:
    """Send what waits; a process that ends calls this."""
    for send in _flushes:
        send()
    if _has_sentry.cache_info().currsize and _has_sentry():
        import sentry_sdk  # noqa: PLC0415 - an extra

        sentry_sdk.flush(_FLUSH_SECONDS)
