#!/usr/bin/env python3
"""A hundred reloads under load, valid and invalid mixed; then an audit.

    pip install -r tests/requirements.txt
    tests/servers/servers.py run --only kafka,minio -- tests/reloads.py
    ... -- tests/reloads.py --short     twenty of them (half a minute)

Records flow all the while. Each valid reload changes one to three keys, and `groundtrack reload`
must answer with exactly those, each by what docs/reload.md says that it does, and the named groups
and no others must run as new generations. Each invalid one must be refused with its mistakes, and
the old configuration must still be in force. Some are asked for twice at once, some by SIGHUP. In
the end everything must have landed, every record once (tests/audit.py), without any restart that
was a failure. The seed is printed; --seed repeats the changes. Exit code 1: something was wrong.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import rig

try:
    import confluent_kafka  # noqa: F401
    import numpy  # noqa: F401
    import pyarrow  # noqa: F401
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing.name} is not installed: pip install -r tests/requirements.txt")

from chaos.injected import OpenNotify, Scene
from chaos.process import Failed

ROW = re.compile(r"\| `([a-z0-9_.]+)` \| (.+) \|")
# A drain and a start of landing, beside everything else that runs on the machine.
ANSWERED_WITHIN_S = 150
# A checkpoint remembers so many folders at most, so each of a run's changes of it counts.
FOLDER_CHANGES_MAX = 8
FOLDERS = ["parquet_files", "elsewhere"]
# By what the refusal must name: a table, and what of it is wrong.
INVALID = {
    "files.max_rows": ("files", {"max_rows": 0}),
    "limits.memory": ("limits", {"memory": "1MiB"}),
    "files.max_rws": ("files", {"max_rws": 7}),
    "enable.auto.commit": ("kafka.options", {'"enable.auto.commit"': True}),
    "web.listen": ("web", {"listen": 9000}),
    "must be TOML": ("files]", {"max_rows": 7}),
}


def table():
    """By key: what its row in docs/reload.md says, as the groups that it restarts or as words."""
    text = (rig.REPOSITORY / "docs" / "reload.md").read_text()
    found = {}
    for key, effect in ROW.findall(text):
        groups = re.findall(r"`([a-z]+)`", effect)
        found[key] = groups if effect.startswith("restarts") else effect
    return found


class Settings:
    """What the file says, and what it may say next."""

    def __init__(self, chance, source, ports, folder):
        self.chance, self.folders = chance, 0
        self.choices = {
            "source.interval": ["300ms", "400ms", "500ms"],
            "source.stale_after": ["30s", "60s"],
            "files.max_rows": [200, 1000, 5000],
            "files.max_age": ["300ms", "700ms", "1s"],
            "files.compression": ["zstd(1)", "zstd(3)", "snappy", "none"],
            "files.row_group_rows": [500, 1_000_000],
            "files.partition_by": [[], ["date"], ["date", "hour"]],
            "store.data": FOLDERS,
            "store.s3.client": ["rusoto", "object_store"],
            "store.s3.timeout": ["20s", "30s"],
            "limits.memory": ["128MiB", "160MiB"],
            "limits.drain": ["10s", "20s"],
            "supervision.backoff": ["500ms", "1s"],
            "supervision.backoff_max": ["20s", "60s"],
            "supervision.restarts": [5, 10],
            "supervision.window": ["5m", "10m"],
            "supervision.heartbeat": ["30s", "60s"],
            "web.listen": [f"127.0.0.1:{port}" for port in ports],
            "web.hosts": [[], ["page.example"]],
            "status.socket": [f"{folder}/a.sock", f"{folder}/b.sock"],
            "log.level": ["info", "debug"],
            "log.format": ["json", "terminal"],
        }
        self.now = {key: values[0] for key, values in self.choices.items()}
        # What the process holds where it differs from the file.
        self.needs_restart = set()
        self.now["source.url"], self.now["source.timeout"] = source, "200ms"
        self.has_source = True

    def change(self):
        """Changes some keys; by key, what was before."""
        before = {}
        for key in self.chance.sample(sorted(self.choices), self.chance.choice([1, 1, 2, 3])):
            if key == "store.data":
                if self.folders >= FOLDER_CHANGES_MAX:
                    continue
                self.folders += 1
            if key.startswith("source.") and not self.has_source:
                continue
            before[key] = self.now[key]
            others = [value for value in self.choices[key] if value != self.now[key]]
            self.now[key] = self.chance.choice(others)
        # Its keys are no changes of their own where the whole table comes or goes.
        if self.chance.random() < 0.1 and not any(key.startswith("source.") for key in before):
            before["source"] = self.has_source
            self.has_source = not self.has_source
        return before

    def tables(self):
        found = collections.defaultdict(dict)
        for key, value in self.now.items():
            name, key = key.rsplit(".", 1)
            if name != "source" or self.has_source:
                found[name][key] = value
        # Kafka would keep a static id of before for its session.
        found["kafka"]["instance_id"] = ""
        return found


class Reloads:
    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, pathlib.Path(folder)
        self.chance = random.Random(arguments.seed)
        self.source = OpenNotify()
        ports = [rig.free_port(), rig.free_port()]
        self.settings = Settings(self.chance, self.source.url, ports, self.folder)
        name = f"reloads-{os.getpid()}"
        self.scene = Scene(arguments, folder, name, self.chance, **self.settings.tables())
        self.socket = self.settings.now["status.socket"]
        self.effects = table()
        self.done = collections.Counter()
        self.keys = collections.Counter()

    def write(self, tables=None):
        scene, tables = self.scene, tables or self.settings.tables()
        rig.configuration(self.folder, scene.name, scene.topic, scene.name, **tables)

    # --- asking ---

    def command(self, what, *more):
        """The socket is asked that the process has, whatever the file says by now."""
        return [self.arguments.program, what, "--config", self.scene.config, "--json",
                "--set", f'status.socket="{self.socket}"', *more]  # fmt: skip

    def begin(self):
        return subprocess.Popen(
            self.command("reload"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def answer(self, asked, code):
        """The answer of one that was begun."""
        try:
            printed, said = asked.communicate(timeout=ANSWERED_WITHIN_S)
        except subprocess.TimeoutExpired:
            asked.kill()
            raise Failed(f"no answer to a reload{self.process.tail()}")
        if asked.returncode != code:
            raise Failed(f"reload ended with {asked.returncode}, not {code}: {printed}{said}"
                         f"{self.process.tail()}")  # fmt: skip
        return json.loads(printed), said

    def status(self):
        done = subprocess.run(self.command("status"), capture_output=True, text=True, timeout=30)
        if done.returncode not in (0, 1):
            raise Failed(f"status ended with {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def generations(self):
        groups = self.status()["groups"]
        if failed := [group for group in groups if group["restarts"]]:
            raise Failed(f"a group failed: {failed}")
        return {group["name"]: group["generation"] for group in groups}

    # --- one reload ---

    def valid(self):
        before_generations = self.generations()
        before = self.settings.change()
        expected = self.expected(before)
        self.write()
        if self.chance.random() < 0.15:
            self.hang_up(expected)
        else:
            twice = self.chance.random() < 0.15
            asked = [self.begin() for _ in range(2 if twice else 1)]
            answers = [self.answer(one, 0)[0] for one in asked]
            # Which of two is looked at first is not known.
            if not any(self.is_as(answer, expected) for answer in answers):
                raise Failed(f"{before} was answered {answers}, not {expected}")
            if twice:
                self.done["twice at once"] += 1
        self.moved()
        self.done["valid"] += 1
        self.keys.update(list(before))
        restarts = expected["restarted"]
        runs = {"ingest": self.settings.has_source}

        def in_force():
            now = self.generations()
            return all(
                now.get(group, 0) == number + (group in restarts and runs.get(group, True))
                for group, number in before_generations.items()
            )

        # The socket follows behind its answer.
        self.process.wait_for(f"new generations of {sorted(restarts)} alone", in_force, 60)

    def moved(self):
        """The process has gone to where the file says."""
        self.socket = self.settings.now["status.socket"]
        path = pathlib.Path(self.socket)
        self.process.wait_for(f"the socket {path}", path.exists, 60)

    def expected(self, before):
        answer = {"at_once": set(), "needs_restart": set(), "restarted": {}}
        for key in before:
            effect = self.effects[key]
            if isinstance(effect, list):
                for group in effect:
                    answer["restarted"].setdefault(group, set()).add(key)
            elif effect == "takes effect at once":
                answer["at_once"].add(key)
            else:
                # Back to what the process holds is no change.
                self.settings.needs_restart ^= {key}
        answer["needs_restart"] = set(self.settings.needs_restart)
        return answer

    def is_as(self, answer, expected):
        restarted = {one["group"]: set(one["keys"]) for one in answer["restarted"]}
        states = {one["state"] for one in answer["restarted"]}
        return (
            answer["outcome"] == "applied"
            and set(answer["at_once"]) == expected["at_once"]
            and set(answer["needs_restart"]) == expected["needs_restart"]
            and restarted == expected["restarted"]
            and states <= {"started", "off", "follows"}
        )

    def hang_up(self, expected):
        loaded = self.process.count("configuration loaded again")
        self.process.process.send_signal(signal.SIGHUP)
        self.process.wait_for(
            "a reload by SIGHUP",
            lambda: self.process.count("configuration loaded again") > loaded,
        )
        last = [one for one in self.process.lines if one["msg"] == "configuration loaded again"][-1]
        said = set(filter(None, last["restarts"].split(", ")))
        if said != set(expected["restarted"]):
            raise Failed(f"SIGHUP restarted {said}, not {expected}")
        self.done["by SIGHUP"] += 1

    def invalid(self):
        before = self.generations()
        key, (name, mistake) = self.chance.choice(sorted(INVALID.items()))
        tables = self.settings.tables()
        # Beside a valid change, so that a half of it in force would be seen.
        tables["files"]["max_rows"] = 77
        tables[name] = tables.get(name, {}) | mistake
        self.write(tables)
        answer, said = self.answer(self.begin(), 2)
        if answer["outcome"] != "refused" or not answer["mistakes"]:
            raise Failed(f"{key} was answered {answer}")
        if key not in said:
            raise Failed(f"{key} is not named: {said}")
        troubles = [one["place"] for one in self.status()["troubles"]]
        if "configuration" not in troubles:
            raise Failed(f"status does not say that a reload was refused: {troubles}")
        self.write()
        # All of the old one is in force: there is nothing to change back.
        answer, _ = self.answer(self.begin(), 0)
        if answer["at_once"] or answer["restarted"]:
            raise Failed(f"a refused reload has changed something: {answer}")
        if before != self.generations():
            raise Failed(f"a refused reload has restarted something: {before}")
        self.done["refused"] += 1

    # --- all of them ---

    def run(self):
        with self.scene.start() as self.process:
            self.process.wait_for("the first files", lambda: self.process.count("file landed") > 4)
            with self.scene.feed.flowing(self.arguments.rate):
                while self.done["valid"] + self.done["refused"] < self.arguments.reloads:
                    if self.chance.random() < 0.3:
                        self.invalid()
                    else:
                        self.valid()
                self.process.wait_for("landing goes on", self.landed_again())
            if code := self.process.end(signal.SIGTERM):
                raise Failed(f"SIGTERM ended it with {code}{self.process.tail()}")
        self.source.shutdown()
        self.scene.catch_up("--data", ",".join(FOLDERS))
        print(f"{self.arguments.reloads} reloads: {dict(self.done)}")
        print(f"changed: {dict(sorted(self.keys.items()))}")

    def landed_again(self):
        before = self.process.count("file landed")
        return lambda: self.process.count("file landed") > before


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--reloads", type=int)
    parser.add_argument("--rate", type=int, default=2000, help="records a second")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--binary", metavar="FILE", help="groundtrack; default: one of the builds")
    arguments = parser.parse_args()
    arguments.reloads = arguments.reloads or (20 if arguments.short else 100)
    arguments.program = rig.binary("groundtrack", ["release", "debug"], arguments.binary)
    print(f"seed {arguments.seed}, {arguments.program}", flush=True)
    folder = tempfile.mkdtemp(prefix="groundtrack-reloads-")
    try:
        Reloads(arguments, folder).run()
    except Failed as error:
        print(f"FAILED: {error}\nkept: {folder}", flush=True)
        return 1
    shutil.rmtree(folder)
    print("all passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
