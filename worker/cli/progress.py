"""Progress on stderr: a bar per stream on a terminal, one plain line per ten seconds otherwise."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from worker.cli.output import Printer, printable

SECONDS_BETWEEN_LINES = 10.0


class TerminalProgress:
    """Bars that a person watches."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def start(self, name: str, total: int | None) -> None:
        """Show a bar; an unknown total pulses."""
        self._tasks[name] = self._progress.add_task(printable(name), total=total)

    def advance(self, name: str, n: int) -> None:
        """`n` more are done."""
        if name in self._tasks:
            self._progress.advance(self._tasks[name], n)

    def finish(self, name: str) -> None:
        """Remove the bar."""
        task = self._tasks.pop(name, None)
        if task is not None:
            self._progress.remove_task(task)

    def say(self, text: str) -> None:
        """A sentence above the bars."""
        self._progress.console.print(printable(text), markup=False)


class LineProgress:
    """Plain lines for log files and pipes."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._done: dict[str, tuple[int, int | None]] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.clear()

    def start(self, name: str, total: int | None) -> None:
        """Remember what is under way."""
        self._done[name] = (0, total)

    def advance(self, name: str, n: int) -> None:
        """`n` more are done; says so at most every ten seconds."""
        done, total = self._done.get(name, (0, None))
        self._done[name] = (done + n, total)
        if time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            of = f" of {total:,}" if total else ""
            self._printer.say(f"{name}: {done + n:,}{of}")

    def finish(self, name: str) -> None:
        """Forget it."""
        self._done.pop(name, None)

    def say(self, text: str) -> None:
        """A sentence."""
        self._printer.say(text)


def progress_for(printer: Printer) -> TerminalProgress | LineProgress:
    """Bars on a terminal, lines elsewhere."""
    if sys.stderr.isatty() and not printer.is_quiet:
        return TerminalProgress(printer.errors)
    return LineProgress(printer)
