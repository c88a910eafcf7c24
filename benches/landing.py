#!/usr/bin/env python3
"""Landing a topic by groundtrack against the bare chain, in turn, as a ratio.

    cargo build --release --bin groundtrack --example bare_chain
    tests/servers/servers.py run --only kafka,minio -- benches/landing.py [--records 2000000]

Makes a topic of four partitions, fills it with answers of Open Notify's kind (about 113 bytes),
and lands it on MinIO: groundtrack (`run --until-caught-up`, a new group and new folders each
time), the bare chain (bare_chain.rs: the same crates in one loop, without a protocol), groundtrack
again, and so on. Prints for each run the CPU seconds of the process (user and system), its peak
memory, the wall time, and what is in the store; then the medians and their ratio. Run it on a
machine that does nothing else. Needs Python's standard library alone.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import rig

PARTITIONS = 4


class Run:
    """What one run of one program took, and what it left in the store."""

    def __init__(self, command, log):
        since = time.monotonic()
        with open(log, "wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
            _, status, usage = os.wait4(process.pid, 0)
        self.wall_s = time.monotonic() - since
        process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_s = usage.ru_utime + usage.ru_stime
        # Linux counts in KiB.
        self.peak_mib = usage.ru_maxrss / 1024
        self.rows = self.files = self.bytes = 0
        if process.returncode != 0:
            tail = pathlib.Path(log).read_text(errors="replace")[-4000:]
            raise SystemExit(f"{command[0]} ended with {process.returncode}:\n{tail}")

    def print(self, name):
        print(
            f"{name:<12} {self.cpu_s:>7.2f} {self.peak_mib:>8.0f} {self.wall_s:>8.2f} "
            f"{self.rows:>10} {self.files:>6} {self.bytes / max(self.rows, 1):>11.2f}",
            flush=True,
        )


def groundtrack(program, folder, topic, number, sets):
    name = f"bench-{number}"
    config = rig.configuration(folder, name, topic, name)
    command = [program, "run", "--config", config, "--until-caught-up"]
    for key_value in sets:
        command += ["--set", key_value]
    run = Run(command, f"{folder}/{name}.log")
    endpoint, bucket = store()
    objects = rig.list_objects(endpoint, bucket, name + "/")
    for key, size in objects.items():
        if key.endswith(".parquet"):
            run.files += 1
            run.bytes += size
        else:
            checkpoint = json.loads(rig.get_object(endpoint, bucket, key))
            run.rows += checkpoint["next_offset"] - checkpoint["first_offset"]
    return run


def bare_chain(program, folder, topic, number):
    endpoint, bucket = store()
    prefix = f"bare-{number}"
    command = [
        program, "--brokers", rig.variable("GROUNDTRACK_TEST_KAFKA"), "--topic", topic,
        "--endpoint", endpoint, "--bucket", bucket, "--prefix", prefix,
    ]  # fmt: skip
    log = f"{folder}/{prefix}.log"
    run = Run(command, log)
    run.rows = json.loads(pathlib.Path(log).read_text())["rows"]
    sizes = rig.list_objects(endpoint, bucket, prefix + "/").values()
    run.files, run.bytes = len(sizes), sum(sizes)
    return run


def store():
    return rig.variable("GROUNDTRACK_TEST_MINIO"), rig.variable("GROUNDTRACK_TEST_BUCKET")


def compare(ours, bare):
    """Medians and their ratios."""

    def median(runs, what):
        return statistics.median(getattr(run, what) for run in runs)

    print(f"\n{'median':<12} {'CPU s':>7} {'peak MiB':>8} {'wall s':>8} {'bytes a row':>11}")
    rows = {}
    for name, runs in (("groundtrack", ours), ("bare chain", bare)):
        per_row = median(runs, "bytes") / max(median(runs, "rows"), 1)
        rows[name] = [median(runs, what) for what in ("cpu_s", "peak_mib", "wall_s")] + [per_row]
    rows["ratio"] = [a / b for a, b in zip(rows["groundtrack"], rows["bare chain"])]
    for name, (cpu, peak, wall, per_row) in rows.items():
        digits = 2 if name == "ratio" else 0
        print(f"{name:<12} {cpu:>7.2f} {peak:>8.{digits}f} {wall:>8.2f} {per_row:>11.2f}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3, help="of each")
    parser.add_argument("--bodies", metavar="FILE", help="fill the topic with this file's lines")
    parser.add_argument("--binary", metavar="FILE", help="groundtrack, if not the release build")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="passed to groundtrack"
    )
    arguments = parser.parse_args()
    program = rig.binary("groundtrack", ["release"], arguments.binary)
    bare = rig.binary("examples/bare_chain", ["release"])
    brokers = rig.variable("GROUNDTRACK_TEST_KAFKA")

    topic = "bench"
    rig.create_topic(brokers, topic, PARTITIONS)
    since = time.monotonic()
    fill = [bare, "--brokers", brokers, "--topic", topic, "--produce", str(arguments.records)]
    if arguments.bodies:
        fill += ["--bodies", arguments.bodies]
    subprocess.run(fill, check=True)
    print(f"{arguments.records} messages in {time.monotonic() - since:.1f} s, ", end="")
    print(f"load {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores\n")

    print(f"{'':<12} {'CPU s':>7} {'peak MiB':>8} {'wall s':>8} {'rows':>10} {'files':>6} ", end="")
    print(f"{'bytes a row':>11}", flush=True)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory(prefix="groundtrack-bench-") as folder:
        for number in range(arguments.runs):
            ours.append(groundtrack(program, folder, topic, number, arguments.set))
            ours[-1].print("groundtrack")
            theirs.append(bare_chain(bare, folder, topic, number))
            theirs[-1].print("bare chain")
    compare(ours, theirs)
    if any(run.rows != arguments.records for run in ours + theirs):
        raise SystemExit(f"not every run landed {arguments.records} rows")


if __name__ == "__main__":
    main()
