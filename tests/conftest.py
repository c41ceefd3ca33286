"""Fixtures live in modules named after what they serve."""

import os

pytest_plugins = ["tests.fixtures.servers", "tests.fixtures.sandboxes", "tests.fixtures.cli"]

# Hundreds of commands start here, each of which would compile every module anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
