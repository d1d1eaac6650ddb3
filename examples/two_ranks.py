"""Train on two ranks, get killed, and resume on three.

Run it directly: it starts itself with torchrun. `train` is the program of each rank.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from operator import attrgetter
from pathlib import Path

import torch.distributed as dist
from playground import playground, put_pictures

from osstorchconnector import OssIterableDataset, merge_states

warnings.filterwarnings("ignore", message="'set_vital' is deprecated")


def train(uri: str, options: dict[str, str], folder: Path, steps: int) -> None:
    """Train for some steps, save the loader's state after each, then kill this rank.

    With 0 steps, train to the end.
    """
    from torchdata.stateful_dataloader import StatefulDataLoader

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    dataset = OssIterableDataset.from_prefix(
        uri, **options, transform=attrgetter("name"), shuffle=True, shard_ranks=True
    )
    saved = sorted(folder.glob("state-*"))
    dist.barrier()
    if saved:
        dataset.load_state_dict(merge_states(pickle.loads(path.read_bytes()) for path in saved))
    loader = StatefulDataLoader(dataset, batch_size=None, num_workers=1, snapshot_every_n_steps=1)
    for step, name in enumerate(loader, 1):
        with (folder / f"seen-{os.getppid()}-{rank}").open("a") as seen:
            seen.write(name + "\n")
        if steps:
            beside = folder / f"unfinished-{rank}"
            beside.write_bytes(pickle.dumps(loader.state_dict()))
            beside.replace(folder / f"state-{rank}")
        if step == steps:
            dist.barrier()
            os.kill(os.getpid(), signal.SIGKILL)
    dist.destroy_process_group()


def main() -> None:
    with playground("two-ranks") as oss, tempfile.TemporaryDirectory() as folder:
        put_pictures(oss, 30)
        for ranks, steps in ((2, 7), (3, 0)):
            command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", __file__]
            arguments = [oss.uri + "pictures/", repr(oss.options), folder, str(steps)]
            environment = {"OMP_NUM_THREADS": "1", **os.environ}
            subprocess.run(
                [sys.executable, *command, *arguments], check=not steps, capture_output=bool(steps), env=environment
            )
            names = [name for path in Path(folder).glob("seen-*") for name in path.read_text().split()]
            print(f"{ranks} ranks: {len(names)} pictures seen, {max(Counter(names).values())} time each at most")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        import ast

        train(sys.argv[1], ast.literal_eval(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
