"""Hugging Face datasets: a stream of Parquet files in OSS, broken off and continued. It needs `datasets`."""

from __future__ import annotations

import itertools
import os

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here comes from the hub

import datasets
from playground import playground


def main() -> None:
    datasets.disable_progress_bars()
    with playground("hf") as oss:
        table = datasets.Dataset.from_dict({"number": range(100)})
        for shard in range(4):
            part = table.shard(4, shard, contiguous=True)
            part.to_parquet(f"{oss.uri}train/{shard}.parquet", storage_options=oss.options)

        stream = datasets.load_dataset(
            "parquet",
            data_files=f"{oss.uri}train/*.parquet",
            split="train",
            streaming=True,
            storage_options={**oss.options},  # a copy: `load_dataset` adds to it
        )
        seen = [row["number"] for row in itertools.islice(stream, 60)]
        stream.load_state_dict(stream.state_dict())
        print("seen before and after:", len(seen), sum(1 for _ in stream))

        table.save_to_disk(oss.uri + "saved", storage_options=oss.options)
        print("loaded:", len(datasets.load_from_disk(oss.uri + "saved", storage_options=oss.options)))


if __name__ == "__main__":
    main()
