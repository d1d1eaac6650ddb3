"""Checkpoints of Lightning 2.6 (`lightning`, or `pytorch_lightning`) in OSS, through our own readers and writers.

    trainer = Trainer(
        plugins=[OssCheckpointIO(ENDPOINT, cred_path=CRED_PATH)],
        callbacks=[ModelCheckpoint(dirpath="oss://bucket/run", save_last=True)],
    )
    trainer.fit(model, ckpt_path="oss://bucket/run/last.ckpt")

- `checkpoint_io`: `OssCheckpointIO` makes each checkpoint an object; `OssAsyncCheckpointIO` does while training goes on
- `sharded`: strategies whose ranks each store their own part (FSDP2, tensor parallel): `OssModelParallelStrategy` for a
  Trainer, `OssFabricModelParallelStrategy` for Fabric

`lightning` and `pytorch_lightning` have the same classes twice, and do not accept each other's. These are for the one
that the program has imported; if none or both, for `lightning`.
"""

from __future__ import annotations

from .checkpoint_io import OssAsyncCheckpointIO, OssCheckpointIO
from .sharded import OssFabricModelParallelStrategy, OssModelParallelStrategy

__all__ = [
    "OssAsyncCheckpointIO",
    "OssCheckpointIO",
    "OssFabricModelParallelStrategy",
    "OssModelParallelStrategy",
]
