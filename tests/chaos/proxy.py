"""The proxies: one port for each process between it and the store, one between all and Kafka.

The store's proxy knows requests. It injects the faults of `faults.py`, springs traps (a process is
killed or stopped exactly when a request of some kind passes), and tells the mirror what the store
accepted. Everything runs in one thread with a loop of its own.
"""

import asyncio
import collections
import contextlib
import dataclasses
import os
import signal
import threading
import time
import urllib.parse

from chaos import wire

# Above the time-out that the harness gives to the clients.
CLIENT_TIMEOUT_S = 3
TOO_LATE_S = CLIENT_TIMEOUT_S + 1
UPSTREAM_TIMEOUT_S = 30
# Of what only sets a flag or opens a port.
RUN_WITHIN_S = 60


@dataclasses.dataclass
class Trap:
    """Strikes the process at the n-th request of a kind: `when` is "before" (the request never
    reaches the store), "flying" (it does, after the strike), or "after" (it did; no answer)."""

    kind: str
    when: str
    number: int
    how: signal.Signals
    delay_s: float
    sprung: threading.Event = dataclasses.field(default_factory=threading.Event)
    steps: dict = None
    last: str = ""

    @property
    def is_after(self):
        return self.when == "after"


class Port:
    """One process's way to the store."""

    def __init__(self, slot, faults, mirror):
        self.slot, self.faults, self.mirror = slot, faults, mirror
        self.port = None
        self.pid = None
        self.trap = None
        self.last = "nothing"
        self.created = 0
        self.requests = collections.Counter()

    def strike(self, trap):
        self.trap = None
        trap.last = self.last
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, trap.how)
        trap.steps = self.mirror.steps(self.slot)
        trap.sprung.set()


class Loop:
    """The thread in which all proxies run."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(RUN_WITHIN_S)


class StoreProxy:
    """All ways to what lies in the store below one prefix."""

    def __init__(self, loop, store_url, bucket, prefix, mirror):
        url = urllib.parse.urlsplit(store_url)
        self.upstream = (url.hostname, url.port)
        self.prefix = f"/{bucket}/{prefix}/"
        self.loop, self.mirror = loop, mirror
        self.busy = 0
        self.servers = []

    def open(self, slot, faults):
        port = Port(slot, faults, self.mirror)

        async def serve(reader, writer):
            await self.client(port, reader, writer)

        async def start():
            server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=wire.HEAD_BYTES_MAX)
            port.port = server.sockets[0].getsockname()[1]
            self.servers.append(server)

        self.loop.run(start())
        return port

    def close(self):
        async def now():
            for server in self.servers:
                server.close()

        self.loop.run(now())

    def settle(self, within_s):
        """Until no request is on its way any more."""
        deadline = time.monotonic() + within_s
        while self.busy and time.monotonic() < deadline:
            time.sleep(0.05)

    # --- one client's connection ---

    async def client(self, port, reader, writer):
        upstream = Upstream(self.upstream)
        try:
            while True:
                request = await wire.read_request(reader)
                self.busy += 1
                try:
                    answer = await self.handle(port, request, upstream)
                finally:
                    self.busy -= 1
                if answer is None:
                    writer.transport.abort()
                    return
                writer.write(answer.whole)
                await writer.drain()
                if answer.closes:
                    return
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            # The client, or the store, has hung up.
            pass
        finally:
            upstream.close()
            writer.close()

    async def handle(self, port, request, upstream):
        """The answer for the client; None: the connection is cut."""
        key = request.path.removeprefix(self.prefix)
        kind = self.mirror.kind_of(request, key)
        port.requests[kind] += 1
        port.last = f"{request.method} {kind}"
        trap = port.trap
        if trap is not None and trap.kind == kind:
            trap.number -= 1
            if trap.number <= 0:
                return await self.spring(port, trap, kind, key, request, upstream)
        fault = port.faults.next(kind, request.method == "PUT")
        if fault is None:
            return await self.forward(port, kind, key, request, upstream)
        return await self.inject(port, fault, kind, key, request, upstream)

    async def spring(self, port, trap, kind, key, request, upstream):
        if trap.when == "after":
            answer = await self.forward(port, kind, key, request, upstream)
            port.strike(trap)
            # To a process that was stopped its answer is no loss: it finds it when it goes on.
            return answer if trap.how == signal.SIGSTOP else None
        port.strike(trap)
        if trap.when == "flying":
            if trap.how == signal.SIGSTOP:
                await asyncio.sleep(trap.delay_s)
                return await self.forward(port, kind, key, request, upstream)
            self.forward_later(port, kind, key, request, trap.delay_s)
        return None

    async def inject(self, port, fault, kind, key, request, upstream):
        match fault.name:
            case "cut before":
                return None
            case "cut in the body":
                await upstream.half(request)
                return None
            case "503":
                return wire.error(503, "SlowDown")
            case "409":
                return wire.error(409, "ConditionalRequestConflict")
            case "slow":
                await asyncio.sleep(fault.delay_s)
                return await self.forward(port, kind, key, request, upstream)
            case "cut, takes effect later" | "503, takes effect later":
                self.forward_later(port, kind, key, request, 3 * fault.delay_s)
                return wire.error(503, "SlowDown") if fault.name.startswith("503") else None
        answer = await self.forward(port, kind, key, request, upstream)
        match fault.name:
            case "cut after":
                return None
            case "503 after":
                return wire.error(503, "InternalError")
            case "409 after":
                return wire.error(409, "ConditionalRequestConflict")
            case "answer too late":
                await asyncio.sleep(TOO_LATE_S)
                return answer
            case "answer cut in half":
                half = (len(answer.head) + len(answer.body) // 2) if answer.body else 20
                return wire.Answer(answer.whole[:half], b"", answer.status, True)
        raise AssertionError(fault.name)

    async def forward(self, port, kind, key, request, upstream):
        answer = await upstream.ask(request)
        self.mirror.answered(port.slot, kind, key, request, answer.status)
        if request.method == "PUT" and key.endswith(".parquet") and answer.status == 200:
            port.created += 1
        return answer

    def forward_later(self, port, kind, key, request, delay_s):
        async def later():
            upstream = Upstream(self.upstream)
            try:
                await asyncio.sleep(delay_s)
                await self.forward(port, kind, key, request, upstream)
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
                pass
            finally:
                upstream.close()
                self.busy -= 1

        self.busy += 1
        asyncio.ensure_future(later())


class Upstream:
    """A connection to the store, opened when it is needed."""

    def __init__(self, address):
        self.address = address
        self.reader = self.writer = None

    async def ask(self, request):
        async with asyncio.timeout(UPSTREAM_TIMEOUT_S):
            await self.open()
            self.writer.write(request.whole)
            await self.writer.drain()
            answer = await wire.read_answer(self.reader, request.method)
        if answer.closes:
            self.close()
        return answer

    async def half(self, request):
        """Sends the head and half of the body, and hangs up."""
        await self.open()
        self.writer.write(request.head + request.body[: len(request.body) // 2])
        await self.writer.drain()
        self.close()

    async def open(self):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(
                *self.address, limit=wire.HEAD_BYTES_MAX
            )

    def close(self):
        if self.writer is not None:
            self.writer.close()
            self.reader = self.writer = None


class KafkaProxy:
    """Relays every connection to the broker; cuts or stalls all of them."""

    def __init__(self, loop, listen, upstream):
        self.loop, self.upstream = loop, upstream
        self.connections = set()
        self.counts = collections.Counter()

        async def start():
            self.flowing = asyncio.Event()
            self.flowing.set()
            host, port = listen.rsplit(":", 1)
            await asyncio.start_server(self.client, host, int(port))

        loop.run(start())

    async def client(self, reader, writer):
        host, port = self.upstream.rsplit(":", 1)
        try:
            up_reader, up_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, up_writer)
        self.connections.add(pair)
        relays = [
            asyncio.ensure_future(self.relay(reader, up_writer)),
            asyncio.ensure_future(self.relay(up_reader, writer)),
        ]
        await asyncio.wait(relays, return_when=asyncio.FIRST_COMPLETED)
        for relay in relays:
            relay.cancel()
        for one in pair:
            one.transport.abort()
        self.connections.discard(pair)

    async def relay(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 18):
                await self.flowing.wait()
                writer.write(data)
                await writer.drain()

    def cut(self):
        """Every connection, in the midst of whatever it carries."""

        async def now():
            for pair in list(self.connections):
                self.counts["connections cut"] += 1
                for one in pair:
                    one.transport.abort()

        self.loop.run(now())

    def stall(self, seconds):
        async def set_flowing(flows):
            self.flowing.set() if flows else self.flowing.clear()

        self.counts["stalls"] += 1
        self.loop.run(set_flowing(False))
        time.sleep(seconds)
        self.loop.run(set_flowing(True))


