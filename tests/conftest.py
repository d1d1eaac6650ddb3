from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from loaders import HAS_STATEFUL_LOADER, NEED_DATALOADER2
from scripts import NO_LOGS

from osstorchconnector.config import CONFIG_VARIABLE
from osstorchconnector.testing import OssBucket

# How long an example takes says nothing about the code where two cores do everything at once.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

_FOLDER = pytest.StashKey[str]()
TORCH = tuple(map(int, torch.__version__.split(".")[:2]))

# What is tested came with these versions of torch: distributed checkpoints with 2.3.
_MODULES_NEED = {(2, 3): "test_types.py", (2, 5): "hostile/test_targets.py", (2, 8): "test_round_trips.py"}
_TESTS_NEED = {
    (2, 3): {
        "test_checkpoints_of_a_run_are_listed",
        "test_checkpoints_are_saved_while_training_goes_on",
        "test_a_distributed_checkpoint_becomes_one_object",
        "test_several_ranks_go_on_where_they_ended",
        "test_a_checkpoint_by_its_uri_alone",
        "test_a_checkpoint_is_overwritten",
        "test_our_reader_reads_it_and_torchs_reads_ours",
        "test_no_secret_is_in_a_repr_or_a_pickle",
        "test_the_matrix_in_the_documentation_is_the_one_that_is_tested",
        "test_the_documentation_counts_the_cells_that_there_are",
        # torch.load(weights_only=True) warns, and these turn warnings into errors.
        "test_checkpoint",
        "test_demo_learns_the_digits_and_reports_its_speed",
        "test_the_demo_fails_when_it_has_not_learned_enough",
        "test_an_example_works_in_a_bucket_of_the_users_own_and_leaves_it_empty",
    },
    (2, 6): {"test_torch_saves_what_it_seeks_in"},  # torch.serialization.skip_data
}
_NEED_A_STATEFUL_LOADER = {
    "test_dataloader2",
    "test_two_ranks",
    "test_a_job_that_is_killed_twice_loses_and_doubles_nothing",
}
collect_ignore = [name for version, name in _MODULES_NEED.items() if version > TORCH]


def pytest_report_header() -> list[str]:
    """Name the modules that are not collected, and why."""
    reasons = {
        "this torch is too old for them": collect_ignore,
        "this torchdata has not the DataLoader2 that they need": NEED_DATALOADER2,
    }
    return [f"not collected, since {reason}: {', '.join(names)}" for reason, names in reasons.items() if names]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is tested of newer versions of torch and torchdata."""
    for item in items:
        name = getattr(item, "originalname", "")
        for version, names in _TESTS_NEED.items():
            if version > TORCH and name in names:
                item.add_marker(pytest.mark.skip(f"needs torch {version[0]}.{version[1]} or newer"))
        if name in _NEED_A_STATEFUL_LOADER and not HAS_STATEFUL_LOADER:
            item.add_marker(pytest.mark.skip("needs torchdata 0.8 or newer"))


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
