"""The schema's history; each step works with the version still running.

A test compares these names with alembic's scripts.
"""

from __future__ import annotations

from typing import Final

REVISIONS: Final = ("0001",)
"""Every revision this version of kpisync knows, the oldest first."""

HEAD: Final = REVISIONS[-1]
