#!/usr/bin/env python3
"""From the start of a process that was killed to the first record landed.

    cargo build --release --bin groundtrack
    pip install -r tests/requirements.txt
    tests/servers/servers.py run --only kafka,minio -- benches/restart.py [--restarts 100]
    ... -- benches/restart.py --protocol consumer --restarts 10 [--dynamic]

A steady small flow fills the topic; batches are closed after 100 ms. The process is killed
(SIGKILL) while it lands, at a random time, and started again after half a second. Measured from
just before the exec to the moment when the store has accepted the checkpoint that says "landed":
by then the objects are there. A proxy between the process and the store, which does nothing else,
notes when the store accepted what. The steps between are printed too. Under KIP-848 the broker
keeps a killed static member's id until its session ends: --session of the group, 45 s by default
in Kafka and in the classic protocol here, is part of the figure.
"""

import argparse
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import rig
from chaos import kafka, mirror, records
from chaos.faults import Faults
from chaos.process import Process
from chaos.proxy import Loop, StoreProxy

# The steps of a restart, in their order, by the kinds of request that end them.
STEPS = [
    ("first request to the store", mirror.KINDS),
    ("first partition claimed", ["create", "claim"]),
    ("first batch begun", ["begin", "landed+begin"]),
    ("first object there", ["put data", "put dead letters"]),
    ("first record landed", ["landed", "landed+begin"]),
]
# A restart that takes longer has failed.
LANDED_WITHIN_S = 120


class Clock(mirror.Mirror):
    """Notes when the store answered the first request of each kind."""

    def __init__(self):
        super().__init__(["parquet_files"], "dead_letters", "checkpoints")
        self.first = {}

    def answered(self, slot, kind, key, request, status):
        super().answered(slot, kind, key, request, status)
        if status == 200 or request.method == "GET":
            self.first.setdefault(kind, time.monotonic())

    def when(self, kinds):
        return min((self.first[kind] for kind in kinds if kind in self.first), default=None)


class Bench:
    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, pathlib.Path(folder)
        self.program = rig.binary("groundtrack", ["release"], arguments.binary)
        self.clock = Clock()
        self.topic = name = "restart"
        loop = Loop()
        proxy = StoreProxy(
            loop, rig.variable("GROUNDTRACK_TEST_MINIO"),
            rig.variable("GROUNDTRACK_TEST_BUCKET"), name, self.clock,
        )  # fmt: skip
        self.port = proxy.open("0", Faults(0, "0", 0))
        kafka.create_topic(self.topic, arguments.partitions)
        is_classic = arguments.protocol != "consumer"
        if not is_classic:
            kafka.set_session(name, arguments.session)
        self.config = rig.configuration(
            folder, name, self.topic, name,
            kafka.options(arguments.protocol, arguments.session) + records.COLUMNS,
            kafka={"instance_id": "" if arguments.dynamic else "restart"},
            files={"max_age": "100ms"},
            **{"store.s3": {"endpoint": f"http://127.0.0.1:{self.port.port}"}},
        )  # fmt: skip

    def feed(self):
        command = [
            sys.executable, str(rig.REPOSITORY / "tests" / "chaos" / "feed.py"),
            "--brokers", rig.variable("GROUNDTRACK_TEST_KAFKA"), "--topic", self.topic,
            "--partitions", self.arguments.partitions, "--records", 0,
            "--rate", self.arguments.rate, "--seed", 0, "--out", self.folder / "produced",
        ]  # fmt: skip
        return subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)

    def run(self):
        feed = self.feed()
        chance = random.Random(0)
        taken = []
        try:
            for number in range(self.arguments.restarts + 1):
                steps = self.start_and_kill(number, chance)
                # The first start is none after a kill.
                if number:
                    taken.append(steps)
                    print(f"{number:>4} {steps[-1]:.3f} s", flush=True)
        finally:
            feed.send_signal(signal.SIGTERM)
            feed.wait()
        self.tell(taken)

    def start_and_kill(self, number, chance):
        self.clock.first = {}
        since = time.monotonic()
        with Process(self.program, self.config, log=self.folder / f"{number}.log") as process:
            process.wait_for(
                "the first record landed", lambda: self.clock.when(STEPS[-1][1]), LANDED_WITHIN_S
            )
            steps = [(self.clock.when(kinds) or since) - since for _, kinds in STEPS]
            time.sleep(chance.uniform(0.5, 1.5))
            process.end(signal.SIGKILL)
        time.sleep(0.5)
        return steps

    def tell(self, taken):
        print(f"\n{len(taken)} restarts, seconds from the exec {'median':>17} {'p90':>7} {'max':>7}")
        for at, (name, _) in enumerate(STEPS):
            all_s = sorted(steps[at] for steps in taken)
            p90_s = all_s[min(len(all_s) - 1, int(0.9 * len(all_s)))]
            print(f"{name:<44} {statistics.median(all_s):>7.3f} {p90_s:>7.3f} {all_s[-1]:>7.3f}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--restarts", type=int, default=100)
    parser.add_argument("--protocol", choices=["classic", "cooperative", "consumer"],
                        default="classic")  # fmt: skip
    parser.add_argument("--dynamic", action="store_true", help="without static membership")
    parser.add_argument("--session", type=int, default=45, help="session time-out in seconds")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--rate", type=int, default=100, help="records a second")
    parser.add_argument("--binary", metavar="FILE", help="groundtrack, if not the release build")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="groundtrack-restart-") as folder:
        Bench(arguments, folder).run()


if __name__ == "__main__":
    main()
