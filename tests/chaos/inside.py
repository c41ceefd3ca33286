"""The command line within this process: the same words and exit codes, a second cheaper a call."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.fixtures.cli import SECONDS, Cli, Ended, clean_environment
from worker.cli.app import load_commands, run_command


@dataclass
class Inside(Cli):
    """As `Cli`, for programs that give hundreds of commands and have no other threads."""

    def __call__(
        self,
        *arguments: str,
        expect_exit: int | None = 0,
        env: Mapping[str, str] | None = None,
        seconds: float = SECONDS,  # noqa: ARG002 - nobody interrupts ourselves
    ) -> Ended:
        load_commands()
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
        with (
            _environment(clean_environment() | self.environment | dict(env or {})),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = run_command(list(arguments))
        ended = Ended(int(code), _text(out), _text(err))
        if expect_exit is not None:
            assert ended.exit_code == expect_exit, f"{arguments}\n{ended.out}\n{ended.err}"
        return ended


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


@contextlib.contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
