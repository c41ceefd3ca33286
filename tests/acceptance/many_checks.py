"""`kpisync check` for every file of a folder, each in a process of its own, timed and weighed.

    python -m tests.acceptance.many_checks FOLDER

The command is imported once and forked for each file: a hundred checks take seconds. Beside
FILE it leaves FILE.out with all that was printed, and prints one line of JSON per file: name,
exit code, processor seconds, peak memory of the process in MB.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import traceback
from pathlib import Path

from worker.cli import main


def _check(file: Path) -> None:
    """What the forked process does; it never returns."""
    descriptor = os.open(file.with_name(file.name + ".out"), os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["kpisync", "--config", str(file), "check"]
    code = 70
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 - whatever escapes the command is what the test looks for
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _warm(folder: Path) -> None:
    """Import what a check imports late, once for all."""
    faulty = folder / "warm"
    faulty.write_text("nothing: 1\n")
    sys.argv = ["kpisync", "--config", str(faulty), "check"]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        main()


def weigh(folder: Path) -> None:
    _warm(folder)
    for file in sorted(folder.glob("*.yaml")):
        child = os.fork()
        if not child:
            _check(file)
        _, status, usage = os.wait4(child, 0)
        outcome = {
            "name": file.name,
            "exit": os.waitstatus_to_exitcode(status),
            "seconds": usage.ru_utime + usage.ru_stime,
            "megabytes": usage.ru_maxrss / 1024,
        }
        print(json.dumps(outcome), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    weigh(Path(sys.argv[1]))
