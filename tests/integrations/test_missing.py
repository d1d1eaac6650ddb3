"""Without its framework each module can be imported, and says what to install when it is used."""

from __future__ import annotations

from scripts import run_python

PROGRAM = """
import sys

NAMES = (
    "lightning", "pytorch_lightning", "lightning_fabric", "mlflow", "multistorageclient", "transformers", "ultralytics",
    "webdataset",
)

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NAMES:
            raise ImportError("a CANARY of " + name.partition(".")[0])

sys.meta_path.insert(0, Blocked())

from osstorchconnector import OssConfigError
from osstorchconnector.integrations import accelerate, lightning, mlflow, msc, transformers, ultralytics, webdataset

for use in (
    lambda: lightning.OssCheckpointIO("http://127.0.0.1:1"),
    lambda: lightning.OssAsyncCheckpointIO("http://127.0.0.1:1"),
    lightning.OssModelParallelStrategy,
    lambda: lightning.OssFabricModelParallelStrategy(None),
    lambda: transformers.OssCheckpointCallback("oss://bucket/run", "http://127.0.0.1:1"),
    lambda: msc.OssProviderBundle("bucket"),
    lambda: msc.OssStorageProvider("bucket", "http://127.0.0.1:1"),
    lambda: mlflow.OssArtifactRepository("oss://bucket/run"),
    lambda: ultralytics.make_oss_trainer("http://127.0.0.1:1"),
    lambda: webdataset.OssOpener(endpoint="http://127.0.0.1:1").register(),
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
    others = [
        f"osstorchconnector.integrations.{module} needs {package}: pip install '{package}' "
        f"(import here: ImportError: a CANARY of {name})"
        for module, package, name in (
            ("msc", "multi-storage-client>=1.3", "multistorageclient"),
            ("msc", "multi-storage-client>=1.3", "multistorageclient"),
            ("mlflow", "mlflow-skinny>=3", "mlflow"),
            ("ultralytics", "ultralytics>=8.4.190", "ultralytics"),
            ("webdataset", "webdataset>=1", "webdataset"),
        )
    ]
    assert printed.splitlines() == [lightning] * 4 + [transformers] + others
