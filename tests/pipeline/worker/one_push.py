"""One push in a process of its own: ``python -m tests.pipeline.worker.one_push CONFIG``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from config.loader import load
from worker import pipeline
from worker.observe import configure_logging
from worker.runtime import open_runtime

if __name__ == "__main__":
    configure_logging(is_quiet=True)
    with open_runtime(load(Path(sys.argv[1]), dict(os.environ))) as runtime:
        print(pipeline.push_writeback(runtime, "account_kpis").state)  # noqa: T201 - its answer
