"""Where to connect to: which addresses of a host, in which order, or through which proxy; and why it failed.

Happy eyeballs (RFC 8305): addresses are tried in turns of their families, a quarter of a second apart, and the first
that answers is taken. Addresses that did not answer before it are tried last for ten minutes. So only the first
connections of a process wait for an address, or a whole family of them, that leads nowhere.

A service has many addresses, each of which leads to a part of it. Each connection begins with the next address of the
family that comes first. So the connections of a process spread over all of them.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import ipaddress
import itertools
import os
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import aiohappyeyeballs
from yarl import URL

from ...protocol.endpoint import Origin, is_this_machine
from ...redaction import Secret, SecretBytes, keeper
from ..clocks import wait
from ..engine import in_thread
from .base import ExchangeFailed

# As `socket.getaddrinfo` gives them: family, type, protocol, canonical name, socket address.
AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
Lookup = Callable[[str, int], Sequence[AddressInfo]]

HEAD_START_SECONDS = 0.25
LOST_SECONDS = 600.0
FRESH_SECONDS = 10.0
# The resolver's last answer is used for this long when it gives no new one. Then it is waited for only this long.
KEPT_SECONDS = 600.0
SILENT_SECONDS = 2.0
# A lookup that hangs keeps a thread. With this many for one host, no further one is begun.
MOST_HANGING = 4


def look_up(host: str, port: int) -> Sequence[AddressInfo]:
    """Return the addresses of a host, as the system's resolver knows them; may block for long."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class AddressBook:
    """What a process knows of the addresses of hosts. The time is handed in, in seconds.

    All event loops of the process share one. Each goes through a copy of `_lost`, which another may change meanwhile.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[float, Sequence[AddressInfo]]] = {}
        self._turns: dict[tuple[str, int], Iterator[int]] = {}
        self._lost: dict[object, float] = {}  # address, or host and family: until when

    def learn(self, host: str, port: int, infos: Sequence[AddressInfo], now: float) -> None:
        """Take in what the resolver says."""
        self._known[host, port] = now, infos

    def known(self, host: str, port: int, now: float, *, within_seconds: float) -> Sequence[AddressInfo]:
        """Return what the resolver said within this time; empty if it said nothing."""
        then, infos = self._known.get((host, port), (now, ()))
        return infos if now - then < within_seconds else ()

    def forget(self, host: str, port: int) -> None:
        """Forget the resolver's answer, of which no address could be connected to."""
        self._known.pop((host, port), None)

    def won(self, host: str, tried: Sequence[AddressInfo], winner: tuple[Any, ...], now: float) -> None:
        """Take in a race: of the addresses, in the order in which they were tried, `winner` answered first."""
        losers = list(itertools.takewhile(lambda info: info[4][:2] != winner[:2], tried))
        if len(losers) == len(tried):
            return  # the winner was none of them
        family = tried[len(losers)][0]
        self._lost = {key: until for key, until in self._lost.copy().items() if until > now}
        self._lost.pop(winner[:2], None)
        self._lost.pop((host, family), None)
        for info in losers:
            self.lost(info[4], now)
            if info[0] != family:
                self._lost[host, info[0]] = now + LOST_SECONDS

    def lost(self, address: tuple[Any, ...], now: float) -> None:
        """An address led nowhere, or to a server that does not answer."""
        self._lost[address[:2]] = now + LOST_SECONDS

    def turn(self, host: str, port: int) -> int:
        """Return the number of the next connection to a host, from 0 on."""
        return next(self._turns.setdefault((host, port), itertools.count()))

    def in_order(self, host: str, infos: Iterable[AddressInfo], now: float, turn: int = 0) -> list[AddressInfo]:
        """Return a host's addresses in the order to try for connection number `turn`."""
        families: dict[int, list[AddressInfo]] = {}
        for info in infos:
            families.setdefault(info[0], []).append(info)
        in_turns = itertools.chain.from_iterable(itertools.zip_longest(*families.values()))
        lost = {key for key, until in self._lost.copy().items() if until > now}

        def losses(info: AddressInfo) -> int:
            return (info[4][:2] in lost) + ((host, info[0]) in lost)

        ordered = sorted((info for info in in_turns if info is not None), key=losses)
        places = [place for place, info in enumerate(ordered) if info[0] == ordered[0][0] and not losses(info)]
        first = turn % len(places) if places else 0
        for place, info in zip(places, [ordered[place] for place in places[first:] + places[:first]], strict=True):
            ordered[place] = info
        return ordered


shared_book = AddressBook()


class Addresses:
    """The addresses of hosts for one event loop; a name that many ask for at once is looked up once.

    `look_up` runs in a thread of its own and may hang. Callers wait for it as long as they like, and not longer.
    """

    def __init__(
        self,
        book: AddressBook = shared_book,
        look_up: Lookup = look_up,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.book, self._look_up, self._clock = book, look_up, clock
        self._under_way: dict[tuple[str, int], list[asyncio.Future[Sequence[AddressInfo]]]] = {}
        self._given_up: set[asyncio.Future[Sequence[AddressInfo]]] = set()

    async def of(self, host: str, port: int, seconds: float) -> list[AddressInfo]:
        """Return the addresses of a host in the order to try for the next connection to it.

        Raises `socket.gaierror` if there are none within `seconds`.

        Where the resolver fails for the moment, or is silent, its last answer still holds.
        """
        literal = _literal(host, port)
        if literal:
            return literal
        fresh = self.book.known(host, port, self._clock(), within_seconds=FRESH_SECONDS)
        if fresh:
            return self._in_order(host, port, fresh)
        stale = self.book.known(host, port, self._clock(), within_seconds=KEPT_SECONDS)
        lookup = self._begin(host, port)
        await wait({lookup}, timeout=min(seconds, SILENT_SECONDS) if stale else seconds)
        if not lookup.done():
            self._given_up.add(lookup)  # the next caller begins another one, in another thread
        elif stale and _is_for_the_moment(lookup.exception()):
            pass
        else:
            try:
                return self._in_order(host, port, lookup.result())
            finally:
                del lookup  # the traceback of its error refers to this frame
        if stale:
            return self._in_order(host, port, stale)
        raise socket.gaierror(socket.EAI_AGAIN, f"the resolver says nothing of {host} within {seconds:.3g} s")

    async def connect(self, host: str, port: int, infos: Sequence[AddressInfo]) -> socket.socket:
        """Return a socket that is connected to the first of the addresses that answers; else `OSError`."""
        try:
            connected = await aiohappyeyeballs.start_connection(
                infos, happy_eyeballs_delay=HEAD_START_SECONDS, interleave=0, loop=asyncio.get_running_loop()
            )
        except BaseException:
            self.book.forget(host, port)
            raise
        self.won(host, infos, connected)
        return connected

    def won(self, host: str, infos: Sequence[AddressInfo], connected: socket.socket) -> None:
        """Tell the book which address has answered. A socket that has lost its connection is passed over."""
        self.book.won(host, infos, address_of(connected), self._clock())

    def lost(self, address: tuple[Any, ...]) -> None:
        """Tell the book of an address that leads nowhere."""
        self.book.lost(address, self._clock())

    def _in_order(self, host: str, port: int, infos: Sequence[AddressInfo]) -> list[AddressInfo]:
        return self.book.in_order(host, infos, self._clock(), self.book.turn(host, port))

    def _begin(self, host: str, port: int) -> asyncio.Future[Sequence[AddressInfo]]:
        lookups = self._under_way.setdefault((host, port), [])
        if not lookups or (lookups[-1] in self._given_up and len(lookups) < MOST_HANGING):
            lookups.append(asyncio.ensure_future(in_thread(self._look_up, host, port)))
            lookups[-1].add_done_callback(functools.partial(self._end, (host, port)))
        return lookups[-1]

    def _end(self, key: tuple[str, int], lookup: asyncio.Future[Sequence[AddressInfo]]) -> None:
        self._given_up.discard(lookup)
        self._under_way[key].remove(lookup)
        if not self._under_way[key]:
            del self._under_way[key]
        # Look at the error in any case: asyncio logs exceptions that nobody has looked at.
        if not lookup.cancelled() and lookup.exception() is None:
            self.book.learn(*key, lookup.result(), self._clock())


def address_of(connected: socket.socket) -> tuple[Any, ...]:
    """Return the address that a socket is connected to; () if it is not any more."""
    try:
        address = connected.getpeername()
    except OSError:
        return ()
    return address if isinstance(address, tuple) else ()


def _is_for_the_moment(error: BaseException | None) -> bool:
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN


def _literal(host: str, port: int) -> list[AddressInfo]:
    """Return the address that a host's name spells out, if it does."""
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except (OSError, UnicodeError):
        return []


NO_PROXY = "the proxy that the environment names is no http://host:port"
# Said of a new connection.
UNUSABLE = "the server closed the connection, or sent something, before it was asked for anything"


def connect_failure(origin: Origin, error: Exception) -> ExchangeFailed:
    """Return the failure for an error of connecting."""
    where = f"{origin.host}:{origin.port}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            plain = getattr(cause, "certificate_error", cause)  # aiohttp's error has none of the attributes
            text = f"the TLS certificate of {where} is not trusted: {getattr(plain, 'verify_message', '') or plain}"
            return ExchangeFailed("setup", text, heading="UntrustedCertificate")
        if isinstance(cause, ssl.SSLError) and getattr(cause, "reason", "") == "WRONG_VERSION_NUMBER":
            return ExchangeFailed("setup", f"{where} does not speak TLS", heading="NoTls")
        if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
            return ExchangeFailed("setup", f"the host {origin.host} is not known", heading="UnknownHost")
        cause = cause.__cause__ or getattr(cause, "os_error", None)
    return ExchangeFailed("connect", f"no connection to {where}: {_reason(getattr(error, 'os_error', error))}")


def _reason(error: BaseException) -> str:
    """Return what the system said, in its own words: those of asyncio and aiohttp repeat the address."""
    number = getattr(error, "errno", None)
    plain = isinstance(error, OSError) and not isinstance(error, ssl.SSLError | socket.gaierror)
    return os.strerror(number) if plain and number else str(error) or type(error).__name__


def proxy_for(origin: Origin) -> Secret | None:
    """Return the HTTP proxy that the environment names for a host, if any; never one for this very machine.

    Its URL may hold a login.

    `no_proxy` names hosts, domains, either of them with a port, and networks such as 10.0.0.0/8, which urllib does not
    know.
    """
    if is_this_machine(origin.host) or urllib.request.proxy_bypass(f"{origin.host}:{origin.port}"):
        return None
    if _is_in_networks(origin.host, urllib.request.getproxies().get("no", "")):
        return None
    proxy = urllib.request.getproxies().get(origin.scheme)
    return None if proxy is None else Secret(proxy if "://" in proxy else f"http://{proxy}")


def proxy_and_login(origin: Origin) -> tuple[URL | None, list[tuple[str, Secret]]]:
    """Return the address of the proxy without a login, and the header that logs in: tracebacks show addresses."""
    address = proxy_for(origin)
    if address is None:
        return None, []
    try:
        url = keeper(URL(address))
    except ValueError:
        raise ExchangeFailed("setup", NO_PROXY, heading="WrongProxy") from None
    if url().user is None and url().password is None:
        return url(), []
    login = SecretBytes(f"{url().user or ''}:{url().password or ''}".encode())
    return url().with_user(None), [("Proxy-Authorization", Secret(f"Basic {base64.b64encode(login).decode()}"))]


def _is_in_networks(host: str, names: str) -> bool:
    for name in names.split(","):
        with contextlib.suppress(ValueError):  # the host, or the name, is no address
            if ipaddress.ip_address(host) in ipaddress.ip_network(name.strip(), strict=False):
                return True
    return False
