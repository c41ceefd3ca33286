"""YAML in, frozen values out; touches no network, no database, no other package."""
