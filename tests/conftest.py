"""Fixtures live in modules named after what they serve."""

pytest_plugins = ["tests.fixtures.servers", "tests.fixtures.sandboxes", "tests.fixtures.cli"]
