"""One whole pass in a process of its own: ``python -m tests.pipeline.worker.one_pass CONFIG``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from config.loader import load
from worker.pipeline import full_pass
from worker.runtime import open_runtime


def main() -> int:
    config = load(Path(sys.argv[1]), dict(os.environ))
    with open_runtime(config) as runtime:
        outcome = full_pass(runtime)
    sys.stdout.writelines(f"{result}\n" for result in outcome.results)
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
