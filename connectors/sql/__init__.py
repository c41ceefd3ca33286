"""Queries on a database as a source of canonical records."""
