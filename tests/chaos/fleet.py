"""The processes of one group: their configurations, starts, kills, stops and reloads."""

import contextlib
import os
import pathlib
import signal
import threading
import time

import rig

from chaos import kafka, records, schedule
from chaos.process import Failed, Process
from chaos.proxy import CLIENT_TIMEOUT_S

# Longer than any back-off of ours, and than a drain on a loaded machine.
END_WITHIN_S = 90
# An instance that was replaced under its own id finds out with its next heartbeats.
FENCED_WITHIN_S = 60
# A moment that does not come by itself is not waited for any longer.
MOMENT_WITHIN_S = 10
REFUSED_WITHIN_S = 20
# A rebalance is heard of with the next one.
HEARTBEAT_MS = 500

INVALID = [
    "[files]\nmax_rows = -1\n",
    "[files]\nmax_row = 5\n",
    "[kafka\n",
    '[kafka.options]\n"auto.offset.reset" = "latest"\n',
    '[store]\ndata = ""\n',
]


class Settings:
    """What reloads change, for all slots or for one."""

    def __init__(self, slots, max_rows):
        self.lock = threading.RLock()
        self.data = schedule.DATA_FOLDERS[0]
        self.files = [
            {
                "max_rows": max_rows, "max_age": "700ms", "max_bytes": "8MiB",
                "partition_by": ["date", "hour"],
            }  # fmt: skip
            for _ in range(slots)
        ]
        self.notes = [False] * slots


class Slot:
    """One member of the group. It has two bodies, each with a port of its own: the second stands
    in for a first that is stopped."""

    def __init__(self, storm, number):
        self.storm, self.number = storm, number
        plan = storm.schedule
        self.static, self.client = plan.static[number], plan.clients[number]
        self.name = f"{storm.name}-{number}"
        self.bodies = [storm.open_port(f"{number}{letter}") for letter in "ab"]
        self.at = 0
        self.process = None
        self.starts = 0

    @property
    def port(self):
        return self.bodies[self.at]

    def write(self, body):
        """The body's configuration as the settings are now."""
        storm, settings = self.storm, self.storm.settings
        base = kafka.options(storm.schedule.protocol, schedule.SESSION_S, HEARTBEAT_MS)
        base += records.COLUMNS
        if settings.notes[self.number]:
            base += records.NOTE_COLUMN
        return rig.configuration(
            storm.folder, f"{self.name}{'ab'[body]}", storm.topic, storm.name, base,
            kafka={
                "brokers": [storm.brokers],
                "group": storm.name,
                "instance_id": self.name if self.static else "",
            },
            files=settings.files[self.number],
            store={"data": settings.data},
            **{
                "store.s3": {
                    "endpoint": f"http://127.0.0.1:{self.bodies[body].port}",
                    "client": self.client,
                    "timeout": f"{CLIENT_TIMEOUT_S}s",
                },
                "limits": {"memory": "64MiB", "drain": "10s"},
                "supervision": {"heartbeat": "30s"},
                "log": {"level": "debug", "format": "json"},
            },
        )  # fmt: skip

    # --- its process ---

    def start(self, *more):
        self.starts += 1
        with self.storm.settings.lock:
            config = self.write(self.at)
        log = pathlib.Path(self.storm.folder) / "logs" / f"{self.name}-{self.starts:04}.log"
        self.port.last, self.port.created = "nothing", 0
        self.port.requests.clear()
        self.process = Process(self.storm.program, config, *more, log=log)
        self.port.pid = self.process.process.pid

    def check(self):
        """It must not end by itself."""
        code = self.process.process.poll()
        if code is not None:
            raise Failed(f"{self.name} ended by itself with {code}{self.process.tail()}")

    def killed(self):
        self.process.process.kill()
        self.process.process.wait()
        self.port.pid = None

    def drain(self):
        """By SIGTERM, once its signals are in place."""
        self.wait_until(lambda: bool(self.port.requests), END_WITHIN_S)
        code = self.process.end(signal.SIGTERM, END_WITHIN_S)
        self.port.pid = None
        if code:
            raise Failed(f"{self.name}: SIGTERM ended it with {code}{self.process.tail()}")

    def wait_until(self, condition, within_s):
        """Whether it came to pass while the process runs."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if condition():
                return True
            self.check()
            time.sleep(0.005)
        return condition()

    def wait_until_struck(self, trap, within_s):
        """Whether the trap was sprung."""
        deadline = time.monotonic() + within_s
        while not trap.sprung.wait(0.05):
            # The strike comes before its note.
            if self.process.process.poll() is not None and not trap.sprung.wait(1):
                self.check()
            if time.monotonic() > deadline:
                return False
        return True

    # --- reloads ---

    def reload(self, kind, chance):
        settings = self.storm.settings
        self.wait_until(lambda: bool(self.port.requests), MOMENT_WITHIN_S)
        with settings.lock:
            if kind == "invalid":
                self.refused_reload(chance)
                return
            self.change(kind, chance)
            for slot in self.storm.slots if kind == "data" else [self]:
                for body in (0, 1):
                    slot.write(body)
                slot.hang_up()

    def change(self, kind, chance):
        settings, mine = self.storm.settings, self.storm.settings.files[self.number]
        match kind:
            case "rows":
                mine["max_rows"] = chance.choice([200, 1000, 3000, 20_000])
            case "age":
                mine["max_age"] = chance.choice(["300ms", "700ms", "1500ms"])
            case "folders by time":
                mine["partition_by"] = chance.choice([[], ["date"], ["date", "hour"]])
            case "column" | "no column":
                settings.notes[self.number] = kind == "column"
            case "data":
                others = [name for name in schedule.DATA_FOLDERS if name != settings.data]
                settings.data = chance.choice(others)

    def hang_up(self):
        """Only a process that speaks to the store has its signals in place for sure."""
        if self.process is not None and self.port.requests:
            with contextlib.suppress(ProcessLookupError):
                if self.process.process.poll() is None:
                    self.process.process.send_signal(signal.SIGHUP)

    def refused_reload(self, chance):
        """The old configuration goes on; the file is mended before anything else reads it."""
        if not self.port.requests:
            return
        valid = pathlib.Path(self.write(self.at))
        text = valid.read_text()
        try:
            valid.write_text(chance.choice(INVALID) + text)
            refusal = "reload refused, the old configuration goes on"
            before = self.process.count(refusal)
            self.hang_up()
            if not self.wait_until(
                lambda: self.process.count(refusal) > before, REFUSED_WITHIN_S
            ):
                raise Failed(f"{self.name} did not refuse {valid}{self.process.tail()}")
        finally:
            valid.write_text(text)


def is_stopped(pid):
    """Whether SIGSTOP has taken effect."""
    with contextlib.suppress(OSError):
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"
    return False


def proceed(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
