#!/usr/bin/env python3
"""Storms: everything that may befall the landing, at once, under load; then an audit.

    pip install -r tests/requirements.txt
    tests/servers/servers.py run --only kafka,minio -- tests/chaos.py
    ... -- tests/chaos.py --long        1,000 kills, 100 zombies, 20 million records (an hour)
    ... -- tests/chaos.py --short       50 kills, 5 zombies (a few minutes)
    ... -- tests/chaos.py --outages     Kafka, then MinIO, is stopped and started under the service
    ... -- tests/chaos.py --panics      each of the seven actors panics once (debug build)
    ... -- tests/chaos.py --hangs       each of the seven actors hangs once (debug build)

A storm: records are produced all the while; the processes of one group (some static members, some
not; eager, cooperative or KIP-848) are killed (SIGKILL), stopped past their session and continued
(zombies), replaced under their own id while stopped, reloaded with valid and invalid files, sent
away and called back; requests to the store are cut, delayed, answered with 503 or 409, before or
after they took effect, or take effect late; connections to Kafka are cut and stalled; Kafka and
MinIO are stopped and killed. A kill strikes at a certain request, after some objects, or at a
random time. In the end all that was produced must be in the store without any restart, everybody
must leave with 0, and every record must have landed once, byte for byte (tests/audit.py).

The seed is printed; from it follow the schedule and which requests meet which fault. The machine's
own timing is not repeated. A failure prints the seed and keeps the folder: logs, configurations,
schedule, what was produced, and a copy of the bucket. Exit code 1: something was lost, doubled,
stray or stuck, or a process panicked or said that a person must act.
"""

import argparse
import contextlib
import os
import pathlib
import random
import shutil
import sys
import tempfile
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import rig

try:
    import confluent_kafka  # noqa: F401
    import numpy  # noqa: F401
    import pyarrow  # noqa: F401
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing.name} is not installed: pip install -r tests/requirements.txt")

from chaos import injected
from chaos.process import Failed
from chaos.proxy import KafkaProxy, Loop
from chaos.report import Tables
from chaos.storm import Storm

# How many storms, and of each: kills, zombies, records, records a second.
LONG = {"storms": 10, "kills": 100, "zombies": 10, "records": 2_000_000, "rate": 12_000}
SHORT = {"storms": 1, "kills": 50, "zombies": 5, "records": 200_000, "rate": 3_000}


def storms(arguments, folder):
    loop = Loop()
    kafka_proxy = KafkaProxy(
        loop,
        rig.variable("GROUNDTRACK_TEST_KAFKA_PROXIED"),
        rig.variable("GROUNDTRACK_TEST_KAFKA_BEHIND"),
    )
    tables, produced, failed = Tables(), 0, []
    for seed in range(arguments.seed, arguments.seed + arguments.storms):
        place = pathlib.Path(folder) / f"seed-{seed}"
        storm = Storm(arguments, seed, place, loop, kafka_proxy)
        print(f"\nseed {seed}: {storm.schedule.protocol}, {storm.schedule.partitions} partitions, "
              f"{sum(storm.schedule.static)} of {arguments.instances} static", flush=True)  # fmt: skip
        try:
            storm.run()
        except (Failed, OSError) as error:
            tables.add(storm)
            keep(storm, error)
            failed.append(seed)
            if arguments.fail_fast:
                break
            continue
        tables.add(storm)
        produced += storm.produced
        print(f"seed {seed}: {storm.produced} records, {storm.done['kill']} kills, "
              f"{storm.done['zombie']} zombies, {storm.lasted_s:.0f} s, of which the audit "
              f"{storm.audited_s:.0f}: every record once", flush=True)  # fmt: skip
        if arguments.keep:
            storm.write_struck()
            storm.keep_bucket()
        else:
            shutil.rmtree(place)
        storm.tidy()
    tables.print()
    print(f"\n{arguments.storms - len(failed)} of {arguments.storms} storms passed: {produced} "
          f"records, {tables.kills.total()} kills, {tables.stops.total()} zombies")  # fmt: skip
    if failed:
        raise Failed(f"seeds {failed}; what is left of them is in {folder}")


def keep(storm, error):
    """What a search for the cause needs."""
    (storm.folder / "failure.txt").write_text("".join(traceback.format_exception(error)))
    storm.write_struck()
    with contextlib.suppress(OSError, SystemExit):
        storm.keep_bucket()
    print(f"FAILED seed {storm.seed}: {error}\nkept: {storm.folder}", flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    for name in ("long", "short", "outages", "panics", "hangs"):
        what.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--storms", type=int, help="one after another, each with the next seed")
    parser.add_argument("--kills", type=int)
    parser.add_argument("--zombies", type=int)
    parser.add_argument("--records", type=int, help="at least so many")
    parser.add_argument("--rate", type=int, help="records a second while it storms")
    parser.add_argument("--instances", type=int, default=3)
    parser.add_argument("--protocol", choices=["any", "eager", "cooperative", "consumer"],
                        default="any")  # fmt: skip
    parser.add_argument("--partitions", type=int, default=4, help="not of a storm")
    parser.add_argument("--max-rows", type=int, help="of a file; default: by the seed")
    parser.add_argument("--binary", metavar="FILE", help="groundtrack; default: one of the builds")
    parser.add_argument("--keep", metavar="DIR", help="keep everything here, failed or not")
    parser.add_argument("--fail-fast", action="store_true", help="no further storm after a failure")
    arguments = parser.parse_args()
    for name, number in (LONG if arguments.long else SHORT).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, number)
    in_debug = arguments.panics or arguments.hangs
    profiles = ["debug"] if in_debug else ["release", "debug"]
    arguments.program = rig.binary("groundtrack", profiles, arguments.binary)
    print(f"seed {arguments.seed}, {arguments.program}", flush=True)
    folder = arguments.keep or tempfile.mkdtemp(prefix="groundtrack-chaos-")
    os.makedirs(folder, exist_ok=True)
    chance = random.Random(arguments.seed)
    try:
        if arguments.outages:
            injected.outages(arguments, folder, chance)
        elif in_debug:
            injected.faults(arguments, folder, chance, "panic" if arguments.panics else "hang")
        else:
            storms(arguments, folder)
    except Failed as error:
        print(f"FAILED: {error}", flush=True)
        return 1
    if not arguments.keep:
        shutil.rmtree(folder)
    print("all passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
