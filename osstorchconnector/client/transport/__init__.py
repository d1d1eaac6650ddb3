"""How a request reaches a server: transports behind the seam of `base`.

    Sender.perform
      │  WireRequest, BodySink, Transport: `base`, where it says how to write one
      ├── DirectTransport      `direct`: a pool of connections
      │     ├── Connection     `connection`: one exchange at a time, straight into the caller's memory; its `states`
      │     └── Dialer         `dialer`: new connections, for requests that wait and ahead of those to come
      ├── AioTransport         `aio`: through aiohttp, which is imported at first use: proxies, answers without a length
      └── a transport that was handed in, such as `osstorchconnector.testing.ScriptedTransport`

`addresses` tells the first two which address of a host to connect to, and the proxy that the environment names.
`outliers` tells which connection answers far more slowly than the others.
"""
