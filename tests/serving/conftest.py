"""Servers on the loopback that do what they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from fake_openai import WELL, Behaviour, FakeServer


@pytest.fixture
def serve() -> Iterator[Callable[..., FakeServer]]:
    """Start a server whose every answer has one behaviour, or the one that a function of request number n gives."""
    with ExitStack() as stack:

        def started(behave: Behaviour | Callable[[int], Behaviour] = WELL, **options: object) -> FakeServer:
            chosen = behave if callable(behave) else lambda number: behave
            return stack.enter_context(closing(FakeServer(chosen, **options)))

        yield started
