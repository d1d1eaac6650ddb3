"""`osstorchconnector._oss_connector` of 1.2.3: its compiled part, of which programs import two names."""

from __future__ import annotations

from .compat.objects import new_data_object
from .files.data_object import DataObject

__all__ = ["DataObject", "new_data_object"]
