"""`python -m oracle`: one JSON line of settings in, one line with the endpoint out; ends when its input does."""

from __future__ import annotations

import json
import sys
import threading

from .facade import Facade
from .messages import Account
from .server import OssServer


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    facade = Facade([Account(*account) for account in settings["accounts"]], settings["region"])
    with OssServer(facade) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.endpoint, flush=True)
        sys.stdin.read()


main()
