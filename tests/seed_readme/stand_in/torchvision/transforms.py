"""The five transforms of torchvision that the programs use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image


class Compose:
    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self._transforms = transforms

    def __call__(self, value: Any) -> Any:
        for transform in self._transforms:
            value = transform(value)
        return value


class Resize:
    """Scale an image so that its shorter edge has `size` pixels."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __call__(self, image: Image.Image) -> Image.Image:
        scale = self._size / min(image.size)
        return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)


class CenterCrop:
    def __init__(self, size: int) -> None:
        self._size = size

    def __call__(self, image: Image.Image) -> Image.Image:
        left, top = (image.width - self._size) // 2, (image.height - self._size) // 2
        return image.crop((left, top, left + self._size, top + self._size))


class ToTensor:
    def __call__(self, image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


class Normalize:
    def __init__(self, *, mean: Sequence[float], std: Sequence[float]) -> None:
        self._mean, self._std = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return (image - self._mean) / self._std
