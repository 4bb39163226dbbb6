"""What every test leaves behind: nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.engine.engine_process import end_leftovers


def pytest_configure() -> None:
    """A run under nohup or in a script's background ignores hang-up and Ctrl-C, and so would all it starts."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_engine_outlives_its_test() -> Iterator[None]:
    yield
    end_leftovers()
