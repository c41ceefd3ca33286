"""Files in a folder as a source of canonical records."""
