"""Each example runs as a user would start it, and prints what it should."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from loaders import needs_stateful_loader, needs_torch
from scripts import ROOT, run_python

from osstorchconnector import emulator

EXAMPLES = ROOT / "examples"
NOT_RUN_ALONE = {"playground.py"}


def run_example(name: str, *arguments: str, seconds: float = 280, is_quiet: bool = True, **environment: str) -> str:
    """Run an example and return what it prints; only progress bars may go to stderr."""
    printed, shown = run_python(EXAMPLES / name, *arguments, environment=environment, seconds=seconds)
    assert (
        not is_quiet
        or [line for line in re.split(r"[\r\n]+", shown) if line.strip() and " objects/s" not in line] == []
    )
    return printed


def names(numbers: range) -> list[str]:
    return [f"{number:05}.png" for number in numbers]


def test_all_examples_are_run_here() -> None:
    tested = set(re.findall(r'run_example\("(\w+\.py)"', Path(__file__).read_text(encoding="utf-8")))
    assert {path.name for path in EXAMPLES.glob("*.py")} - NOT_RUN_ALONE == tested


def test_iterable_dataset() -> None:
    assert re.findall(r"\d+\.png", run_example("iterable_dataset.py")) == names(range(12)) + names(range(3))


def test_map_dataset() -> None:
    printed = re.findall(r"\d+\.png", run_example("map_dataset.py"))
    assert printed == ["00000.png", "00011.png", *names(range(12)), "00001.png"]


def test_manifest_file() -> None:
    lines = run_example("manifest_file.py").splitlines()
    assert [line.split()[1] for line in lines[:12]] == [f"label{number % 3}" for number in range(12)]
    assert lines[12:] == ["['label0', 'label1', 'label2']"]


def test_transform() -> None:
    lines = run_example("transform.py").splitlines()
    assert [line.split()[0] for line in lines] == names(range(12))
    assert all("(3, 32, 32)" in line for line in lines)


def test_safetensors_file() -> None:
    assert run_example("safetensors_file.py") == "the same weights: True\nthe same rows: True\n"


def test_dataloader() -> None:
    lines = run_example("dataloader.py").splitlines()
    assert [line.partition(" (")[0] for line in lines] == ["iterable"] * 4 + ["shuffled"] * 4
    assert all("(16, 3, 32, 32)" in line for line in lines)


@needs_torch(2, 3)
def test_checkpoint() -> None:
    assert run_example("checkpoint.py") == "the same weights: True\n"


@needs_torch(2, 7)  # before, torch leaves a folder behind, and a warning
def test_checkpoints_are_saved_while_training_goes_on() -> None:
    assert run_example("dcp_async.py") == "kept: [4, 5]\nthe weights of step 5: True\n"


@needs_torch(2, 7)  # no_dist=
def test_a_distributed_checkpoint_becomes_one_object() -> None:
    assert run_example("dcp_to_file.py") == "step 7 the same weights: True\n"


@pytest.mark.timeout(600)
def test_lightning_goes_on_from_its_last_checkpoint() -> None:
    pytest.importorskip("lightning")
    printed = run_example("lightning_resume.py")
    assert printed == "up to epoch 3, step 24\nup to epoch 5, step 40\n"


@pytest.mark.timeout(600)
def test_transformers_go_on_after_a_kill() -> None:
    pytest.importorskip("transformers")
    lines = run_example("transformers_resume.py").splitlines()
    assert [line for line in lines if line.startswith(("killed", "went", "ended"))] == [
        "killed",
        "went on: True, up to step 60",
        "ended: 0",
    ]


@needs_torch(2, 6)  # fully_shard
@pytest.mark.timeout(600)
def test_several_ranks_go_on_where_they_ended() -> None:
    printed = run_example("dcp_fsdp.py")
    assert printed == "from step 0 to 3, kept: [2, 3]\nfrom step 3 to 5, kept: [4, 5]\n"


def test_datapipes() -> None:
    lines = run_example("datapipes.py").splitlines()
    assert sorted(re.findall(r"\d+\.png", "".join(lines))) == names(range(12))
    assert lines[-1] == "consumed: 1"


@needs_stateful_loader
def test_dataloader2() -> None:
    pytest.importorskip("torchdata.dataloader2")  # no torchdata for Python 3.13 and newer has it
    first, second, *rest = (re.findall(r"\d+\.png", line) for line in run_example("dataloader2.py").splitlines())
    assert sorted(first) == sorted(second) == sorted(rest[0] + rest[1]) == names(range(12))
    assert first != second
    assert len(rest[0]) == 5


def test_class_labels() -> None:
    lines = run_example("class_labels.py").splitlines()
    labels = [int(label) for line in lines for label in re.findall(r"\d", line.partition("[")[2])]
    assert lines[0] == "['cat', 'dog', 'fox']"
    assert len(lines) == 9  # each worker makes batches of its own 15
    assert sorted(labels) == sorted([0, 1, 2] * 20)


def test_tars_are_packed_and_trained_from() -> None:
    assert run_example("tar_training.py") == "epoch 0: 64 pictures\nepoch 1: 64 pictures\n"


def test_tar_shards() -> None:
    pytest.importorskip("torchdata.datapipes")
    lines = run_example("tar_shards.py").splitlines()
    assert sorted(lines) == sorted(f"{number}.txt sample {number}" for number in range(12))
    assert lines[:3] != ["0.txt sample 0", "1.txt sample 1", "2.txt sample 2"]


@pytest.mark.timeout(600)
def test_ray_reads_and_writes_pictures() -> None:
    pytest.importorskip("ray.data")
    # Ray kills no workers because other programs fill the machine's memory.
    printed = run_example("ray_data.py", is_quiet=False, RAY_memory_monitor_refresh_ms="0")
    assert printed == "pictures seen: 48\npictures written: 48\n"


def test_hugging_face_streams_and_goes_on() -> None:
    pytest.importorskip("datasets.arrow_dataset")  # `datasets` alone finds tests/datasets
    assert run_example("hf_datasets.py") == "seen before and after: 60 40\nloaded: 100\n"


def test_multi_storage_client() -> None:
    pytest.importorskip("multistorageclient")
    assert run_example("msc.py") == "model.pt {'step': '7'}\nthe same weights: True\n"


def test_nodes() -> None:
    printed = run_example("nodes.py", PYTHONPATH=str(Path(sys.prefix, "torchdata-0.11")))
    assert [line.partition(":")[0] for line in printed.splitlines()] == ["before", "after", "after"]
    assert sorted(re.findall(r"\d+\.png", printed)) == names(range(12))


@needs_stateful_loader
@pytest.mark.timeout(600)
def test_two_ranks() -> None:
    printed = run_example("two_ranks.py")
    assert printed.splitlines() == [
        "2 ranks: 14 pictures seen, 1 time each at most",
        "3 ranks: 30 pictures seen, 1 time each at most",
    ]


@needs_torch(2, 3)
@pytest.mark.timeout(600)
def test_demo_learns_the_digits_and_reports_its_speed() -> None:
    printed = run_example("demo.py", "--epochs", "3")
    accuracy = re.search(r"accuracy on unseen images: ([\d.]+)", printed)
    assert accuracy
    assert float(accuracy.group(1)) > 0.95
    assert all(title in printed for title in ("objects/s", "MB/s", "save checkpoint", "OssMapDataset, shuffled"))
    proposed = re.findall(r"\b(?:examples|docs)/\S+\.\w+", printed.partition("What to try next:")[2])
    assert len(proposed) > 3
    assert [path for path in proposed if not (ROOT / path).is_file()] == []


@needs_torch(2, 3)
@pytest.mark.timeout(600)
def test_the_demo_fails_when_it_has_not_learned_enough() -> None:
    with pytest.raises(AssertionError, match="something is off"):  # run_python's, for an exit status that is not 0
        run_example("demo.py", "--epochs", "0")


@pytest.mark.timeout(600)
def test_the_demo_fails_when_an_image_is_missing(tmp_path: Path) -> None:
    with emulator.serve(buckets=["mine"]) as server:
        settings = {"OSS_ENDPOINT": server.endpoint, "OSS_BUCKET": "mine", "OSS_REGION": server.region}
        server.fail("GetObject", "404", after=100, times=1)
        with pytest.raises(AssertionError, match="OssNotFoundError"):
            run_example("demo.py", OSS_CRED_PATH=server.credentials_file(tmp_path), **settings)


@needs_torch(2, 3)
def test_an_example_works_in_a_bucket_of_the_users_own_and_leaves_it_empty(tmp_path: Path) -> None:
    with emulator.serve(buckets=["mine"]) as server:
        settings = {
            "OSS_ENDPOINT": server.endpoint,
            "OSS_BUCKET": "mine",
            "OSS_REGION": server.region,
            "OSS_CRED_PATH": server.credentials_file(tmp_path),
        }
        assert run_example("checkpoint.py", **settings) == "the same weights: True\n"
        assert server.counters().requests["PutObject"] > 0
        assert server.keys("mine") == []


@pytest.mark.parametrize("name", [path.name for path in sorted(EXAMPLES.glob("*.py"))])
def test_an_example_says_what_it_shows(name: str) -> None:
    assert (EXAMPLES / name).read_text(encoding="utf-8").startswith('"""')
