"""Failed assertions of the shared suite tell their values, like those of test modules."""

import pytest

pytest.register_assert_rewrite("tests.contract.connectors.suite")
