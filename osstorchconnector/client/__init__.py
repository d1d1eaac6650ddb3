"""The OSS client: requests that are sent until they are answered, and a synchronous face on top.

How a request flows, from the caller down to the socket:

    OssClient                 `client`: synchronous, URIs as text; `pipeline` keeps many requests in flight, in `lanes`
      │                       `engine`: the event-loop threads that everything below runs on
    Operations                `operations`: one coroutine for each operation of OSS; `uploads` has those of multipart
      │                       uploads, `paging` what listings need
      │
    [HedgedReads]             `layers`, around `Operations.get`: a second request for a small object that is late
      │
    Sender.perform            `sender`: sign (`composing`), send, judge the answer, wait, try again, until it is good
      │  PendingOperation     `attempts`: the request of each try, and the checks of what came
      │  decide               `retry`, with `traffic` (how many retries), `error_texts` (what the error says),
      │                       `news` (what is logged)
      │
    PacedTransport            `layers`: waits where the server asked for fewer requests (`traffic`)
    [AuditedTransport]        `layers`: a line in the audit log for each try
      │
    Transport                 `transport`: one try of one request, over one connection
                              The body goes straight into memory of the caller (`memory`).

A GET that meets nothing unusual takes a shorter way from `Sender.perform` to its connection, which does the same with
fewer calls: `steady`.

What is in [brackets] is there only if the configuration asks for it. Layers are composed once, not for each request.

- `listing` chooses how the pages of a prefix are listed; `key_space` where to cut a listing
- `limiter` measures how many requests in flight pay, `concurrency` decides how many there are, within `limits`
- `flight` runs requests whose bodies go into memory that the caller takes back, and waits for them first
- `opening` makes a client of its arguments, some of which an object of oss2 may have; without an endpoint it works on
  files of this machine, by `local`, and without any of this
- `sharing` has what the processes of a job share of one client, `clocks` time as connections and deadlines count it
"""
