"""A connection takes no more than its share of a worker's processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from worker.slots import Slots, places

# As a worker's children the holders are forked; what they run is this module alone.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* multi-threaded:DeprecationWarning")


@contextmanager
def child_in(slots: Slots, connection: str) -> Iterator[int]:
    """A forked process that holds a place of a connection until it is killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with slots.of(connection) as is_free:
            os.write(writing, b"1" if is_free else b"0")
            time.sleep(60)
        os._exit(0)
    assert os.read(reading, 1) == b"1"
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_a_place_is_free_again_when_its_process_was_killed() -> None:
    slots = Slots(1)

    with child_in(slots, "hubspot"):
        with slots.of("hubspot") as is_free:
            assert not is_free
        with slots.of("salesforce") as is_free:
            assert is_free

    with slots.of("hubspot") as is_free:
        assert is_free


def test_with_two_places_two_processes_work_and_a_third_does_not() -> None:
    slots = Slots(2)

    with child_in(slots, "hubspot"), child_in(slots, "hubspot"), slots.of("hubspot") as is_free:
        assert not is_free


@pytest.mark.parametrize(
    ("concurrency", "connections", "most"), [(2, 2, 1), (1, 1, 1), (3, 2, 1), (8, 2, 6), (4, 0, 4)]
)
def test_one_process_is_left_for_every_other_connection_and_one_for_computing(
    concurrency: int, connections: int, most: int
) -> None:
    assert places(concurrency, connections) == most
