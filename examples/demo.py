"""The main job, end to end: train on images in OSS, save a checkpoint there, and resume from it.

1. Put scikit-learn's 1,797 handwritten digits into an emulated OSS (or your bucket, see playground.py), as PNG objects
   with a manifest of labels.
2. Train a small network for one epoch from OssIterableDataset, and save it with OssCheckpoint.
3. Delete it, load it, and continue with OssMapDataset, shuffled.
4. Test it on images that it has not seen.

The exit status is non-zero if an image is lost or seen twice, if the loaded weights differ from the saved ones, or if
no more than 95 % of the unseen images are recognised.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from playground import Playground, playground
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from osstorchconnector import (
    DataObject,
    OssCheckpoint,
    OssClient,
    OssIterableDataset,
    OssMapDataset,
    imagenet_manifest_parser,
)

BATCH = 64
WORKERS = 2
GOOD_ENOUGH = 0.95
NEXT = """
What to try next:
  .venv/bin/python examples/iterable_dataset.py         the smallest program that reads objects
  .venv/bin/python examples/two_ranks.py                two ranks are killed in mid-epoch, three go on
  .venv/bin/osstorch emulator --bucket my-bucket        an OSS on this machine, for your own programs
  OSS_ENDPOINT=... OSS_BUCKET=... make demo             this demo in your own bucket (see examples/playground.py)
  docs/start.md                                         ten minutes, step by step; `make docs` makes a site of all pages
"""


@dataclass
class Report:
    """How many objects and bytes each step moved, and how fast."""

    rows: list[tuple[str, int, int, float]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Counter[str]]:
        """Time a step. The caller counts what it moves under "objects" and "bytes"."""
        moved: Counter[str] = Counter()
        start = time.perf_counter()
        yield moved
        self.rows.append((name, moved["objects"], moved["bytes"], time.perf_counter() - start))

    def show(self) -> None:
        print(f"\n{'step':<34}{'objects':>9}{'MB':>9}{'seconds':>9}{'objects/s':>11}{'MB/s':>9}")
        for name, objects, size, seconds in self.rows:
            print(
                f"{name:<34}{objects:>9,}{size / 1e6:>9.2f}{seconds:>9.2f}"
                f"{objects / seconds:>11,.0f}{size / 1e6 / seconds:>9.2f}"
            )


class Network(nn.Sequential):
    """A small convolutional network for 8 by 8 pixels and ten digits."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        )


def png_of(pixels: np.ndarray) -> bytes:
    """Return an image of scikit-learn's, whose pixels go from 0 to 16, as a PNG file."""
    file = io.BytesIO()
    Image.fromarray((pixels * 15.9375).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def to_sample(data: DataObject) -> tuple[Tensor, int, str, int]:
    """Return the pixels between 0 and 1, the digit, the image's file name and its size."""
    pixels = np.array(Image.open(data), dtype=np.float32)
    return torch.from_numpy(pixels)[None] / 255, int(data.label), data.name.rpartition("/")[2], data.size


def put_digits(oss: Playground, report: Report) -> tuple[set[str], set[str]]:
    """Put images and two manifests into OSS. Return the names of the images to train on and of those to test on."""
    digits = load_digits()
    pictures = {f"{number:04}.png": png_of(pixels) for number, pixels in enumerate(digits.images)}
    labels = dict(zip(pictures, digits.target.tolist(), strict=True))
    names = list(pictures)
    unseen = names[::5]
    seen = sorted(set(names) - set(unseen))
    client = OssClient(**oss.options)
    with report.step("put images and manifests") as moved:
        for name in tqdm(names, desc="put images", unit=" objects"):
            client.put(f"{oss.uri}images/{name}", pictures[name])
            moved.update(objects=1, bytes=len(pictures[name]))
        for manifest, members in {"train.tsv": seen, "test.tsv": unseen}.items():
            lines = "".join(f"images/{name}\t{labels[name]}\n" for name in members)
            client.put(oss.uri + manifest, lines.encode())
            moved.update(objects=1, bytes=len(lines))
    client.close()
    return set(seen), set(unseen)


def batches(loader: DataLoader, name: str, expected: set[str], report: Report) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield an epoch's images and digits; fail if any of the `expected` images is missing or comes twice."""
    seen: Counter[str] = Counter()
    with report.step(name) as moved, tqdm(total=len(expected), desc=name, unit=" objects") as bar:
        for images, digits, names, sizes in loader:
            seen.update(names)
            moved.update(objects=len(names), bytes=int(sizes.sum()))
            yield images, digits
            bar.update(len(names))
    if seen != Counter(expected):
        raise SystemExit(f"{name}: {len(expected)} images were expected, once each, but {seen.total()} came")


def train(network: Network, optimizer: torch.optim.Optimizer, data: Iterable[tuple[Tensor, Tensor]]) -> None:
    network.train()
    for images, digits in data:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), digits).backward()
        optimizer.step()


@torch.no_grad()
def accuracy(network: Network, data: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the fraction of the images that the network recognises."""
    network.eval()
    right = [network(images).argmax(1) == digits for images, digits in data]
    return torch.cat(right).float().mean().item()


def learner() -> tuple[Network, torch.optim.Optimizer]:
    """Return an untrained network and its optimizer."""
    network = Network()
    return network, torch.optim.Adam(network.parameters(), lr=2e-3)


def save(network: Network, optimizer: torch.optim.Optimizer, oss: Playground, report: Report) -> None:
    checkpoint = OssCheckpoint(**oss.options)
    with report.step("save checkpoint") as moved, checkpoint.writer(oss.uri + "epoch.1") as writer:
        torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, writer)
        moved.update(objects=1, bytes=writer.tell())


def load(oss: Playground, report: Report) -> tuple[Network, torch.optim.Optimizer]:
    network, optimizer = learner()
    checkpoint = OssCheckpoint(**oss.options)
    with report.step("load checkpoint") as moved, checkpoint.reader(oss.uri + "epoch.1") as reader:
        state = torch.load(reader, weights_only=True)
        moved.update(objects=1, bytes=reader.seek(0, io.SEEK_END))
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return network, optimizer


def run(epochs: int) -> float:
    """Do the whole job with `epochs` epochs after the first; return the accuracy on unseen images."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # the network is small; the other cores are for the loader's workers
    report = Report()
    with playground("demo") as oss:
        seen, unseen = put_digits(oss, report)
        source = {"manifest_parser": imagenet_manifest_parser, "oss_base_uri": oss.uri, "transform": to_sample}

        network, optimizer = learner()
        iterable = OssIterableDataset.from_manifest_file(oss.uri + "train.tsv", **source, **oss.options)
        loader = DataLoader(iterable, batch_size=BATCH, num_workers=WORKERS)
        train(network, optimizer, batches(loader, "epoch 1, OssIterableDataset", seen, report))

        save(network, optimizer, oss, report)
        weights = {name: weight.clone() for name, weight in network.state_dict().items()}
        del network, optimizer
        network, optimizer = load(oss, report)
        if not all(torch.equal(weights[name], weight) for name, weight in network.state_dict().items()):
            raise SystemExit("the loaded weights differ from the saved ones")

        mapped = OssMapDataset.from_manifest_file(oss.uri + "train.tsv", **source, **oss.options)
        loader = DataLoader(mapped, batch_size=BATCH, num_workers=WORKERS, shuffle=True, persistent_workers=True)
        for epoch in range(2, epochs + 2):
            train(network, optimizer, batches(loader, f"epoch {epoch}, OssMapDataset, shuffled", seen, report))

        held_out = OssIterableDataset.from_manifest_file(oss.uri + "test.tsv", **source, **oss.options)
        loader = DataLoader(held_out, batch_size=BATCH, num_workers=WORKERS)
        result = accuracy(network, batches(loader, "test on unseen images", unseen, report))
    report.show()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8, help="epochs after the first (default: %(default)s)")
    start = time.perf_counter()
    result = run(parser.parse_args().epochs)
    print(f"\naccuracy on unseen images: {result:.3f} (more than {GOOD_ENOUGH} is good)")
    print(f"all of it took {time.perf_counter() - start:.1f} s")
    if result <= GOOD_ENOUGH:
        sys.exit("the network has not learned enough: something is off")
    print(NEXT, end="")


if __name__ == "__main__":
    main()
