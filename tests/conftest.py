from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from loaders import NEED_DATALOADER2, TORCH
from scripts import NO_LOGS

from osstorchconnector.config import CONFIG_VARIABLE
from osstorchconnector.testing import OssBucket

# How long an example takes says nothing about the code where two cores do everything at once.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

_FOLDER = pytest.StashKey[str]()

# The server that starts processes anew (`forkserver`) imports this once for all of them: importing torch takes seconds.
multiprocessing.set_forkserver_preload(["torch.distributed.checkpoint", "torch.utils.data", "pytest"])

# What these modules test came with these versions of torch.
_MODULES_NEED = {(2, 3): "test_types.py", (2, 5): "hostile/test_targets.py", (2, 8): "test_round_trips.py"}
collect_ignore = [name for version, name in _MODULES_NEED.items() if version > TORCH]


def pytest_report_header() -> list[str]:
    """Name the modules that are not collected, and why."""
    reasons = {
        "this torch is too old for them": collect_ignore,
        "this torchdata has not the DataLoader2 that they need": NEED_DATALOADER2,
    }
    return [f"not collected, since {reason}: {', '.join(names)}" for reason, names in reasons.items() if names]


def pytest_configure(config: pytest.Config) -> None:
    """Let nothing that tests start read this machine's settings, or log under /var/log (as root it could)."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):  # which foreign clients ask even for this machine
        for spelled in (name, name.upper()):
            os.environ.pop(spelled, None)
    # No test asks the network for a role; those of roles name a server of their own.
    os.environ["ALIBABA_CLOUD_ECS_METADATA_DISABLED"] = "true"
    # Shells start what runs in the background with Ctrl-C turned off, which tests of it could not bear.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_FOLDER] = folder = tempfile.mkdtemp(prefix="osstorchconnector-tests-")
    path = Path(folder, "config.json")
    path.write_text(json.dumps(NO_LOGS))
    os.environ[CONFIG_VARIABLE] = str(path)


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_FOLDER], ignore_errors=True)


@pytest.fixture
def bucket(oss_bucket: OssBucket, request: pytest.FixtureRequest) -> OssBucket:
    """A bucket with an object for each of the module's `KEYS`, which holds its own key."""
    for key in request.module.KEYS:
        oss_bucket.put(key, key.encode())
    return oss_bucket
