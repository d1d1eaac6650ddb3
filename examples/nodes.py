"""A pipeline of torchdata nodes (torchdata 0.10 and newer) that resumes where it was.

The .venv of `make demo` has an older torchdata, for its DataPipes, and a newer one in a separate folder:

    PYTHONPATH=.venv/torchdata-0.11 .venv/bin/python examples/nodes.py
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from playground import Playground, playground, put_pictures

from osstorchconnector import OssClient
from osstorchconnector.nodes import OssFetcher, OssLister


def pipeline(oss: Playground) -> Any:
    from torchdata.nodes import Batcher, Loader

    client = OssClient(**oss.options)
    lister = OssLister(oss.uri + "pictures/", client, shuffle=True)
    return Loader(Batcher(OssFetcher(lister, client, transform=attrgetter("name")), 4))


def main() -> None:
    with playground("nodes") as oss:
        put_pictures(oss, 12)
        loader = pipeline(oss)
        print("before:", [name.rpartition("/")[2] for name in next(iter(loader))])
        state = loader.state_dict()
        del loader

        later = pipeline(oss)
        later.load_state_dict(state)
        for batch in later:
            print("after:", [name.rpartition("/")[2] for name in batch])


if __name__ == "__main__":
    main()
