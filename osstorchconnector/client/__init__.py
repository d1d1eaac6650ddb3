"""The OSS client: pure protocol below, transports beside it, a synchronous face on top.

- what travels: `values`, in `buffers`
- the protocol, pure: `requests`, `endpoint`, `signing`, `heads`, `chunked`, `tree`, `xml`, `listing`, `checksum`
- what to make of answers and failures, pure: `answers`, `attempts`, `retry`, `pace`, `refusals`
- one request until it is answered for good: `sender`, with `traffic`, `retry_news`, `shared_state` and `hedging`, over
  a `transport` into `memory` or into `pieces` of it
- one coroutine per operation: `operations`, and `paging` for listings
- time, as connections and deadlines count it: `clocks`
- threads: `engine` has the event loops, `pipeline` and `lanes` keep many requests in flight on them
- faces: `client`, made by `access` from what users give; `reference` names one to another process
"""
