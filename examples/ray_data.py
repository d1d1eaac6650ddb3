"""Ray Data: pictures are read by tasks, trained on by two workers, and written back smaller. It needs `ray[data]`.

On a cluster, call `ray.init()` without options, and give workers a credential file, or let their machines have a role.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import ray
import torch
from PIL import Image
from playground import playground, put_pictures

from osstorchconnector.integrations.ray import read_objects, write_objects


def decoded(row: dict[str, Any]) -> dict[str, Any]:
    """Make a sample of a row, in a task beside the one that reads."""
    picture = Image.open(io.BytesIO(row["bytes"])).convert("RGB")
    return {"x": np.asarray(picture, "f4").ravel() / 255, "y": int(row["key"][-9:-4]) % 3}


def smaller(row: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    Image.open(io.BytesIO(row["bytes"])).resize((16, 16)).save(file, "PNG")
    return {"key": row["key"].rpartition("/")[2], "bytes": file.getvalue()}


@ray.remote(num_cpus=0)
def train(shard: Any) -> int:
    """Train on one share of the rows; return how many there were."""
    model = torch.nn.Linear(64 * 48 * 3, 3)
    optimizer, seen = torch.optim.SGD(model.parameters(), lr=0.01), 0
    for batch in shard.iter_torch_batches(batch_size=8):
        loss = torch.nn.functional.cross_entropy(model(batch["x"]), batch["y"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(batch["y"])
    return seen


def main() -> None:
    warnings.simplefilter("ignore", DeprecationWarning)  # Ray uses settings of its own that it has deprecated
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    with playground("ray") as oss:
        put_pictures(oss, 48)
        rows = read_objects(oss.uri + "pictures/", **oss.options)
        shards = rows.map(decoded).streaming_split(2)
        print("pictures seen:", sum(ray.get([train.remote(shard) for shard in shards])))

        manifest = oss.uri + "small.jsonl"
        write_objects(rows.map(smaller), oss.uri + "small/", manifest_uri=manifest, **oss.options)
        print("pictures written:", read_objects(oss.uri + "small/", **oss.options).count())
    ray.shutdown()


if __name__ == "__main__":
    main()
