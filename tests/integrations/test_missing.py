"""Without its framework each module can be imported, and says what to install when it is used."""

from __future__ import annotations

from scripts import run_python

PROGRAM = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("lightning", "pytorch_lightning", "lightning_fabric", "transformers"):
            raise ImportError("a CANARY of " + name.partition(".")[0])

sys.meta_path.insert(0, Blocked())

from osstorchconnector import OssConfigError
from osstorchconnector.integrations import accelerate, lightning, transformers

for use in (
    lambda: lightning.OssCheckpointIO("http://127.0.0.1:1"),
    lambda: lightning.OssAsyncCheckpointIO("http://127.0.0.1:1"),
    lightning.OssModelParallelStrategy,
    lambda: lightning.OssFabricModelParallelStrategy(None),
    lambda: transformers.OssCheckpointCallback("oss://bucket/run", "http://127.0.0.1:1"),
):
    try:
        use()
    except OssConfigError as error:
        print(error)
"""


def test_what_is_missing_is_named() -> None:
    printed, _ = run_python("-c", PROGRAM)
    lightning = (
        "osstorchconnector.integrations.lightning needs lightning>=2.6: pip install 'lightning>=2.6' "
        "(import here: ImportError: a CANARY of lightning)"
    )
    transformers = (
        "osstorchconnector.integrations.transformers needs transformers>=5: pip install 'transformers>=5' "
        "(import here: ImportError: a CANARY of transformers)"
    )
    assert printed.splitlines() == [lightning] * 4 + [transformers]
