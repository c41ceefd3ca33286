"""Logs: events with fields on stderr, as text or JSON, never with a secret."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import asdict
from typing import Any, Final

import orjson
import structlog

from worker.results import RunResult, State

REDACTED: Final = "[redacted]"

_SHORTEST_SECRET: Final = 4
_DEEPEST: Final = 6

_secrets: set[str] = set()

_CREDENTIALS_IN_TEXT: Final = (
    re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/!=-]{6,}"),
    re.compile(r"(?i)\b(authorization)\b\"?'?\s*[:=]\s*\"?'?(?:\w+\s+)?[\w.~+/!=-]{6,}"),
    re.compile(
        r"(?i)\b(access_token|refresh_token|client_secret|password)\b(\"?'?\s*[:=]\s*\"?'?)[^\s\"'&,}]+"
    ),
    re.compile(r"(?i)([a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@/]+(?=@)"),
)

_SECRET_FIELDS: Final = re.compile(
    r"(?i)authorization|token|secret|password|private_key|api_key|cookie"
)

_NOISY: Final = (
    *("urllib3", "simple_salesforce", "hubspot", "alembic", "kombu", "amqp", "asyncio"),
    # A line for every ring and every empty look would drown the ones that matter.
    *("celery.beat", "celery.app.trace", "celery.worker.strategy"),
)

_COUNTS: Final = (
    *("pulled", "stored", "dead", "changed_values", "sent", "failed", "skipped", "calls"),
)

EventDict = MutableMapping[str, Any]
"""structlog's own type of an event: fields of any kind."""


def configure_logging(
    *, log_format: str = "text", is_verbose: bool = False, is_quiet: bool = False
) -> None:
    """Send our log and that of every library to stderr, redacted.

    Args:
        log_format: ``text`` or ``json``.
        is_verbose: Show every step.
        is_quiet: Show faults only.
    """
    level = logging.INFO
    if is_verbose:
        level = logging.DEBUG
    elif is_quiet:
        level = logging.ERROR
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.processors.format_exc_info],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                redact,
                _renderer(log_format),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(level if is_verbose else max(level, logging.WARNING))


def log_result(result: RunResult) -> None:
    """One event for a step that did something, loud when it did not end well."""
    log = structlog.get_logger("kpisync.step")
    facts = asdict(result)
    named = ("connection", "stream", "writeback", "run", *_COUNTS, "error")
    fields = {name: facts[name] for name in named if facts[name]}
    fields |= {"step": result.kind.value, "state": result.state.value}
    if result.state in {State.FAILED, State.REFUSED, State.PARTLY_FAILED}:
        log.error("step did not end well", **fields)
    elif result.state in {State.PAUSED, State.WAITING, State.INTERRUPTED}:
        log.warning("step waits", why="; ".join(result.warnings), **fields)
    elif result.stored or result.sent or result.dead:
        log.info("step done", **fields)
    else:
        log.debug("step done", **fields)


def hide(secrets: Iterable[str]) -> None:
    """From now on these texts never reach the log."""
    _secrets.update(text for text in secrets if len(text) >= _SHORTEST_SECRET)


def redacted(text: str) -> str:
    """`text` without known secrets and without anything that looks like a credential."""
    text = text.encode(errors="replace").decode()  # half a character would end the log
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    for pattern in _CREDENTIALS_IN_TEXT:
        text = pattern.sub(rf"\1 {REDACTED}", text)
    return text


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """The last processor before an event becomes text."""
    return {
        name: REDACTED if _SECRET_FIELDS.search(name) else _clean(value, 0)
        for name, value in event.items()
    }


def cleaned(value: object) -> object:
    """A value of any depth as `redact` leaves it."""
    return _clean(value, 0)


def _clean(value: object, depth: int) -> object:
    if isinstance(value, str):
        return redacted(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {
            str(key): REDACTED if _SECRET_FIELDS.search(str(key)) else _clean(inner, depth + 1)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(inner, depth + 1) for inner in value]
    return redacted(str(value))


def _renderer(log_format: str) -> structlog.typing.Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer(serializer=_as_json_text)
    return _as_line


def _as_json_text(event: object, **_: object) -> str:
    return orjson.dumps(event, default=str).decode()


def _as_line(_logger: object, _method: str, event: EventDict) -> str:
    """``2026-01-31T03:00:00Z info  page committed  connection=salesforce stream=deals``."""
    fields = dict(event)
    stamp = str(fields.pop("timestamp", ""))[:19] + "Z"
    level = fields.pop("level", "info")
    trace = fields.pop("exception", None)
    words = _printable(str(fields.pop("event", "")))
    pairs = " ".join(f"{name}={_printable(str(value))}" for name, value in fields.items())
    line = f"{stamp} {level:<7} {words}" + (f"  {pairs}" if pairs else "")
    return f"{line}\n{trace}" if trace else line


def _printable(text: str) -> str:
    """One line, and nothing that drives a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
