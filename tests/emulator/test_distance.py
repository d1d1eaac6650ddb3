"""Requests at a distance: which byte may leave when, and what clients see of it."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import trustme
from emulator.raw import Peer, connected, put, request
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector import emulator
from osstorchconnector.emulator import Emulator, EmulatorError, Network
from osstorchconnector.emulator.blobs import Blob, BlobSpan
from osstorchconnector.emulator.distance import Distance, DistantWork, Link
from osstorchconnector.emulator.refusals import Refused
from osstorchconnector.emulator.wire import Hangup, Pause, Step, Until, size_of_step

TINY = 1e-6
DATA = bytes(range(256)) * 1200  # 307200 bytes
FAR = Network(latency_seconds=0.03)


class Clock:
    def __init__(self) -> None:
        self.now = 10.0

    def __call__(self) -> float:
        return self.now


class FakeWork:
    """A request that is answered with these steps."""

    def __init__(self, steps: Sequence[Step] = (), wanted: Pause | Hangup | None = None) -> None:
        self.steps, self.wanted = steps, wanted
        self.received = self.sent = 0
        self.refused: list[str] = []

    def receive(self, data: memoryview) -> Pause | Hangup | None:
        self.received += len(data)
        return self.wanted

    def refuse(self, refused: Refused) -> None:
        self.refused.append(refused.code)

    def answer(self) -> Iterable[Step]:
        return self.steps

    def ended(self, sent: int) -> None:
        self.sent = sent


class Far:
    """A network with a clock of our own, and connections to it."""

    def __init__(self, network: Network) -> None:
        self.clock = Clock()
        self.distance = Distance(network, self.clock)

    def begin(self, work: FakeWork, link: Link | None = None) -> DistantWork:
        return (link or Link()).carry(work, self.distance)

    def send(self, work: DistantWork, *, late: float = 0.0) -> list[tuple[float, Step]]:
        """Return each step with the time at which a connection that wakes up so `late` sends it."""
        sent: list[tuple[float, Step]] = []
        for step in work.answer():
            if isinstance(step, Until):
                assert step.time > self.clock.now
                self.clock.now = step.time + late
            else:
                sent.append((self.clock.now, step))
                self.clock.now += step.seconds if isinstance(step, Pause) else 0.0
        return sent


BLOB = Blob("blob")


def span(size: int) -> BlobSpan:
    return BlobSpan(BLOB, 0, size)


@given(
    st.floats(0, 0.2),
    st.none() | st.floats(1e4, 1e9),
    st.none() | st.floats(1e4, 1e9),
    st.lists(st.integers(1, 400_000), min_size=1, max_size=5),
    st.floats(0, 0.02),
)
def test_no_byte_of_an_answer_is_early_and_all_come(
    latency: float, own: float | None, total: float | None, sizes: list[int], late: float
) -> None:
    far = Far(Network(latency_seconds=latency, connection_bytes_per_second=own, total_bytes_per_second=total))
    work = far.begin(FakeWork([bytes(sizes[0]), *map(span, sizes[1:])]))
    sent = far.send(work, late=late)
    slowest = min(rate for rate in (own, total, 1e18) if rate is not None)
    count = 0
    for now, step in sent:
        count += size_of_step(step)
        assert now >= 10.0 + latency + count / slowest - TINY
    assert count == sum(sizes)
    if not late:
        assert sent[-1][0] == pytest.approx(10.0 + latency + count / slowest)


def test_a_small_answer_waits_once() -> None:
    far = Far(Network(latency_seconds=0.035, connection_bytes_per_second=100e6))
    steps = list(far.begin(FakeWork([b"head", span(110_000)])).answer())
    assert steps == [Until(10.035 + 110_004 / 100e6), b"head", span(110_000)]
    assert list(Far(FAR).begin(FakeWork([b"head", b"body"])).answer()) == [Until(10.03), b"head", b"body"]


def test_an_answer_without_latency_does_not_wait() -> None:
    assert list(Far(Network()).begin(FakeWork([b"answer"])).answer()) == [b"answer"]


def test_a_body_arrives_no_faster_than_the_rate_and_the_answer_comes_after_it() -> None:
    far = Far(Network(latency_seconds=0.5, connection_bytes_per_second=1000.0))
    inner = FakeWork([b"answer"])
    work = far.begin(inner)
    for arrived in (10.1, 10.2, 10.3):
        assert work.receive(memoryview(bytes(100))) == pytest.approx(Until(arrived))
    assert inner.received == 300
    [(now, step)] = far.send(work)
    assert (now, step) == (pytest.approx(10.3 + 0.5 + len(b"answer") / 1000), b"answer")


def test_a_body_that_is_slow_by_itself_does_not_wait() -> None:
    far = Far(Network(connection_bytes_per_second=1000.0))
    work = far.begin(FakeWork())
    for _ in range(5):
        far.clock.now += 1.0
        assert work.receive(memoryview(b"x")) is None


def test_faults_come_first_and_their_pauses_are_on_top() -> None:
    far = Far(FAR)
    reset = FakeWork([Pause(1.0), b"half", Hangup()], wanted=Hangup())
    work = far.begin(reset)
    assert work.receive(memoryview(b"x")) == Hangup()
    expected = [10.03, 11.03, 11.03]
    assert [now for now, _step in far.send(work)] == pytest.approx(expected)
    far = Far(Network(latency_seconds=0.03, connection_bytes_per_second=1000.0))
    sent = far.send(far.begin(FakeWork([Pause(1.0), bytes(100), Hangup()])))
    assert [now for now, _step in sent] == pytest.approx([10.03, 11.12, 11.12])


def test_a_late_answer_holds_up_no_other_on_the_line_that_they_share() -> None:
    far = Far(Network(latency_seconds=0.035, latency_p99_seconds=0.2, total_bytes_per_second=1e6))
    works = [far.begin(FakeWork([bytes(100)])) for _ in range(50)]
    ready = [next(iter(work.answer())) for work in works]
    assert [step.time for step in ready if isinstance(step, Until)] == [
        10.0 + latency for _work, latency in zip(works, far.distance.network.latencies(), strict=False)
    ]


def test_requests_beyond_the_limit_are_refused() -> None:
    far = Far(Network(requests_per_second=1.0))
    works = [FakeWork() for _ in range(3)]
    for work in works:
        far.begin(work)
        far.clock.now += 0.5
    assert [work.refused for work in works] == [[], ["ServiceUnavailable"], []]


def test_a_connection_keeps_its_lines_until_the_network_changes() -> None:
    far, link = Far(Network(connection_bytes_per_second=1000.0)), Link()
    assert [far.send(far.begin(FakeWork([bytes(100)]), link))[0][0] for _ in range(2)] == pytest.approx([10.1, 10.2])
    near = Far(Network())
    assert near.send(near.begin(FakeWork([bytes(100)]), link)) == [(10.0, bytes(100))]


def test_the_end_of_a_request_is_passed_on() -> None:
    work = FakeWork()
    Far(FAR).begin(work).ended(5)
    assert work.sent == 5


# --- as clients see it


def seconds_of(peer: Peer, data: bytes, *, status: int = 200) -> float:
    """Return how long it took until a request was answered."""
    start = time.monotonic()
    peer.send(data)
    assert peer.answer()[0].status == status
    return time.monotonic() - start


def test_answers_are_late_and_in_order(oss: Emulator) -> None:
    for number in range(3):
        oss.put("photos", f"k{number}", DATA[: number * 100_000])
    oss.set_network(FAR)
    with connected(oss) as peer:
        start = time.monotonic()
        peer.send(b"".join(request(oss, "GET", f"k{number}") for number in range(3)))
        for number in range(3):
            assert peer.answer()[1] == DATA[: number * 100_000]
            assert time.monotonic() - start >= 0.03 * (number + 1)


def test_a_rate_is_kept_in_both_directions(oss: Emulator) -> None:
    oss.set_network(Network(latency_seconds=0.01, connection_bytes_per_second=6e6))
    with connected(oss) as peer:
        assert seconds_of(peer, put(oss, "k", len(DATA)) + DATA) >= 0.01 + len(DATA) / 6e6
        assert seconds_of(peer, request(oss, "GET", "k")) >= 0.01 + len(DATA) / 6e6
        peer.send(request(oss, "PUT", "chunks", headers=[("transfer-encoding", "chunked")]))
        start = time.monotonic()
        peer.send(b"4b000\r\n" + DATA + b"\r\n0\r\n\r\n")
        assert peer.answer()[0].status == 200
        assert time.monotonic() - start >= len(DATA) / 6e6
    assert oss.get("photos", "k") == oss.get("photos", "chunks") == DATA


def test_connections_share_the_total(oss: Emulator) -> None:
    oss.put("photos", "k", DATA)
    oss.set_network(Network(total_bytes_per_second=20e6))
    start = time.monotonic()

    def get() -> None:
        with connected(oss) as peer:
            peer.send(request(oss, "GET", "k"))
            assert peer.answer()[1] == DATA

    threads = [threading.Thread(target=get) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - start >= 4 * len(DATA) / 20e6
    assert oss.counters().sent["GetObject"] == 4 * len(DATA)


def test_a_client_that_gives_up_waiting_for_the_network_is_noticed(oss: Emulator) -> None:
    oss.put("photos", "k", DATA)
    oss.set_network(Network(latency_seconds=0.05, connection_bytes_per_second=1e6))
    with connected(oss) as peer:
        peer.send(request(oss, "GET", "k"))
    with connected(oss) as peer:
        peer.send(put(oss, "k2", len(DATA)) + DATA[:1000])
    deadline = time.monotonic() + 200
    while oss.counters().concurrency[""]:
        assert time.monotonic() < deadline
    assert oss.keys("photos") == ["k"]


def test_the_first_request_of_a_connection_waits_for_its_set_up(oss: Emulator) -> None:
    oss.put("photos", "k", b"x")
    oss.set_network(Network(round_trip_seconds=0.05))
    start = time.monotonic()
    with connected(oss) as peer:
        peer.send(request(oss, "GET", "k"))
        assert peer.answer()[1] == b"x"
        assert time.monotonic() - start >= 0.05


def test_with_tls_the_handshake_waits(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    far = Network(round_trip_seconds=0.02, tls_round_trips=2)
    with emulator.serve(certfile=str(tmp_path / "server.pem"), buckets=["photos"], network=far) as oss:
        start = time.monotonic()
        with connected(oss) as peer:
            with context.wrap_socket(peer.socket, server_hostname="127.0.0.1") as peer.socket:
                assert time.monotonic() - start >= 0.06
                assert seconds_of(peer, put(oss, "k", len(DATA)) + DATA) >= 0
                peer.send(request(oss, "GET", "k"))
                assert peer.answer()[1] == DATA


def test_too_many_requests_a_second_are_refused_and_counted(oss: Emulator) -> None:
    oss.set_network(Network(requests_per_second=0.001))
    with connected(oss) as peer:
        peer.send(put(oss, "k", 1) + b"1" + (put(oss, "k", 1) + b"2") * 4)
        heads = [peer.answer() for _ in range(5)]
    assert [head.status for head, _body in heads] == [200, 503, 503, 503, 503]
    assert b"<Code>ServiceUnavailable</Code>" in heads[-1][1]
    assert oss.counters().errors == {"PutObject": 4}
    assert oss.get("photos", "k") == b"1"


def test_a_network_comes_and_goes_on_open_connections(oss: Emulator) -> None:
    with connected(oss) as peer:
        assert seconds_of(peer, request(oss, "GET", "k"), status=404) >= 0
        oss.set_network(FAR)
        assert seconds_of(peer, request(oss, "GET", "k"), status=404) >= 0.03
        oss.set_network(Network(requests_per_second=0.001))
        assert seconds_of(peer, request(oss, "GET", "k"), status=404) >= 0
        assert seconds_of(peer, request(oss, "GET", "k"), status=503) >= 0
        oss.set_network(None)
        assert seconds_of(peer, request(oss, "GET", "k"), status=404) >= 0


def test_a_reset_brings_back_the_first_network(oss: Emulator) -> None:
    none_admitted = Network(requests_per_second=0.001)
    with emulator.serve(buckets=["photos"], network=none_admitted) as limited:
        for change in (limited.reset, limited.restart):
            limited.set_network(None)
            with connected(limited) as peer:
                assert [seconds_of(peer, request(limited, "GET", "k"), status=404) >= 0 for _ in range(2)]
            change()
            with connected(limited) as peer:
                peer.send(request(limited, "GET", "k") * 2)
                assert [peer.answer()[0].status for _ in range(2)] == [404, 503]


def test_a_network_that_makes_no_sense_is_refused(oss: Emulator) -> None:
    network = Network()
    object.__setattr__(network, "latency_seconds", -1.0)
    with pytest.raises(EmulatorError, match="latency_seconds is -1"):
        oss.set_network(network)
