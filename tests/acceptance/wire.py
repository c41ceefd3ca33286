"""A wire between worker and Redis that can swallow everything, as a firewall does that forgets.

``python -m tests.acceptance.wire PORT`` listens on a free port, prints it, and passes on what
comes to PORT on this machine. After SIGUSR1 nothing more travels over the connections that there
are, in either direction and without any sign; new ones work.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Wire:
    """A wire in a process of its own."""

    port: int
    pid: int

    def swallow(self) -> None:
        """From now on the connections that there are lead into a black hole."""
        os.kill(self.pid, signal.SIGUSR1)


@contextmanager
def wire_to(port: int) -> Iterator[Wire]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.wire", str(port)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield Wire(int(process.stdout.readline()), process.pid)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


class _Exchange:
    def __init__(self, port: int) -> None:
        self._port = port
        self._lost = 0
        self._made = 0

    def swallow(self) -> None:
        self._lost = self._made

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._made += 1
        number = self._made
        there = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(
            self._carry(reader, there[1], number), self._carry(there[0], writer, number)
        )

    async def _carry(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, number: int
    ) -> None:
        with contextlib.suppress(OSError):
            while content := await source.read(65536):
                if number > self._lost:
                    target.write(content)
                    await target.drain()
        if number > self._lost:
            target.close()


async def _serve(port: int) -> None:
    exchange = _Exchange(port)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, exchange.swallow)
    server = await asyncio.start_server(exchange.connect, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - for who started us
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
