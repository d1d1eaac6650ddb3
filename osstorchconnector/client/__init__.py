"""The OSS client: requests that are sent until they are answered, and a synchronous face on top.

- what to make of answers and failures, pure: `attempts`, `retry`, `pace`, `error_texts`
- one request until it is answered for good: `sender`, with `traffic`, `retry_news`, `shared_state` and `hedging`, over
  a `transport` into `memory` or into `pieces` of it
- one coroutine per operation: `operations`, and `paging` for listings
- time, as connections and deadlines count it: `clocks`
- threads: `engine` has the event loops, `pipeline` and `lanes` keep many requests in flight on them, `flight` lets go
  of memory before it is given back
- faces: `client`, made by `access` from what users give; `reference` names one to another process
"""
