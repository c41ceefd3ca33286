"""A configuration that changes under a running process."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.pipeline.worker.site import Site
from worker.reloading import LiveRuntime
from worker.runtime import open_runtime
from worker.status import gather


@pytest.fixture
def live(empty_site: Site) -> Iterator[LiveRuntime]:
    live = LiveRuntime(
        empty_site.path, open_runtime(empty_site.config()), look_every=timedelta(seconds=0)
    )
    assert live.current.engine is not None
    yield live
    live.close()


def test_a_new_valid_file_comes_into_force_between_two_steps(
    live: LiveRuntime, empty_site: Site
) -> None:
    before = live.current
    assert live.current is before

    _ = empty_site.but(every="7h").path

    after = live.current
    assert after is not before
    assert after.config.connections["salesforce"].every.every == timedelta(hours=7)


def test_a_faulty_file_leaves_the_last_good_one_in_force_and_status_says_so(
    live: LiveRuntime, empty_site: Site
) -> None:
    before = live.current
    path = empty_site.path
    path.write_text(path.read_text().replace("version: 1", "version: 1\nconections: {}"))

    assert live.current is before
    sentences = gather(live.current).sentences
    assert any('Did you mean "connections"?' in sentence for sentence in sentences)
    assert any("last good one stays in force" in sentence for sentence in sentences)

    _ = empty_site.path
    assert live.current is before
    assert not any("faulty" in sentence for sentence in gather(live.current).sentences)


def test_a_file_that_is_gone_for_a_moment_stops_nothing(
    live: LiveRuntime, empty_site: Site
) -> None:
    before = live.current
    empty_site.path.unlink()

    assert live.current is before
    assert any("faulty" in sentence for sentence in gather(live.current).sentences)
