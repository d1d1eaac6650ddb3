"""Which of these tests can be had with the torchdata that is installed."""

from __future__ import annotations

from importlib.util import find_spec

# torchdata had DataPipes and DataLoader2 up to 0.9, which has wheels up to Python 3.12.
collect_ignore = (
    []
    if find_spec("torchdata.datapipes")
    else ["test_dataloader2.py", "test_reading_service.py", "test_torchdata_stages.py"]
)
