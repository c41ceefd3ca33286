"""The two worlds side by side, compared value by value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

from tests.fixtures.sandboxes import Sandbox, launch
from tests.pipeline.split.happenings import Happenings
from tests.pipeline.split.union import Union
from tests.pipeline.split.worlds import (
    TODAY,
    Clock,
    Place,
    Portrait,
    Reader,
    Translation,
    Worth,
    assert_same,
    one_crm,
    prepare,
    two_crms,
)


@dataclass
class Both:
    """A company divided over two CRMs, and the org in which the same one stands as a whole."""

    folder: Path
    periods: Sequence[str]
    divided: Sandbox
    whole: Sandbox
    union: Union
    clock: Clock
    reader: Reader
    happenings: Happenings
    compared: int = 0
    names: list[str] = field(default_factory=list)
    _seen_whole: dict[object, Portrait] = field(default_factory=dict)

    def happen(self) -> None:
        """Let one thing happen in the two CRMs."""
        self.names.append(self.happenings.happen())

    def pull(self) -> None:
        """Read what changed; all of it where something changed that moves no stamp."""
        self.reader.pull(full=self.happenings.needs_full)
        self.happenings.needs_full = False

    def portrait(self) -> Portrait:
        """The values of the divided company."""
        return self.reader.publish(self.clock.now)

    def as_whole(self) -> Portrait:
        """The values of the same company in one CRM, read by an installation without a past."""
        moment = self.clock.now, frozenset(self.union.apart), frozenset(self.union.together)
        if moment not in self._seen_whole:
            self._seen_whole = {moment: self._read_whole()}
        return self._seen_whole[moment]

    def _read_whole(self) -> Portrait:
        self.union.follow()
        folder = Path(mkdtemp(dir=self.folder))
        text = one_crm(self.whole.salesforce, f"sqlite:///{folder}/kpisync.db", self.periods)
        with Reader(folder, text) as whole:
            whole.pull()
            return whole.publish(self.clock.now)

    def translated(self, portrait: Portrait) -> dict[Place, Worth]:
        """Values of the divided company under the keys of the whole one."""
        return Translation(self.union).of(portrait)

    def compare(self) -> Portrait:
        """Pull, compute, and find every value equal in both worlds; those of the whole company."""
        self.pull()
        whole = self.as_whole()
        translated = self.translated(self.portrait())
        assert_same(translated, whole, self.names[-30:])
        self.compared += len(translated)
        return whole


@contextmanager
def both_worlds(
    folder: Path, database: str, *, seed: int, size: int, periods: Sequence[str]
) -> Iterator[Both]:
    """A seeded company over both CRMs of one sandbox, and an empty org for the whole of it."""
    seeded = ("--seed", str(seed), "--size", str(size), "--split", "overlap", "--today", TODAY)
    with launch(*seeded) as divided, launch("--today", TODAY) as whole:
        prepare(divided)
        clock = Clock(divided.salesforce, divided.hubspot, whole.salesforce)
        union = Union(divided, whole.salesforce)
        union.look()
        with Reader(folder, two_crms(divided, database, periods)) as reader:
            happenings = Happenings(divided, union, reader, clock, seed)
            happenings.spread_close_days()
            yield Both(folder, periods, divided, whole, union, clock, reader, happenings)
