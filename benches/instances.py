#!/usr/bin/env python3
"""One, two and three instances of one group on twelve partitions.

    cargo build --release --bin groundtrack --example bare_chain
    pip install -r tests/requirements.txt
    tests/servers/servers.py run --only kafka,minio -- benches/instances.py [--records 10000000]

A topic is filled; then for one, two and three instances, twice each: they are started at once and
land all of it, the second time one is killed (SIGKILL) when half of it has landed. Where others
are left the dead one stays away, and they take over after its session (6 s); a single one is
started again. Measured from the start to the last checkpoint; the rows of each instance are those
of its own log. Every run ends with an audit in another language: each offset once.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import rig
from chaos import kafka
from chaos.process import Failed, Process

TOPIC = "instances"
PARTITIONS = 12
# The shortest that Kafka's default takes.
SESSION_S = 6
LANDED_WITHIN_S = 600
POLL_EVERY_S = 0.1


class Run:
    """Some instances that land the whole topic."""

    def __init__(self, arguments, folder, number, kills):
        self.program = rig.binary("groundtrack", ["release"], arguments.binary)
        self.folder, self.number, self.kills = pathlib.Path(folder), number, kills
        self.name = f"instances-{number}{'-killed' if kills else ''}"
        self.arguments = arguments
        self.processes, self.cpu_s = [], 0.0

    def start(self, slot, again=False):
        config = rig.configuration(
            self.folder, f"{self.name}-{slot}", TOPIC, self.name,
            kafka.options(self.arguments.protocol, SESSION_S, heartbeat_ms=500),
            kafka={"group": self.name, "instance_id": f"{self.name}-{slot}"},
            files={"max_rows": 100_000, "max_age": "1s"},
        )  # fmt: skip
        log = self.folder / f"{self.name}-{slot}{'-again' if again else ''}.log"
        self.processes.append(Process(self.program, config, log=log))

    def run(self, ends):
        since = time.monotonic()
        for slot in range(self.number):
            self.start(slot)
        try:
            is_killed = not self.kills
            while (landed := self.landed()) < sum(ends.values()):
                if time.monotonic() - since > LANDED_WITHIN_S:
                    raise SystemExit(f"not landed within {LANDED_WITHIN_S} s: {landed}")
                if not is_killed and landed > sum(ends.values()) / 2:
                    is_killed = True
                    self.end(0, signal.SIGKILL)
                    if self.number == 1:
                        self.start(0, again=True)
                time.sleep(POLL_EVERY_S)
            lasted_s = time.monotonic() - since
            for at, process in enumerate(self.processes):
                if process.process.returncode is None and self.end(at, signal.SIGTERM):
                    raise Failed(f"SIGTERM did not end it with 0{process.tail()}")
        finally:
            for process in self.processes:
                if process.process.returncode is None:
                    process.process.kill()
                    process.process.wait()
        self.tell(lasted_s, landed)
        self.audit()

    def end(self, at, how):
        process = self.processes[at].process
        process.send_signal(how)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_s += usage.ru_utime + usage.ru_stime
        return process.returncode

    def landed(self):
        """Offsets behind the last landed batches, together."""
        total = 0
        for partition in range(PARTITIONS):
            key = f"{self.name}/checkpoints/{self.name}/{TOPIC}/{partition}.json"
            try:
                body = rig.get_object(
                    rig.variable("GROUNDTRACK_TEST_MINIO"),
                    rig.variable("GROUNDTRACK_TEST_BUCKET"), key,
                )  # fmt: skip
            except OSError:
                continue
            total += json.loads(body)["next_offset"]
        return total

    def tell(self, lasted_s, landed):
        rows = []
        for process in self.processes:
            process.look()
            files = [line for line in process.lines if line["msg"] == "file landed"]
            partitions = {line["partition"] for line in files}
            rows.append(f"{sum(line['rows'] for line in files)} of {len(partitions)} partitions")
        what = f"{self.number}{', one killed' if self.kills else ''}"
        print(f"{what:<14} {lasted_s:>7.1f} {landed / lasted_s:>12.0f} {self.cpu_s:>7.1f}  "
              f"{'; '.join(rows)}", flush=True)  # fmt: skip

    def audit(self):
        command = [
            sys.executable, str(rig.REPOSITORY / "tests" / "audit.py"),
            f"s3://{rig.variable('GROUNDTRACK_TEST_BUCKET')}/{self.name}",
            "--topic", TOPIC, "--group", self.name, "--expect", "topic",
        ]  # fmt: skip
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"the audit failed:\n{done.stdout}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--protocol", choices=list(kafka.PROTOCOLS), default="cooperative")
    parser.add_argument("--binary", metavar="FILE", help="groundtrack, if not the release build")
    arguments = parser.parse_args()
    bare = rig.binary("examples/bare_chain", ["release"])
    kafka.create_topic(TOPIC, PARTITIONS)
    brokers = rig.variable("GROUNDTRACK_TEST_KAFKA")
    fill = [bare, "--brokers", brokers, "--topic", TOPIC, "--produce", str(arguments.records)]
    subprocess.run(fill, check=True)
    ends = rig.topic_offsets(brokers, TOPIC)
    print(f"{sum(ends.values())} records in {PARTITIONS} partitions, {arguments.protocol}, "
          f"load {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores\n")  # fmt: skip
    print(f"{'instances':<14} {'wall s':>7} {'rows a s':>12} {'CPU s':>7}  rows landed by each")
    with tempfile.TemporaryDirectory(prefix="groundtrack-instances-") as folder:
        for number in (1, 2, 3):
            for kills in (False, True):
                Run(arguments, folder, number, kills).run(ends)
    print("every audit: each offset once")


if __name__ == "__main__":
    main()
