#!/usr/bin/env python3
"""What the installed service costs at the demo's rate: one answer of the source every 5 s.

    benches/installed.py [--minutes N] [--every SECONDS]

The package of a release build, its unit and its configuration, with the addresses of a real Kafka
and MinIO and of a source that answers as Open Notify does, in a machine with systemd of its own (see
tests/installed). Prints, for each five minutes, the CPU seconds of the process, what it has in
memory, and what of that is its own (anonymous). Needs what tests/installed needs.
"""

import argparse
import os
import pathlib
import shutil
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent.parent / "tests/installed"))
import installed
from installed import CONFIG, OLD, UNIT, Machine, kafka

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_kib(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {name: int(found[name].split()[0]) for name in ("VmRSS", "VmHWM", "RssAnon", "RssFile")}


def measure(machine, arguments):
    guest = machine.guest
    machine.install(OLD)
    machine.credentials()
    kafka.create_topic("project_topic", 1)
    # The configuration as it is shipped, but for the addresses.
    text = (installed.REPOSITORY / "config/groundtrack.toml").read_text()
    for shipped, here in [
        ("http://api.open-notify.org/iss-now.json", machine.source),
        ("127.0.0.1:9092", machine.kafka),
        ('url = "s3://streaming-bucket-1"', f'url = "s3://{machine.bucket}"'),
        ('endpoint = ""', f'endpoint = "{machine.minio}"'),
        ("path_style = false", "path_style = true"),
        ('\naccess_key_id = ""', '\naccess_key_id = "credential:s3_access_key_id"'),
        ('\nsecret_access_key = ""', '\nsecret_access_key = "credential:s3_secret_access_key"'),
    ]:
        assert shipped in text, shipped
        text = text.replace(shipped, here)
    guest.write(CONFIG, text, 0o640, "groundtrack")
    guest.systemctl("enable", "--now", UNIT)
    inside, pid = machine.pid(), machine.outer_pid()
    print(f"started; {cpu_s(pid):.2f} CPU s until READY", flush=True)
    since = time.monotonic()
    print("minute  CPU s  RSS MiB  own  peak", flush=True)
    while time.monotonic() - since < arguments.minutes * 60:
        before = cpu_s(pid)
        time.sleep(arguments.every)
        kib = memory_kib(pid)
        mib = [kib[name] / 1024 for name in ("VmRSS", "RssAnon", "VmHWM")]
        minute = (time.monotonic() - since) / 60
        print(f"{minute:6.1f}  {cpu_s(pid) - before:5.2f}  {mib[0]:7.1f} {mib[1]:5.1f} {mib[2]:5.1f}", flush=True)
    print(machine.status_text(), flush=True)
    assert machine.pid() == inside and machine.restarts() == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--every", type=float, default=300)
    arguments = parser.parse_args()
    if reason := installed.missing():
        raise SystemExit(f"not here: {reason}")
    if installed.IN_NETWORK not in os.environ:
        installed.enter_network(HERE)
    folder = tempfile.mkdtemp(prefix="groundtrack-measured-")
    machine = None
    with installed.simulated_source() as source:
        try:
            machine = Machine(folder, versions=(OLD,), build=())
            machine.source = source
            machine.guest.boot()
            measure(machine, arguments)
        finally:
            if machine:
                machine.guest.remove()
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
