"""What these modules take from torch's DataPipes, in one place: torch has announced to drop them one day.

Where torch has none, `own_pipes` has as much of them as our pipes need. What else comes from `torch.utils.data`
(`Dataset`, `IterableDataset`, `ConcatDataset`, `Sampler`, `get_worker_info`) stays there, and is imported where it is
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.data import IterDataPipe, MapDataPipe, functional_datapipe
    from torch.utils.data.datapipes.iter import Mapper, ShardingFilter
    from torch.utils.data.datapipes.iter.sharding import SHARDING_PRIORITIES
    from torch.utils.data.datapipes.utils.common import StreamWrapper
    from torch.utils.data.graph import traverse_dps
else:
    try:
        from torch.utils.data import IterDataPipe, MapDataPipe, functional_datapipe
        from torch.utils.data.datapipes.iter import Mapper, ShardingFilter
        from torch.utils.data.datapipes.iter.sharding import SHARDING_PRIORITIES
        from torch.utils.data.datapipes.utils.common import StreamWrapper
        from torch.utils.data.graph import traverse_dps
    except ImportError:
        from .own_pipes import (
            SHARDING_PRIORITIES,
            IterDataPipe,
            MapDataPipe,
            Mapper,
            ShardingFilter,
            StreamWrapper,
            functional_datapipe,
            traverse_dps,
        )

__all__ = [
    "SHARDING_PRIORITIES",
    "IterDataPipe",
    "MapDataPipe",
    "Mapper",
    "ShardingFilter",
    "StreamWrapper",
    "functional_datapipe",
    "traverse_dps",
]
