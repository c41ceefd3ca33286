"""What every connector promises, as tests that any package can run (docs/writing-a-connector.md).

Only tests import what is below here: it needs pytest, which the product itself does not.
"""
