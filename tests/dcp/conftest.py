"""What the tests of distributed checkpoints share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from osstorchconnector.client.client import OssClient
from osstorchconnector.dcp import OssDCPFileSystem
from osstorchconnector.testing import OssBucket

TORCH = tuple(map(int, torch.__version__.split(".")[:2]))

# What is tested came with these versions of torch.
_NEEDS = {
    (2, 5): "test_formats test_oracle test_archive test_stager test_allowed test_numpy_calls test_tensor_subclasses "
    "test_safety test_integrity test_isolation test_hostile_items test_filesystem",
    (2, 8): "test_ranks test_extensions test_plan_cache test_pickle_limits",
    (2, 3): "*",
}
_NEEDS_EACH = {
    (2, 8): {
        "test_the_data_of_ranks_goes_with_their_metadata",  # dcp.save(use_collectives=False)
        "test_a_rank_that_loads_its_own_part_goes_over_as_well",
        "test_checkpoints_are_left_alone_wherever_their_files_are",
        "test_a_save_without_collectives_refuses_an_id_that_exists",
        "test_metadata_of_ranks_is_not_read_in_its_place",
        "test_what_was_unreadable_once_is_read_the_next_time",
        "test_a_rank_without_metadata_hears_that_others_have_some",
        "test_a_stager_of_its_own_can_be_given",  # dcp.async_save(async_stager=)
    },
    (2, 4): {
        "test_what_the_cpp_connector_saved_is_loaded",  # a dictionary in a list is several items, and was one before
        "test_a_checkpoint_replaced_while_it_is_loaded_is_loaded_as_it_is_now",  # dcp.load of what is no tensor
        "test_async_save_returns_while_the_server_keeps_the_save_waiting",  # dcp.async_save without a process group
        "test_the_error_of_an_asynchronous_save_is_its_futures",
    },
}
collect_ignore_glob = [
    f"{name}.py" if name != "*" else "test_*.py"
    for version, names in _NEEDS.items()
    if version > TORCH
    for name in names.split()
]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is tested of a newer torch."""
    needed = {name for version, each in _NEEDS_EACH.items() if version > TORCH for name in each}
    newer = [item for item in items if getattr(item, "originalname", "") in needed]
    config.hook.pytest_deselected(items=newer)
    items[:] = [item for item in items if item not in newer]


@pytest.fixture
def fs(oss_bucket: OssBucket) -> OssDCPFileSystem:
    """The bucket as a file system for checkpoints; files are sent in parts as small as OSS takes them."""
    return OssDCPFileSystem(OssClient(**oss_bucket.options))


def as_torch_tells(words: str) -> str:
    """Return what stands in torch's error when our reader finds no checkpoint and says so in `words`."""
    # From 2.8 to 2.11 torch takes the reader's error for a sign that each rank has its own metadata, and drops it.
    return "metadata is None" if (2, 8) <= TORCH < (2, 12) else words


def names(bucket: OssBucket, ending: str = "") -> list[str]:
    """Return the bucket's keys, those with this ending."""
    return list(filter(lambda key: key.endswith(ending), bucket.keys()))


def download(bucket: OssBucket, prefix: str, folder: Path) -> Path:
    """Copy all objects below `prefix` to a folder, with any client's means."""
    for key in names(bucket):
        if key.startswith(prefix):
            path = folder / key[len(prefix) :]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bucket.get(key))
    return folder


def upload(bucket: OssBucket, prefix: str, folder: Path) -> str:
    """Copy a folder's files to objects below `prefix`; return the URI."""
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.put(prefix + path.relative_to(folder).as_posix(), path.read_bytes())
    return bucket.uri + prefix
