"""What not every torchdata has. StatefulDataLoader came with 0.8: without it, a test that makes one is skipped.

DataPipes and DataLoader2 went with 0.10, and there is no older one for Python 3.13 and newer. Our reading service for
DataLoader2 needs 0.8.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

HAS_STATEFUL_LOADER = importlib.util.find_spec("torchdata.stateful_dataloader") is not None
_HAS_DATAPIPES = importlib.util.find_spec("torchdata.datapipes") is not None
# Files of tests/datapipes that are not collected.
NEED_DATALOADER2 = ["test_dataloader2.py", "test_reading_service.py", "test_torchdata_stages.py"]
if _HAS_DATAPIPES:
    NEED_DATALOADER2 = [] if HAS_STATEFUL_LOADER else ["test_reading_service.py"]

if TYPE_CHECKING or HAS_STATEFUL_LOADER:
    from torchdata.stateful_dataloader import StatefulDataLoader
else:

    def StatefulDataLoader(*arguments: object, **options: object) -> None:
        pytest.skip("needs torchdata 0.8 or newer")


__all__ = ["HAS_STATEFUL_LOADER", "NEED_DATALOADER2", "StatefulDataLoader"]
