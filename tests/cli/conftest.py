"""The workshop, once for all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.workshop import Workshop


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """A declared site; no device answers."""
    shop = Workshop(tmp_path)
    shop.declare()
    return shop


@pytest.fixture
def site(shop: Workshop) -> Iterator[Workshop]:
    """A declared site whose devices answer, adopted and converged."""
    with shop.devices():
        shop.adopted()
        yield shop
