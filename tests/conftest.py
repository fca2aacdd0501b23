"""What tests share: a browser, and that each leaves no open figure behind for the next one of its process."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from browser import chrome, watch  # noqa: F401 - fixtures


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    """Close the figures a test left open in pyplot: tests that look for leaks count only their own."""
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")
