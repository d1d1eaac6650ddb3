"""The OSS client: requests that are sent until they are answered, and a synchronous face on top.

- what to make of answers and failures, pure: `attempts`, `retry`, `error_texts`
- one request until it is answered for good: `sender`, held back and retried as `traffic` allows, and `hedging`, over a
  `transport` into `memory`
- one coroutine per operation: `operations`, and `paging` for listings
- time, as connections and deadlines count it: `clocks`
- threads: `engine` has the event loops, `pipeline` keeps many requests in flight on them, `flight` lets go of memory
  before it is given back
- the face: `client`; `sharing` is what the processes of a job share of one
"""
