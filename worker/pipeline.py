"""The steps of the product as plain functions: the command line, tests and Celery call the same.

Each takes the runtime as its first parameter and returns what it did. Nothing here knows of
Celery.
"""

from worker.computing import compute
from worker.passes import drain, full_pass, perform
from worker.planning import SetupResults, plan_writeback, setup_writeback
from worker.pulling import (
    check_connection,
    fetch_again,
    pull_connection,
    pull_stream,
    stream_names,
)
from worker.pushing import apply_plan, push_writeback
from worker.results import Kind, PassResult, RunResult, State, exit_code

__all__ = [
    "Kind",
    "PassResult",
    "RunResult",
    "SetupResults",
    "State",
    "apply_plan",
    "check_connection",
    "compute",
    "drain",
    "exit_code",
    "fetch_again",
    "full_pass",
    "perform",
    "plan_writeback",
    "pull_connection",
    "pull_stream",
    "push_writeback",
    "setup_writeback",
    "stream_names",
]
