"""The schema's history; each step works with the version still running."""
