"""Decides when, and wires the rest together; also the command line."""
