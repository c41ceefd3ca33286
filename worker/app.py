"""Server mode: the Celery application, its settings as measured, and its processes.

The broker is a doorbell. Messages carry names; what is due stands in the database, so a lost,
doubled or late message changes latency and nothing else.
"""

from __future__ import annotations

import functools
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import structlog
from celery import Celery, signals
from celery.beat import Scheduler
from kombu.entity import Exchange, Queue
from sqlalchemy import Engine

from config.errors import ConfigurationError
from config.loader import load
from config.models import Config
from store.engine import open_store
from store.errors import SchemaTooNew, SchemaTooOld, StoreUnavailable
from store.schema import ensure_current
from worker import observe
from worker.health import Pulse
from worker.reloading import LiveRuntime
from worker.runtime import open_runtime
from worker.settings import secrets_of
from worker.slots import Slots, places
from worker.watching import Watch

SWEEP: Final = "kpisync.sweep"
PULL: Final = "kpisync.pull_stream"
COMPUTE: Final = "kpisync.compute"
PUSH: Final = "kpisync.push_writeback"
COMPARE: Final = "kpisync.compare_writeback"
COPY: Final = "kpisync.copy_to_sink"
VERIFY: Final = "kpisync.verify_share"

RING_EVERY: Final = timedelta(seconds=2)
VISIBILITY_TIMEOUT_SECONDS: Final = 900
MAIN_QUEUE: Final = "kpisync"

STOP_SECONDS: Final = 25.0
"""How long steps under way may take to come to a good place once SIGTERM has come."""

_MOST_WAITING: Final = 10
"""Messages in the main queue beyond which beat is silent."""

_LONGEST_WAIT_SECONDS: Final = 5.0
_CLOCK_JUMP_SECONDS: Final = 30.0
_EXIT_FAILED: Final = 1
_EXIT_CONFIGURATION: Final = 3


def queue_of(connection: str) -> str:
    """The queue of a connection: a slow CRM does not hold up the others' workers."""
    return f"{MAIN_QUEUE}.{connection}"


def settings_for(config: Config) -> dict[str, object]:
    """Celery's settings; each departs from its default for a reason."""
    return {
        "broker_url": str(config.broker),
        "include": ["worker.tasks"],
        # Nothing is read from results, and nothing but plain names is sent.
        "task_ignore_result": True,
        "result_backend": None,
        "task_serializer": "json",
        "accept_content": ["json"],
        "enable_utc": True,
        # A message goes back when the child or the whole worker that had it is killed.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        # After a killed worker its messages reappear within 15 minutes; the next ring of the bell
        # has long made up for them.
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            # A connection into a black hole would keep a worker alive and idle for ever, and each
            # of its connections is found out one after the other.
            "socket_timeout": 5,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 5,
            "retry_on_timeout": True,
        },
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": 5,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Whoever rings while Redis is away gives up at once: the next ring comes anyway.
        "task_publish_retry": False,
        "worker_soft_shutdown_timeout": 30.0,
        "worker_enable_soft_shutdown_on_idle": False,
        "worker_max_tasks_per_child": 200,
        "worker_max_memory_per_child": 300_000,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": False,
        "worker_proc_alive_timeout": 30.0,
        # Steps end by themselves long before; this is for a hang nobody thought of.
        "task_soft_time_limit": VISIBILITY_TIMEOUT_SECONDS - 60,
        "task_time_limit": VISIBILITY_TIMEOUT_SECONDS - 30,
        "task_default_queue": MAIN_QUEUE,
        "task_default_exchange": MAIN_QUEUE,
        "task_default_routing_key": MAIN_QUEUE,
        "task_create_missing_queues": True,
        "task_queues": [
            # With keys of their own: Celery's default key would bind every queue to every message.
            Queue(name, Exchange(MAIN_QUEUE), routing_key=name)  # type: ignore[no-untyped-call]  # kombu has no types
            for name in (MAIN_QUEUE, *(queue_of(one) for one in config.connections))
        ],
        "beat_scheduler": "worker.app:Bell",
        "beat_max_loop_interval": 5,
        "beat_schedule": {
            "sweep": {
                "task": SWEEP,
                "schedule": RING_EVERY.total_seconds(),
                # Without `expires`, which compares the clocks of two hosts: beat is silent while
                # rings wait, so that few of them are ever late.
                "options": {"queue": MAIN_QUEUE},
            }
        },
    }


def config_path() -> Path:
    """The configuration every process of server mode reads."""
    return Path(os.environ.get("KPISYNC_CONFIG") or "kpisync.yaml")


def _load_or_end() -> Config:
    try:
        return load(config_path(), dict(os.environ))
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log yet
        sys.exit(_EXIT_CONFIGURATION)


config: Final = _load_or_end()
"""Read once, before any child is forked: a file that breaks later breaks no running worker."""

app: Final = Celery("kpisync")
app.conf.update(settings_for(config))


# ---------------------------------------------------------------- starting


def _set_up_logging(**_: object) -> None:
    observe.hide(secrets_of(config))
    observe.configure_logging(log_format=os.environ.get("KPISYNC_LOG_FORMAT") or "text")


def _database_ready() -> Engine:
    """Wait for the database and its schema, visibly; end when we are older than it is."""
    engine = open_store(config.database)
    log = structlog.get_logger("kpisync.start")
    wait = 0.5
    while True:
        try:
            ensure_current(engine)
        except SchemaTooNew as error:
            print(error, file=sys.stderr)  # noqa: T201 - the one line a supervisor's log shows
            raise SystemExit(_EXIT_FAILED) from None
        except (StoreUnavailable, SchemaTooOld) as error:
            log.warning("waiting for the database", reason=str(error))
            time.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
        else:
            return engine


_pulses: dict[str, Pulse] = {}


def _start_pulse(role: str) -> None:
    pulse = Pulse(_database_ready(), role)
    _pulses[role] = pulse
    pulse.start()


def _stop_pulse(role: str) -> None:
    pulse = _pulses.pop(role, None)
    if pulse is not None:
        pulse.stop()


def _worker_begins(**_: object) -> None:
    _database_ready().dispose()


def _worker_is_ready(**_: object) -> None:
    _start_pulse("worker")


def _worker_ends(**_: object) -> None:
    _stop_pulse("worker")


_slots = Slots(1)


def slots() -> Slots:
    """The places of connections among the processes of this worker."""
    return _slots


# ---------------------------------------------------------------- stopping

_stopping: Final = os.pipe()
"""Made before any child is forked: a byte in it tells all of them that the worker stops."""


def when_stopping(stop: Callable[[], None]) -> None:
    """Have `stop` called in this child as soon as its worker is asked to stop."""

    def wait() -> None:
        # Left unread, so that every child sees it.
        select.select([_stopping[0]], [], [])
        stop()

    threading.Thread(target=wait, name="stopping", daemon=True).start()


def _worker_is_stopping(**_: object) -> None:
    """SIGTERM: steps end at their next good place, and those that do not are cut off.

    Celery itself would wait for the end of every step, and read 100,000 rows on the way.
    """
    os.write(_stopping[1], b".")
    threading.Thread(target=_cut_off, name="cut-off", daemon=True).start()


def _cut_off() -> None:
    time.sleep(STOP_SECONDS)
    structlog.get_logger("kpisync.stop").warning(
        "steps under way were cut off; the next worker goes on from what they had committed"
    )
    _stop_pulse("worker")
    # The children end with us: Celery has asked the kernel for it.
    os._exit(0)


# ---------------------------------------------------------------- beat


class Bell(Scheduler):  # type: ignore[misc]  # Celery ships no types
    """Celery's plain scheduler (nothing on disk) that ends when the clock jumps.

    After a jump backwards Celery's own beat would sit silent until the old time comes again; its
    supervisor starts a new one that rings at once.
    """

    has_lost_time = False
    """Celery ends in peace on any SystemExit; this remembers that ours was none."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._apart = _clocks_apart()

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Ring what is due; returns seconds to the next look."""
        jump = _clocks_apart() - self._apart
        if abs(jump) > _CLOCK_JUMP_SECONDS:
            sentence = (
                f"the clock jumped by {jump:.0f} seconds; beat ends and must be started again"
            )
            print(sentence, file=sys.stderr)  # noqa: T201 - the one line a supervisor's log shows
            Bell.has_lost_time = True
            raise SystemExit(_EXIT_FAILED)
        self._apart += jump
        return float(super().tick(*args, **kwargs))

    def apply_async(self, entry: Any, *args: Any, **kwargs: Any) -> Any:
        """Send one ring; a broker that is away is told once per ring, never raised."""
        try:
            if self._waiting() >= _MOST_WAITING:
                # Nobody listens, or all are busy: more rings would fill Redis, not hurry anybody.
                return None
            return super().apply_async(entry, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - of any kind: the next ring comes anyway
            structlog.get_logger("kpisync.beat").warning(
                "the broker does not take the ring; trying again", reason=str(error)
            )
            return None

    def _waiting(self) -> int:
        with self.app.producer_or_acquire() as producer:
            return int(producer.channel.client.llen(MAIN_QUEUE))


def _clocks_apart() -> float:
    """Wall clock minus monotonic clock: constant unless somebody sets the clock."""
    return time.time() - time.monotonic()


@functools.cache
def _watched() -> LiveRuntime:
    """Beat's own connections, opened where it watches: ringing does not wait for them."""
    return LiveRuntime(config_path(), open_runtime(config))


_watch: Final = Watch(lambda: _watched().current)


def _beat_begins(**_: object) -> None:
    _start_pulse("beat")
    _watch.start()


# By name, not by decorator: Celery's would take the functions' types away.
for _signal, _receiver in (
    (signals.setup_logging, _set_up_logging),
    (signals.worker_init, _worker_begins),
    (signals.worker_ready, _worker_is_ready),
    (signals.worker_shutting_down, _worker_is_stopping),
    (signals.worker_shutdown, _worker_ends),
    (signals.beat_init, _beat_begins),
):
    _signal.connect(_receiver, weak=False)


# ---------------------------------------------------------------- running


def run_worker(*, concurrency: int | None = None, queues: str | None = None) -> int:
    """Take work from the broker in the foreground until SIGTERM; returns an exit code."""
    global _slots  # noqa: PLW0603 - made once, before any child is forked
    _slots = Slots(places(concurrency or os.cpu_count() or 1, len(config.connections)))
    arguments = ["worker", "--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    if concurrency is not None:
        arguments += ["--concurrency", str(concurrency)]
    if queues is not None:
        arguments += ["--queues", queues]
    return _run(arguments)


def run_beat() -> int:
    """Ring in the foreground until SIGTERM; returns an exit code."""
    try:
        code = _run(["beat", "--loglevel", "INFO"])
    finally:
        _watch.stop()
        _stop_pulse("beat")
    return _EXIT_FAILED if Bell.has_lost_time else code


def _run(arguments: list[str]) -> int:
    # A folder with a config.py of its own would shadow ours in children that Celery starts.
    try:
        app.worker_main(arguments) if arguments[0] == "worker" else app.start(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else _EXIT_FAILED * bool(end.code)
    return 0
