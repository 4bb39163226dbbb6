"""What every test leaves behind: nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.engine_process import end_leftovers


@pytest.fixture(autouse=True)
def no_engine_outlives_its_test() -> Iterator[None]:
    yield
    end_leftovers()
