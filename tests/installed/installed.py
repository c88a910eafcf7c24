#!/usr/bin/env python3
"""The package, in a machine with systemd, beside a real Kafka and MinIO.

    tests/installed/installed.py            the short form: a few minutes
    tests/installed/installed.py --long     each actor hangs, not three of them
    tests/installed/installed.py --only NAME [NAME...]

Needs root, systemd, the servers (`tests/servers/servers.py install`), Python's packages
(tests/requirements.txt) and a debug build (`cargo build --bin groundtrack --example manual`), which
is packaged twice, as two versions. Without root or systemd it says so and ends with 0.

Nothing leaves this machine: the tests have a network of their own, with a loopback and nothing else,
in which the servers and the guest (`guest.py`) run.
"""

import argparse
import contextlib
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = pathlib.Path(__file__).resolve()
REPOSITORY = HERE.parent.parent.parent
sys.path[:0] = [str(HERE.parent), str(REPOSITORY / "tests")]
import rig
from chaos import kafka, records
from guest import Guest, missing, removed, until

UNIT = "groundtrack.service"
# It polls, into a topic of its own.
POLLED = "groundtrack@polled.service"
CONFIG = "/etc/groundtrack/groundtrack.toml"
# The unit's is 120 s; above the heartbeat of the tests, and the 5 s that a thread has at least.
WATCHDOG = "16s"
OLD, NEW = "0.1.0", "0.1.1"
IN_NETWORK = "GROUNDTRACK_TEST_IN_NETWORK"
# Tenths, as systemd-analyze wants it: 1.5.
EXPOSURE_MAX = 15
RATE = 40
# More records than fit in the memory that a service needs for its start.
BACKLOG = 400_000
ENOUGH_TO_START = 24 << 20
PARTITIONS = 2

# A step of each actor's own (docs/fault-points.md), after which it makes no progress, and the name
# that it has in the log. The shorter list has one of landing and one of ingest.
HANGS = [
    ("hand-records", "subscriber"),
    ("hand-sample", "poller"),
    ("produce", "publisher"),
    ("decode", "flattener"),
    ("absorb", "accumulator"),
    ("prepare-object", "uploader"),
    ("hand-command", "checkpoint"),
]
HANGS_SHORT = 2
OF_INGEST = ("poller", "publisher")


class Feed:
    """Records into a topic at a rate, each acknowledgement noted, until it is ended."""

    def __init__(self, folder, topic, partitions, records):
        """Brought up to so many records when it is ended."""
        self.topic = topic
        self.folder = pathlib.Path(folder) / f"feed-{topic}"
        self.folder.mkdir()
        brokers = rig.variable("GROUNDTRACK_TEST_KAFKA")
        kafka.create_topic(topic, partitions)
        command = [sys.executable, str(REPOSITORY / "tests/chaos/feed.py"), "--brokers", brokers,
                   "--topic", topic, "--partitions", str(partitions), "--records", str(records),
                   "--rate", str(RATE), "--out", str(self.folder), "--seed", "1"]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        # It hears signals before it makes its notes.
        until(f"the feed of {topic}", lambda: any(self.folder.iterdir()))

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        assert self.process.wait(60) == 0, "Kafka took every record"


class Machine:
    """The guest with its package, and what the tests ask of the service."""

    def __init__(self, folder, versions=(OLD, NEW), build=("--debug",), long=False):
        self.folder = pathlib.Path(folder)
        self.long = long
        self.kafka = rig.variable("GROUNDTRACK_TEST_KAFKA")
        self.minio = rig.variable("GROUNDTRACK_TEST_MINIO")
        self.bucket = rig.variable("GROUNDTRACK_TEST_BUCKET")
        self.debs = {}
        for version in versions:
            printed = subprocess.run(
                [REPOSITORY / "packaging/build", *build, "--version", version,
                 "--out", self.folder / "packages"],
                check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            self.debs[version], self.tarball = printed.stdout.split()
        (self.folder / "guest").mkdir()
        self.guest = Guest(self.folder / "guest")
        self.feeds = []

    def install(self, version):
        deb = pathlib.Path(self.debs[version])
        shutil.copy(deb, self.guest.root / "root")
        self.guest.run("apt-get", "install", "--yes", f"/root/{deb.name}")

    # --- what is configured ---

    def config(self, topic, base=records.COLUMNS, **tables):
        """`base`: the columns; those of the feed's records."""
        settings = {
            "kafka": {"brokers": [self.kafka], "topic": topic, "group": topic},
            "kafka.options": {"session.timeout.ms": "6000", "heartbeat.interval.ms": "1000"},
            "files": {"max_age": "2s"},
            "store": {"url": f"s3://{self.bucket}/{topic}"},
            "store.s3": {
                "endpoint": self.minio,
                "path_style": True,
                "access_key_id": "credential:s3_access_key_id",
                "secret_access_key": "credential:s3_secret_access_key",
            },
            "limits": {"drain": "15s"},
            "web": {"listen": ""},
        }
        for table, keys in tables.items():
            settings.setdefault(table, {}).update(keys)
        if not settings["store"]["url"].startswith("s3:"):
            del settings["store.s3"]
        return base + rig.toml(settings)

    def configure(self, topic, name="groundtrack", **tables):
        text = self.config(topic, **tables)
        self.guest.write(f"/etc/groundtrack/{name}.toml", text, 0o640, "groundtrack")

    def credentials(self):
        folder = "/etc/groundtrack/credentials"
        for name, variable in [
            ("s3_access_key_id", "AWS_ACCESS_KEY_ID"),
            ("s3_secret_access_key", "AWS_SECRET_ACCESS_KEY"),
        ]:
            self.guest.write(f"{folder}/{name}", rig.variable(variable) + "\n", 0o600)

    def drop_in(self, text, unit=UNIT):
        """Further keys of a unit's [Service]; none takes them away."""
        folder = f"/etc/systemd/system/{unit}.d"
        if text:
            self.guest.write(f"{folder}/test.conf", f"[Service]\n{text}")
        else:
            self.guest.run("rm", "-rf", folder)
        self.guest.systemctl("daemon-reload")

    def feed(self, topic, partitions=PARTITIONS, records=1):
        self.feeds.append(Feed(self.folder, topic, partitions, records))
        return self.feeds[-1]

    # --- what is seen ---

    def status_text(self, unit=UNIT):
        return self.guest.show(unit, "StatusText")

    def landed(self, topic):
        """Data files of a topic in the bucket."""
        objects = rig.list_objects(self.minio, self.bucket, f"{topic}/parquet_files/")
        return set(objects)

    def lands(self, topic, what):
        """Waits until more has landed than now."""
        before = self.landed(topic)
        until(f"{what}: a file of {topic}", lambda: self.landed(topic) - before)

    def is_up(self, unit=UNIT):
        return self.guest.show(unit, "ActiveState") == "active"

    def says(self, text, unit=UNIT, within_s=120):
        """Waits for a message of the journal that holds this, in this or an earlier start."""

        def said():
            lines = self.guest.journal(unit)
            return next((told(line) for line in lines if text in told(line)), None)

        return until(f"the journal says {text!r}", said, within_s)

    def forget_journal(self):
        """What was said before is not found any more."""
        self.guest.run("journalctl", "--rotate", "--quiet")
        self.guest.run("journalctl", "--vacuum-time=1s", "--quiet")

    def restarts(self, unit=UNIT):
        return int(self.guest.show(unit, "NRestarts"))

    def pid(self, unit=UNIT):
        return int(self.guest.show(unit, "MainPID"))

    def status(self, name="groundtrack"):
        """What `groundtrack status` says, and its exit code."""
        done = self.guest.run(
            "groundtrack", "status", "--config", f"/etc/groundtrack/{name}.toml", check=False
        )
        return done.returncode, done.stdout + done.stderr

    def outer_pid(self):
        """The service's process as it is numbered outside of the guest."""
        inside = self.pid()
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                text, outside = status.read_text(), status.parent.name
                is_it = text.startswith("Name:\tgroundtrack\n")
                if is_it and f"\nNSpid:\t{outside}\t{inside}\n" in text:
                    return int(outside)
        raise AssertionError(f"no process is {inside} inside")

    def verify(self, path=CONFIG):
        """Proves what landed by the installed program itself."""
        environment = ["env", "CREDENTIALS_DIRECTORY=/etc/groundtrack/credentials"]
        return self.guest.run(
            *environment, "groundtrack", "verify", "--topic", "--json", "--config", path, check=False
        )

    def audit(self, feed, root=None):
        """Every record of a feed is there once, by other people's libraries."""
        root = root or f"s3://{self.bucket}/{feed.topic}"
        audit = [sys.executable, str(REPOSITORY / "tests/audit.py"), root,
                 "--topic", feed.topic, "--group", feed.topic, "--expect", "topic",
                 "--produced", str(feed.folder)]  # fmt: skip
        if root.startswith("s3:"):
            audit += ["--endpoint", self.minio]
        done = subprocess.run(audit, capture_output=True, text=True)
        assert done.returncode == 0, f"the audit of {feed.topic}:\n{done.stdout}{done.stderr}"
        say(done.stdout.strip().splitlines()[-1])


def message_of(line):
    message = line.get("MESSAGE", "")
    # What is no UTF-8 comes as numbers.
    return message if isinstance(message, str) else bytes(message).decode(errors="replace")


def told(line):
    """A message, and the error that it came with in a field of its own."""
    message, error = message_of(line), line.get("ERROR", "")
    return message if error in message else f"{message}: {error}"


def say(text):
    print(f"    {text}", flush=True)


# --- the tests, in the order in which a machine meets them -----------------------------------


def units_are_sound(machine):
    """`systemd-analyze` has no complaint, and the exposure is what the README says."""
    guest = machine.guest
    for unit in (UNIT, "groundtrack@.service"):
        path = f"/usr/lib/systemd/system/{unit}"
        guest.run("systemd-analyze", "verify", "--recursive-errors=no", "--man=no", path)
        shown = guest.run(
            "systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", path
        )
        say(shown.stdout.strip().splitlines()[-1])


def a_first_install_starts_nothing(machine):
    guest = machine.guest
    machine.install(OLD)
    assert guest.systemctl("is-enabled", UNIT, check=False).stdout.strip() == "disabled"
    assert guest.show(UNIT, "ActiveState", "NRestarts") == ("inactive", "0")
    for path, expected in [
        (CONFIG, "root groundtrack 640"),
        ("/etc/groundtrack", "root groundtrack 750"),
        ("/etc/groundtrack/credentials", "root root 700"),
        ("/usr/bin/groundtrack", "root root 755"),
    ]:
        assert guest.run("stat", "-c", "%U %G %a", path).stdout.strip() == expected, path
    assert not guest.run("ls", "/etc/groundtrack/credentials").stdout
    assert "nologin" in guest.run("getent", "passwd", "groundtrack").stdout
    for file in ("man/man1/groundtrack-run.1.gz", "bash-completion/completions/groundtrack"):
        guest.run("test", "-s", f"/usr/share/{file}")
    assert OLD in guest.run("dpkg-query", "--show", "groundtrack").stdout


def a_wrong_configuration_is_not_restarted(machine):
    machine.guest.write(CONFIG, "[kafka]\ntopics = 'x'\n", 0o640, "groundtrack")
    refused = machine.guest.systemctl("start", UNIT, check=False)
    assert refused.returncode != 0
    seen = machine.guest.show(UNIT, "ActiveState", "Result", "ExecMainStatus", "NRestarts")
    assert seen == ("failed", "exit-code", "2", "0"), seen
    say(machine.says("kafka.topics"))


def a_missing_credentials_folder_ends_the_start(machine):
    guest = machine.guest
    machine.configure("iss")
    guest.run("mv", "/etc/groundtrack/credentials", "/root/kept")
    refused = guest.systemctl("start", UNIT, check=False)
    assert refused.returncode != 0
    say(machine.says("status=243/CREDENTIALS"))
    guest.systemctl("stop", UNIT)
    guest.systemctl("reset-failed", UNIT, check=False)
    guest.run("mv", "/root/kept", "/etc/groundtrack/credentials")


def a_missing_credential_is_named(machine):
    """The folder is there, empty as it is shipped: the configuration names what is not in it."""
    refused = machine.guest.systemctl("start", UNIT, check=False)
    assert refused.returncode != 0
    seen = machine.guest.show(UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
    assert seen == ("failed", "2", "0"), seen
    say(machine.says("s3_access_key_id"))


def an_absent_broker_does_not_fail_the_boot(machine):
    """READY comes after 30 s, with a STATUS that says what is waited for; `status` says it too."""
    machine.credentials()
    machine.configure("iss", kafka={"brokers": ["127.0.0.1:9"]})
    since = time.monotonic()
    machine.guest.systemctl("enable", "--now", UNIT)
    took_s = time.monotonic() - since
    assert machine.is_up()
    status = machine.status_text()
    assert "waits for 127.0.0.1:9 to let it into the group" in status, status
    code, told = machine.status()
    assert code == 1 and "127.0.0.1:9" in told, told
    say(f"READY after {took_s:.0f} s: {status}")


def a_start_is_ready_and_files_land(machine):
    machine.feed("iss")
    machine.configure("iss")
    machine.guest.systemctl("restart", UNIT)
    assert machine.is_up()
    machine.lands("iss", "after READY")
    status = until(
        "a STATUS with a file",
        lambda: re.search(r"\d+ records landed.*last file .*", machine.status_text()),
    )
    say(status[0])
    code, told = machine.status()
    assert code == 0, told
    code = machine.guest.show(UNIT, "NRestarts", "Result")
    assert code == ("0", "success"), code


def a_reload_tells_whether_it_was_taken(machine):
    """`systemctl reload` waits for the answer, and fails, with the mistakes, at a refusal."""
    pid = machine.pid()
    machine.configure("iss", files={"max_age": "1500ms"})
    machine.guest.systemctl("reload", UNIT)
    assert machine.guest.show(UNIT, "ActiveState", "SubState") == ("active", "running")
    machine.guest.write(CONFIG, "[files]\nmax_aeg = '1s'\n", 0o640, "groundtrack")
    refused = machine.guest.systemctl("reload", UNIT, check=False)
    assert refused.returncode != 0, "a refused reload fails"
    until("STATUS of the refusal", lambda: "reload was refused" in machine.status_text())
    say(machine.says("max_aeg"))
    machine.configure("iss")
    machine.guest.systemctl("reload", UNIT)
    assert machine.pid() == pid, "a reload is no restart"
    machine.lands("iss", "after a reload")


def a_kill_is_followed_by_a_restart(machine):
    pid, restarts = machine.pid(), machine.restarts()
    machine.guest.run("kill", "-9", str(pid))
    until("a new process", lambda: machine.is_up() and machine.pid() not in (0, pid))
    assert machine.restarts() == restarts + 1
    say(machine.says("code=killed, status=9/KILL"))
    machine.lands("iss", "after a kill")


def a_kill_for_want_of_memory_is_followed_by_a_restart(machine):
    """By the kernel itself, in a group of this machine: the guest's own is not enforced."""
    memory = pathlib.Path("/sys/fs/cgroup/memory")
    if not memory.is_dir():
        say("not done: no memory hierarchy of version 1 is here")
        return
    unit, guest = "groundtrack@big.service", machine.guest
    feed = machine.feed("big", 1, BACKLOG)
    feed.end()
    machine.configure("big", "big")
    group = memory / guest.name
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(f"{ENOUGH_TO_START}\n")
    try:
        # What is started meanwhile stays in the group; what is started later is outside.
        (group / "cgroup.procs").write_text(f"{guest.leader}\n")
        guest.systemctl("start", "--no-block", unit)
        until("a process", lambda: machine.pid(unit) != 0)
        (memory / "cgroup.procs").write_text(f"{guest.leader}\n")
        say(machine.says("status=9/KILL", unit))
        assert "oom_kill 1" in (group / "memory.oom_control").read_text()
        until("a new process", lambda: machine.is_up(unit))
        assert machine.restarts(unit) == 1
    finally:
        (memory / "cgroup.procs").write_text(f"{guest.leader}\n")
        until("an empty group", lambda: removed(group), 30)
    ends = rig.topic_offsets(machine.kafka, "big")
    until("all of it has landed", lambda: reached(machine, "big") == ends)
    guest.systemctl("stop", unit)


def hang(machine, faults, unit=UNIT):
    """A start in which the faults strike; the watchdog and the heartbeat are shortened."""
    machine.forget_journal()
    supervision = {"heartbeat": "3s", "backoff": "500ms"}
    if unit == UNIT:
        machine.configure("iss", supervision=supervision)
    else:
        source = {"url": machine.source, "interval": "1s", "timeout": "900ms"}
        machine.configure("polled", "polled", base="", supervision=supervision, source=source)
    machine.drop_in(f"Environment=GROUNDTRACK_FAULTS={faults}\nWatchdogSec={WATCHDOG}\n", unit)
    before = machine.pid(unit)
    # The fault may strike before READY, and a restart that is waited for fails with it.
    machine.guest.systemctl("restart", "--no-block", unit)
    until("the start", lambda: machine.pid(unit) not in (0, before))


def a_hang_of_an_actor_is_mended_within_the_process(machine):
    """The heartbeat comes first: the process stays."""
    kafka.create_topic("polled", 1)
    for step, actor in HANGS if machine.long else HANGS[:HANGS_SHORT]:
        unit, topic = (POLLED, "polled") if actor in OF_INGEST else (UNIT, "iss")
        hang(machine, f"{step}:before=hang@3", unit)
        pid = machine.pid(unit)
        text = machine.says(f"actor {actor} ended: hung: no progress for", unit)
        machine.lands(topic, f"after the hang of {actor}")
        assert (machine.pid(unit), machine.restarts(unit)) == (pid, 0), "the heartbeat came first"
        say(f"{actor}: heartbeat; {re.search('hung: no progress for [0-9a-z ]+', text)[0]}")


def a_stuck_thread_of_ingest_is_the_watchdogs(machine):
    """The supervisor can only say that it is stuck, and does not feed the watchdog."""
    hang(machine, "poll:before=stuck@3", POLLED)
    bitten(machine, POLLED)
    machine.lands("polled", "after a stuck thread of ingest")
    machine.guest.systemctl("stop", POLLED)
    machine.drop_in("", POLLED)


def a_stuck_thread_of_landing_is_the_watchdogs(machine):
    """The consumer's, and that of the actors: neither can be ended. With the unit's own 120 s the
    process gives up before, with exit code 1."""
    stuck = ["hand-records:before=stuck@3", "poll-events:before=hang@300"]
    for faults in stuck if machine.long else stuck[:1]:
        hang(machine, faults)
        bitten(machine)
        machine.lands("iss", f"after {faults}")


def a_supervisor_that_hangs_is_the_watchdogs(machine):
    """A process that is stopped as a whole."""
    hang(machine, "")
    machine.lands("iss", "before the stop")
    machine.guest.run("kill", "-STOP", str(machine.pid()))
    bitten(machine)
    machine.lands("iss", "after the watchdog")
    machine.drop_in("")
    machine.configure("iss")
    machine.guest.systemctl("restart", UNIT)


def bitten(machine, unit=UNIT):
    """The watchdog ends the process, and systemd starts it anew, without the faults."""
    pid = machine.pid(unit)
    machine.drop_in(f"WatchdogSec={WATCHDOG}\n", unit)
    say(machine.says("Watchdog timeout", unit))
    until("a new process", lambda: machine.is_up(unit) and machine.pid(unit) not in (0, pid))
    assert machine.restarts(unit) == 1


def a_full_state_folder_is_said_and_waited_out(machine):
    """A `file://` store in the state folder, on a disk of 256 KiB."""
    guest, unit, name = machine.guest, "groundtrack@full.service", "full"
    feed = machine.feed("full", 1)
    state = f"/var/lib/groundtrack-{name}"
    guest.run("install", "-d", "-o", "groundtrack", "-g", "groundtrack", "-m", "0750", state)
    guest.run("mount", "-t", "tmpfs", "-o", "size=256k,mode=0750", "full", state)
    machine.configure("full", name, store={"url": f"file://{state}"})
    guest.systemctl("start", unit)
    text = until(
        "STATUS of the full disk",
        lambda: (text := machine.status_text(unit)) and "space" in text and text,
    )
    say(text[:200])
    code, told = machine.status(name)
    assert code == 1 and "space" in told, told
    say("\n    ".join(told.splitlines()))
    assert machine.is_up(unit), "it waits"
    assert machine.restarts(unit) == 0
    guest.run("mount", "-o", "remount,size=256m", state)
    until("room is used", lambda: "space" not in machine.status_text(unit))
    mode = guest.run("sh", "-c", f"stat -c '%U %G %a' $(find {state} -name '*.parquet' | head -n 1)")
    assert mode.stdout.strip() == "groundtrack groundtrack 640", mode.stdout
    feed.end()
    guest.systemctl("stop", unit)
    code, told = machine.status(name)
    assert code == 4, told
    proven = machine.verify(f"/etc/groundtrack/{name}.toml")
    assert proven.returncode == 0, proven.stdout + proven.stderr
    machine.audit(feed, f"file:///proc/{guest.leader}/root{state}")
    machine.feeds.remove(feed)
    guest.run("umount", state)
    guest.run("rm", "-r", f"/etc/groundtrack/{name}.toml", state)


def two_instances_run_side_by_side(machine):
    for name in ("one", "two"):
        machine.feed(name)
        machine.configure(name, name)
    machine.guest.systemctl("enable", "--now", "groundtrack@one", "groundtrack@two")
    for name in ("one", "two"):
        unit = f"groundtrack@{name}.service"
        assert machine.is_up(unit)
        machine.lands(name, "of its own instance")
        seen = machine.guest.run("stat", "-c", "%U %a", f"/run/groundtrack-{name}")
        assert seen.stdout.strip() == "groundtrack 750", seen.stdout
        say(machine.status_text(unit)[:150])


def a_reboot_brings_all_back(machine):
    before = machine.pid()
    machine.guest.reboot()
    for unit, topic in [(UNIT, "iss"), ("groundtrack@one.service", "one"), ("groundtrack@two.service", "two")]:
        until(f"{unit} after the reboot", lambda unit=unit: machine.is_up(unit))
        machine.lands(topic, "after the reboot")
    say(f"process {before} before, {machine.pid()} after")
    said = [told(line) for line in machine.guest.journal(UNIT, "--boot=-1")]
    assert any("groundtrack ends" in line for line in said), "it drained before the reboot"


def an_upgrade_restarts_what_ran(machine):
    """Under load, to a higher version: those that ran drain and come back, a stopped one stays
    so, and the edited configuration is kept."""
    guest = machine.guest
    guest.systemctl("stop", "groundtrack@two")
    edited = guest.run("cat", CONFIG).stdout
    pids = machine.pid(), machine.pid("groundtrack@one.service")
    machine.forget_journal()
    machine.install(NEW)
    assert NEW in guest.run("dpkg-query", "--show", "groundtrack").stdout
    assert guest.run("cat", CONFIG).stdout == edited
    for unit, pid in zip((UNIT, "groundtrack@one.service"), pids):
        until(f"{unit} after the upgrade", lambda unit=unit: machine.is_up(unit))
        assert machine.pid(unit) != pid and machine.restarts(unit) == 0, unit
        machine.says("groundtrack ends", unit)
    assert guest.show("groundtrack@two.service", "ActiveState") == "inactive"
    machine.lands("iss", "after the upgrade")
    machine.lands("one", "after the upgrade")
    guest.systemctl("start", "groundtrack@two")


def each_row_is_there_once(machine):
    """Through all of the above: proven by the program itself, and by the audit."""
    for feed in machine.feeds:
        feed.end()
    for feed in machine.feeds:
        name = "groundtrack" if feed.topic == "iss" else feed.topic
        unit = UNIT if feed.topic == "iss" else f"groundtrack@{name}.service"
        machine.guest.systemctl("stop", unit)
        # What the feed sent last may lie behind the drain.
        machine.guest.systemctl("start", unit)
        ends = rig.topic_offsets(machine.kafka, feed.topic)
        topic = feed.topic
        until(f"the end of {topic}", lambda topic=topic, ends=ends: reached(machine, topic) == ends)
        proven = machine.verify(f"/etc/groundtrack/{name}.toml")
        assert proven.returncode == 0, proven.stdout + proven.stderr
        machine.audit(feed)


def reached(machine, topic):
    """next_offset by partition, as the bucket has it."""
    found = {}
    for key in rig.list_objects(machine.minio, machine.bucket, f"{topic}/checkpoints/{topic}/{topic}/"):
        body = json.loads(rig.get_object(machine.minio, machine.bucket, key))
        found[int(pathlib.Path(key).stem)] = body["next_offset"]
    return found


def a_purge_takes_its_state_and_nothing_else(machine):
    guest = machine.guest
    guest.run("install", "-d", "-o", "groundtrack", "/srv/landing", "/var/lib/groundtrack/landing")
    in_bucket = machine.landed("iss")
    guest.run("apt-get", "purge", "--yes", "groundtrack")
    for gone in ("/usr/bin/groundtrack", "/var/lib/groundtrack", "/var/lib/groundtrack-one", CONFIG,
                 "/etc/systemd/system/multi-user.target.wants/groundtrack.service",
                 "/usr/lib/systemd/system/groundtrack.service", "/run/groundtrack"):  # fmt: skip
        assert guest.run("test", "-e", gone, check=False).returncode != 0, gone
    for kept in ("/srv/landing", "/etc/groundtrack/credentials/s3_access_key_id",
                 "/etc/groundtrack/one.toml"):  # fmt: skip
        guest.run("test", "-e", kept)
    assert guest.run("pgrep", "-x", "groundtrack", check=False).returncode != 0, "none runs"
    assert machine.landed("iss") == in_bucket


def the_tarball_installs_the_same(machine):
    guest = machine.guest
    guest.run("rm", "-rf", "/etc/groundtrack")
    shutil.copy(machine.tarball, guest.root / "root/groundtrack.tar.gz")
    guest.run("tar", "-C", "/root", "-xzf", "/root/groundtrack.tar.gz")
    folder = guest.run("sh", "-c", "echo /root/groundtrack-*-linux").stdout.strip()
    guest.run(f"{folder}/install")
    assert guest.show(UNIT, "ActiveState", "UnitFileState") == ("inactive", "disabled")
    machine.configure("iss")
    machine.credentials()
    guest.systemctl("enable", "--now", UNIT)
    assert machine.is_up()
    pid = machine.pid()
    guest.run(f"{folder}/install")
    until("a restart by the newer version", lambda: machine.is_up() and machine.pid() != pid)
    guest.run(f"{folder}/install", "--remove")
    assert guest.run("test", "-e", "/usr/bin/groundtrack", check=False).returncode != 0
    guest.run("test", "-e", CONFIG)


TESTS = [
    a_first_install_starts_nothing,
    units_are_sound,
    a_wrong_configuration_is_not_restarted,
    a_missing_credentials_folder_ends_the_start,
    a_missing_credential_is_named,
    an_absent_broker_does_not_fail_the_boot,
    a_start_is_ready_and_files_land,
    a_reload_tells_whether_it_was_taken,
    a_kill_is_followed_by_a_restart,
    a_kill_for_want_of_memory_is_followed_by_a_restart,
    a_hang_of_an_actor_is_mended_within_the_process,
    a_stuck_thread_of_ingest_is_the_watchdogs,
    a_stuck_thread_of_landing_is_the_watchdogs,
    a_supervisor_that_hangs_is_the_watchdogs,
    a_full_state_folder_is_said_and_waited_out,
    two_instances_run_side_by_side,
    a_reboot_brings_all_back,
    an_upgrade_restarts_what_ran,
    each_row_is_there_once,
    a_purge_takes_its_state_and_nothing_else,
    the_tarball_installs_the_same,
]


@contextlib.contextmanager
def simulated_source():
    """What ingest polls: it answers as Open Notify does."""
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            now = int(time.time())
            position = {"latitude": "1.0", "longitude": "2.0"}
            body = json.dumps({"timestamp": now, "message": "success", "iss_position": position})
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


def run(arguments):
    folder = tempfile.mkdtemp(prefix="groundtrack-installed-")
    machine, stack = None, contextlib.ExitStack()
    try:
        since = time.monotonic()
        machine = Machine(folder, long=arguments.long)
        machine.source = stack.enter_context(simulated_source())
        machine.guest.boot()
        print(f"packaged and booted after {time.monotonic() - since:.0f} s", flush=True)
        for test in TESTS:
            if arguments.only and test.__name__ not in arguments.only:
                continue
            since = time.monotonic()
            print(f"{test.__name__}", flush=True)
            test(machine)
            print(f"    ok, {time.monotonic() - since:.0f} s", flush=True)
        return 0
    except (AssertionError, OSError, subprocess.SubprocessError):
        traceback.print_exc()
        with contextlib.suppress(Exception):
            lines = machine.guest.run("journalctl", "-n", "60", "--no-pager", "-u", "groundtrack*")
            print(lines.stdout[-8000:], file=sys.stderr)
        return 1
    finally:
        for feed in machine.feeds if machine else []:
            feed.process.kill()
        if machine:
            machine.guest.remove()
        stack.close()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--only", nargs="+", default=[])
    arguments = parser.parse_args()
    if reason := missing():
        print(f"SKIPPED, the installed service is not tested: {reason}", flush=True)
        return 0
    if IN_NETWORK in os.environ:
        return run(arguments)
    enter_network(HERE)


def enter_network(script):
    """Runs a script again, beside servers, in a network of its own."""
    servers = [str(REPOSITORY / "tests/servers/servers.py"), "run", "--only", "kafka,minio", "--"]
    inner = [*servers, sys.executable, str(script), *sys.argv[1:]]
    up = 'ip link set lo up && exec "$@"'
    network = ["unshare", "--net", "--", "sh", "-c", up, "network", *inner]
    os.execvpe(network[0], network, dict(os.environ, **{IN_NETWORK: "1"}))


if __name__ == "__main__":
    sys.exit(main())
