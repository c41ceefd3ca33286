"""The steps of the product as plain functions: the command line, tests and Celery call the same.

Each takes the runtime as its first parameter and returns what it did. Nothing here knows of
Celery.
"""

from worker.checking import check_connection
from worker.computing import compute
from worker.drift import compare_live, watch_writeback
from worker.passes import drain, full_pass, perform
from worker.planning import SetupResults, plan_writeback, setup_writeback
from worker.pulling import fetch_again, pull_connection, pull_stream, stream_names
from worker.pushing import apply_plan, push_writeback
from worker.results import Kind, PassResult, RunResult, State, exit_code
from worker.reverting import CannotRevert, plan_revert, revert_run
from worker.sinks import sync_sink
from worker.verifying import verify_share

__all__ = [
    "CannotRevert",
    "Kind",
    "PassResult",
    "RunResult",
    "SetupResults",
    "State",
    "apply_plan",
    "check_connection",
    "compare_live",
    "compute",
    "drain",
    "exit_code",
    "fetch_again",
    "full_pass",
    "perform",
    "plan_revert",
    "plan_writeback",
    "pull_connection",
    "pull_stream",
    "push_writeback",
    "revert_run",
    "setup_writeback",
    "stream_names",
    "sync_sink",
    "verify_share",
    "watch_writeback",
]
