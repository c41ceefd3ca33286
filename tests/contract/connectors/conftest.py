"""Failed assertions of the contract suite tell their values, like those of test modules."""

import pytest

pytest.register_assert_rewrite("connectors.contract")
