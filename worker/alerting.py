"""Alerts: whoever should know is told once, reminded, and told when it is over.

What is wrong is derived from the tables at each look. What was told is remembered there too, so
that any number of processes tell it once. Delivery is by the library apprise.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import Connection

from config.errors import Problem
from config.models import AlertRule, Config
from store import alerts, runs
from store.engine import database_now, operating, reading
from store.errors import StoreError
from worker.holding import Busy
from worker.runtime import Runtime
from worker.status import Status, StreamStatus, gather

LOOK_EVERY: Final = timedelta(seconds=60)

EVERY_KIND: Final = (
    *("failed", "stale", "quarantine", "guard", "writeback_failed"),
    *("difference", "configuration"),
)
"""What is told where channels are configured without rules."""

_CONFIGURATION: Final = "configuration"
_LONGEST_REASON: Final = 500
_SENDING_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong now."""

    kind: str
    subject: str
    words: str


def look(runtime: Runtime) -> int:
    """Compare what is wrong with what was told, and tell the difference.

    Returns:
        How many notices were delivered.

    Raises:
        StoreUnavailable: The database is away.
    """
    config = runtime.config
    if not config.alerts.channels:
        return 0
    try:
        with runtime.leases.hold("alerts"):
            return _look(runtime, config)
    except Busy:
        return 0


def _look(runtime: Runtime, config: Config) -> int:
    found = gather(runtime)
    with reading(runtime.engine) as conn:
        now = database_now(conn)
        told = {(one.rule, one.subject): one for one in alerts.every(conn)}
        # Values that the CRM refused wait while later runs have nothing to write.
        pushes = _latest_pushes(conn, passing_over_idle=found.refused_writes > 0)
    delivered = 0
    wrong: set[tuple[str, str]] = set()
    for rule in _rules(config):
        mark = _mark(rule)
        for trouble in _troubles(rule, found, pushes, now):
            wrong.add((mark, trouble.subject))
            before = told.get((mark, trouble.subject))
            if _is_to_be_told(rule, before, now) and not _is_quiet(config, now):
                delivered += _tell(runtime, rule, trouble, before)
    for (mark, subject), before in told.items():
        is_over = (mark, subject) not in wrong and not _is_tried_again(found, before)
        if is_over and not _is_quiet(config, now):
            delivered += _tell_end(runtime, mark, before)
    return delivered


def _is_tried_again(found: Status, told: alerts.Told) -> bool:
    """Whether the stream of a notice is being read, and nobody knows yet how that ends."""
    return any(
        told.subject == f"{stream.connection}.{stream.stream}"
        and stream.state == "running"
        and (stream.last_success is None or stream.last_success <= told.since)
        for stream in found.streams
    )


# ---------------------------------------------------------------- what is wrong


def _rules(config: Config) -> Sequence[AlertRule]:
    everyone = tuple(config.alerts.channels)
    rules = config.alerts.rules
    if not rules:
        return [AlertRule(when=kind, to=everyone) for kind in EVERY_KIND]
    if any(rule.when == _CONFIGURATION for rule in rules):
        return rules
    # What was edited is not in force, other rules perhaps: everybody has to know.
    return [*rules, AlertRule(when=_CONFIGURATION, to=everyone)]


def _mark(rule: AlertRule) -> str:
    """Names a rule by what it says, so that its place in the file does not matter."""
    return json.dumps(rule.model_dump(mode="json", exclude={"to", "remind_every"}), sort_keys=True)


def _troubles(
    rule: AlertRule, found: Status, pushes: dict[str, runs.Run], now: datetime
) -> Iterator[Trouble]:
    match rule.when:
        case "writeback_failed":
            yield from _failed_writes(rule, pushes)
        case "guard":
            yield from _guarded(found)
        case "target_missed":
            yield from _missed(rule, found)
        case "difference":
            if found.verified.differing is not None:
                yield Trouble("difference", "verify", found.verified.differing)
        case "configuration":
            if found.configuration_fault is not None:
                said = f"the last good one stays in force: {found.configuration_fault}"
                yield Trouble(_CONFIGURATION, "configuration", said[:_LONGEST_REASON])
        case _:
            yield from _streams(rule, found, now)


def _missed(rule: AlertRule, found: Status) -> Iterator[Trouble]:
    for one in found.targets:
        if one.is_missed and rule.kpi in {None, one.target.kpi}:
            yield Trouble("target_missed", one.subject, one.words)


def _streams(rule: AlertRule, found: Status, now: datetime) -> Iterator[Trouble]:
    for stream in found.streams:
        if _concerns(rule, stream) and (words := _of_stream(rule, stream, now)):
            yield Trouble(rule.when, f"{stream.connection}.{stream.stream}", words)


def _concerns(rule: AlertRule, stream: StreamStatus) -> bool:
    return rule.stream in {None, "*", stream.stream, f"{stream.connection}.{stream.stream}"}


def _of_stream(rule: AlertRule, stream: StreamStatus, now: datetime) -> str | None:
    match rule.when:
        case "failed" if stream.state == "failed":
            return f"its last pull failed{_reason(stream)}"
        case "quarantine" if stream.state == "quarantined":
            return "three attempts in a row ended their process; it rests"
        case "stale":
            return _staleness(rule, stream, now)
        case _:
            return None


def _staleness(rule: AlertRule, stream: StreamStatus, now: datetime) -> str | None:
    last = stream.last_success
    # Of what failed, was refused or rests for three crashes there is a word of its own.
    is_overdue = stream.is_overdue and stream.state in {"late", "paused", "running"}
    if last is None:
        return f"nothing was read so far{_reason(stream)}" if is_overdue else None
    silent = now - last
    if not (is_overdue if rule.after is None else silent > rule.after):
        return None
    since = f"(last: {last:%Y-%m-%d %H:%M} UTC)"
    return f"nothing was read for {_span(silent)} {since}{_reason(stream)}"


def _reason(stream: StreamStatus) -> str:
    return f": {stream.error[:_LONGEST_REASON]}" if stream.error else ""


def _guarded(found: Status) -> Iterator[Trouble]:
    for name, state in found.writeback_states.items():
        if state == "refused":
            yield Trouble("guard", name, "a guard stopped the write-back; nothing was written")
    for stream in found.streams:
        if stream.state == "waiting" and stream.last_success is not None:
            place = f"{stream.connection}.{stream.stream}"
            words = f"records vanished and nothing was removed{_reason(stream)}"
            yield Trouble("guard", place, words)


def _failed_writes(rule: AlertRule, pushes: dict[str, runs.Run]) -> Iterator[Trouble]:
    for name, run in pushes.items():
        total = run.sent + run.failed
        share = run.failed / total if total else 0.0
        # What a guard stopped waits for a person, who has to know.
        if run.state in {"failed", "refused"} or share > float(rule.over or 0):
            counts = f"{run.failed:,} of {total:,} values failed"
            words = counts if run.failed else run.error or "it failed"
            yield Trouble("writeback_failed", name, words)


def _latest_pushes(conn: Connection, *, passing_over_idle: bool) -> dict[str, runs.Run]:
    newest: dict[str, runs.Run] = {}
    for run in runs.every(conn):
        if run.kind != "push" or not run.writeback or run.state == runs.RUNNING:
            continue
        is_idle = run.state == "ok" and not run.sent
        if not (is_idle and passing_over_idle):
            newest.setdefault(run.writeback, run)
    return newest


# ---------------------------------------------------------------- telling


def _is_to_be_told(rule: AlertRule, before: alerts.Told | None, now: datetime) -> bool:
    if before is None:
        return True
    return rule.remind_every is not None and now - before.told_at >= rule.remind_every


def _is_quiet(config: Config, now: datetime) -> bool:
    """Whether the company sleeps; what begins then is told when the quiet hours end."""
    hours = config.alerts.quiet
    if hours is None:
        return False
    begin, end = hours
    local = now.astimezone(config.company.timezone).time()
    # Hours that end before they begin lie around midnight.
    return begin <= local < end if begin <= end else local >= begin or local < end


def _tell(runtime: Runtime, rule: AlertRule, trouble: Trouble, before: alerts.Told | None) -> int:
    again = "still: " if before is not None else ""
    title = f"kpisync: {again}{trouble.subject} ({trouble.kind})"
    if not _deliver(runtime.config, rule.to, title, f"{trouble.subject}: {trouble.words}"):
        return 0
    with operating(runtime.engine) as conn:
        alerts.tell(conn, _mark(rule), trouble.subject, trouble.words, rule.to)
    return 1


def _tell_end(runtime: Runtime, mark: str, before: alerts.Told) -> int:
    kind = json.loads(mark).get("when", "")
    title = f"kpisync: over: {before.subject} ({kind})"
    words = f"{before.subject} is well again; it began {before.since:%Y-%m-%d %H:%M} UTC"
    if not _deliver(runtime.config, before.channels, title, words):
        return 0
    with operating(runtime.engine) as conn:
        alerts.forget(conn, mark, before.subject)
    return 1


def _deliver(config: Config, channels: Sequence[str], title: str, body: str) -> bool:
    """Whether every channel that still exists took the notice; a failure is tried again."""
    # Slow to import, and most commands alert nobody.
    from apprise import Apprise, AppriseAsset  # noqa: PLC0415

    log = structlog.get_logger("kpisync.alerts")
    is_taken = True
    for name in channels:
        secret = config.alerts.channels.get(name)
        if secret is None:
            continue
        sender = Apprise(asset=AppriseAsset(app_id="kpisync", async_mode=False))
        url = secret.get_secret_value()
        joint = "&" if "?" in url else "?"
        if not sender.add(f"{url}{joint}rto={_SENDING_SECONDS}&cto={_SENDING_SECONDS}"):
            log.error("the channel's URL is not understood; see docs/alerts.md", channel=name)
            is_taken = False
        elif not sender.notify(title=title, body=body):
            log.error("the channel did not take a notice; trying again", channel=name)
            is_taken = False
    return is_taken


def announce(config: Config, subject: str, words: str) -> bool:
    """Tell every channel of what the database cannot remember; whether all of them took it."""
    channels = tuple(config.alerts.channels)
    return _deliver(config, channels, f"kpisync: {subject}", words)


def channel_problems(config: Config) -> Iterator[Problem]:
    """Channels whose URL no notice can be sent to."""
    if not config.alerts.channels:
        return
    from apprise import Apprise  # noqa: PLC0415  # slow to import

    for name, secret in config.alerts.channels.items():
        if not Apprise().add(secret.get_secret_value()):
            yield config.problem(
                ("alerts", "channels", name),
                "No notice can be sent to this URL.",
                "docs/alerts.md lists the kinds: mailto://, slack://, msteams://, json:// ...",
            )


def _span(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"  # noqa: PLR2004  # an hour


def look_calmly(runtime: Runtime) -> None:
    """`look`, where alerting must not stop the work that it watches."""
    with suppress(StoreError):
        look(runtime)
