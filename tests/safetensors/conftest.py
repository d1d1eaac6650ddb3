"""What the tests of safetensors files share."""

from __future__ import annotations

import pytest

from osstorchconnector import OssSafetensor
from osstorchconnector.testing import OssBucket


@pytest.fixture
def files(oss_bucket: OssBucket) -> OssSafetensor:
    return OssSafetensor(**oss_bucket.options)
