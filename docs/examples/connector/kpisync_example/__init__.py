"""A connector of its own package, as docs/writing-a-connector.md builds it."""
