"""nginx with the same bytes as the emulator, for GETs: a server in C, without signatures and checksums."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from .site import BUCKET, HOST, Site, tool

_START_SECONDS = 10.0
# Started by root, nginx would change to a user that can't read our folder.
_CONFIG = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  open_file_cache max=20000;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  server {{
    listen 127.0.0.1:{port};
    server_name {name};
    root {root};
    add_header x-oss-request-id 000000000000000000000000;
  }}
}}
"""


def missing() -> str:
    """Return how to install nginx, or "" if it is installed."""
    return tool("nginx", "nginx-light")[1]


def serve(site: Site) -> int:
    """Serve the objects that the site has now, until it closes; return the port."""
    root = site.memory / "www"
    for keys in site.groups:
        first = root / keys[0]
        first.parent.mkdir(parents=True, exist_ok=True)
        first.write_bytes(site.server.get(BUCKET, keys[0]))
        for key in keys[1:]:
            os.link(first, root / key)
    return _start(site, root)


def _start(site: Site, root: Path) -> int:
    port = _free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    config = site.folder / "nginx.conf"
    config.write_text(_CONFIG.format(user=user, folder=site.folder, port=port, name=f"{BUCKET}.{HOST}", root=root))
    program, _ = tool("nginx", "nginx-light")
    process = subprocess.Popen([program, "-c", str(config), "-e", str(site.folder / "nginx.log")])
    site.stack.callback(process.wait)
    site.stack.callback(process.terminate)
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return port


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
