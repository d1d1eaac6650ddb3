"""The two packages that have Lightning's classes: ours fit to the one that a program uses."""

from __future__ import annotations

import pytest
from scripts import run_python

pytest.importorskip("lightning", minversion="2.6")

PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")
import {name} as imported
from osstorchconnector.integrations.lightning import (
    OssCheckpointIO, OssFabricModelParallelStrategy, OssModelParallelStrategy
)
for kind, number in ((OssCheckpointIO, 1), (OssModelParallelStrategy, 3), (OssFabricModelParallelStrategy, 3)):
    print(kind.__mro__[number].__module__)
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "fabric", "trainer"),
    [
        ("lightning.pytorch", "lightning.fabric", "lightning.pytorch"),
        ("pytorch_lightning", "lightning_fabric", "pytorch_lightning"),
        ("torch", "lightning.fabric", "lightning.pytorch"),
    ],
)
def test_the_classes_are_those_of_the_program(name: str, fabric: str, trainer: str) -> None:
    pytest.importorskip(name.partition(".")[0])
    printed, _ = run_python("-c", PROGRAM.format(name=name), seconds=170)
    assert printed.splitlines() == [
        f"{fabric}.plugins.io.torch_io",
        f"{trainer}.strategies.model_parallel",
        f"{fabric}.strategies.model_parallel",
    ]
