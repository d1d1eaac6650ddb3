"""torchdata's StatefulDataLoader, which 0.8 brought: where there is none, a test that makes one is skipped."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

HAS_STATEFUL_LOADER = importlib.util.find_spec("torchdata.stateful_dataloader") is not None

if TYPE_CHECKING or HAS_STATEFUL_LOADER:
    from torchdata.stateful_dataloader import StatefulDataLoader
else:

    def StatefulDataLoader(*arguments: object, **options: object) -> None:
        pytest.skip("needs torchdata 0.8 or newer")


__all__ = ["HAS_STATEFUL_LOADER", "StatefulDataLoader"]
