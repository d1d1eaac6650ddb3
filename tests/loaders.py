"""torchdata's StatefulDataLoader, which 0.8 brought: where there is none, a test that makes one is skipped."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

HAS_STATEFUL_LOADER = importlib.util.find_spec("torchdata.stateful_dataloader") is not None

if TYPE_CHECKING:
    from torchdata.stateful_dataloader import StatefulDataLoader
else:
    try:
        from torchdata.stateful_dataloader import StatefulDataLoader
    except ImportError:

        def StatefulDataLoader(*arguments: object, **options: object) -> None:
            pytest.skip("this torchdata has no StatefulDataLoader")


__all__ = ["HAS_STATEFUL_LOADER", "StatefulDataLoader"]
