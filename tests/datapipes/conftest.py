"""Which of these tests can be had with the torchdata that is installed."""

from __future__ import annotations

from loaders import NEED_DATALOADER2

collect_ignore = NEED_DATALOADER2
