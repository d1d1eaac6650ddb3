"""What not every torch and torchdata has: a test that needs it says so, and is skipped without it.

StatefulDataLoader came with torchdata 0.8. DataPipes and DataLoader2 went with 0.10, and there is no older one for
Python 3.13 and newer. Our reading service for DataLoader2 needs 0.8.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest
import torch

TORCH = tuple(map(int, torch.__version__.split(".")[:2]))

HAS_STATEFUL_LOADER = importlib.util.find_spec("torchdata.stateful_dataloader") is not None
_HAS_DATAPIPES = importlib.util.find_spec("torchdata.datapipes") is not None
# Files of tests/datapipes that are not collected.
NEED_DATALOADER2 = ["test_dataloader2.py", "test_reading_service.py", "test_torchdata_stages.py"]
if _HAS_DATAPIPES:
    NEED_DATALOADER2 = [] if HAS_STATEFUL_LOADER else ["test_reading_service.py"]

needs_stateful_loader = pytest.mark.skipif(not HAS_STATEFUL_LOADER, reason="needs torchdata 0.8 or newer")


def needs_torch(major: int, minor: int) -> pytest.MarkDecorator:
    """Skip the test where torch is older. Distributed checkpoints need 2.3."""
    return pytest.mark.skipif((major, minor) > TORCH, reason=f"needs torch {major}.{minor} or newer")


if TYPE_CHECKING or HAS_STATEFUL_LOADER:
    from torchdata.stateful_dataloader import StatefulDataLoader
else:

    def StatefulDataLoader(*arguments: object, **options: object) -> None:
        pytest.skip("needs torchdata 0.8 or newer")


__all__ = ["NEED_DATALOADER2", "TORCH", "StatefulDataLoader", "needs_stateful_loader", "needs_torch"]
