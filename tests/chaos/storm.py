"""One seed's storm: records keep coming, the processes of the group are struck as the schedule
says, the servers go away and return; then all must catch up, and everything is audited."""

import collections
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import rig

from chaos import kafka, records, report, schedule
from chaos.faults import Faults
from chaos.fleet import Settings, Slot, proceed
from chaos.mirror import Mirror
from chaos.process import Failed
from chaos.proxy import StoreProxy
from chaos.torment import Torment

# All that was produced must be in the store this long after the storm, without any restart.
CAUGHT_UP_WITHIN_S = 180
PROGRESS_EVERY_S = 30


class Storm:
    def __init__(self, arguments, seed, folder, loop, kafka_proxy):
        self.arguments, self.seed, self.folder = arguments, seed, pathlib.Path(folder)
        self.name = self.topic = f"chaos-{seed}-{os.getpid()}"
        self.program = arguments.program
        self.schedule = schedule.make(seed, arguments)
        self.brokers = rig.variable("GROUNDTRACK_TEST_KAFKA_PROXIED")
        (self.folder / "logs").mkdir(parents=True)
        plan = json.dumps(dataclasses.asdict(self.schedule), indent=1)
        (self.folder / "schedule.json").write_text(plan)
        self.mirror = Mirror(schedule.DATA_FOLDERS, "dead_letters", "checkpoints")
        self.loop, self.kafka_proxy = loop, kafka_proxy
        self.proxy = StoreProxy(
            loop, rig.variable("GROUNDTRACK_TEST_MINIO"),
            rig.variable("GROUNDTRACK_TEST_BUCKET"), self.name, self.mirror,
        )  # fmt: skip
        self.faults = []
        self.settings = Settings(arguments.instances, self.schedule.max_rows)
        self.slots = [Slot(self, number) for number in range(arguments.instances)]
        self.struck, self.zombies = [], collections.Counter()
        self.done = collections.Counter()
        self.ended, self.failure = threading.Event(), None
        self.said = collections.Counter()

    def open_port(self, name):
        self.faults.append(Faults(self.seed, name, self.schedule.rate))
        return self.proxy.open(name, self.faults[-1])

    # --- all of it ---

    def run(self):
        since = time.monotonic()
        kafka.create_topic(self.topic, self.schedule.partitions)
        if self.schedule.protocol == "consumer":
            kafka.set_session(self.name, schedule.SESSION_S)
        feed = self.start_feed()
        try:
            self.rage()
            self.finish_feed(feed)
            self.catch_up()
        finally:
            for process in [feed, *(slot.process.process for slot in self.slots if slot.process)]:
                if process.poll() is None:
                    proceed(process.pid)
                    process.kill()
                    process.wait()
        self.audit()
        self.look_at_logs()
        self.lasted_s = time.monotonic() - since

    def rage(self):
        """Every slot's actions, and the servers', each in a thread of its own."""
        jobs = [Torment(self, slot).run for slot in self.slots] + [self.shake_servers]
        threads = [threading.Thread(target=self.guard, args=[job], daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        since = time.monotonic()
        for thread in threads[:-1]:
            while thread.is_alive():
                thread.join(PROGRESS_EVERY_S)
                if thread.is_alive():
                    print(f"    {time.monotonic() - since:.0f} s: {self.done['kill']} kills, "
                          f"{self.done['zombie']} zombies", flush=True)  # fmt: skip
        self.ended.set()
        threads[-1].join()
        for faults in self.faults:
            faults.is_on = False
        if self.failure:
            raise self.failure

    def guard(self, job):
        try:
            job()
        except Exception as error:
            self.failure = self.failure or error
            self.ended.set()

    def start_feed(self):
        arguments = self.arguments
        command = [
            sys.executable, str(pathlib.Path(__file__).with_name("feed.py")),
            "--brokers", rig.variable("GROUNDTRACK_TEST_KAFKA"), "--topic", self.topic,
            "--partitions", self.schedule.partitions, "--records", arguments.records,
            "--rate", arguments.rate, "--seed", self.seed, "--out", self.folder / "produced",
        ]  # fmt: skip
        return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE)

    def finish_feed(self, feed):
        feed.send_signal(signal.SIGTERM)
        printed, _ = feed.communicate()
        if feed.returncode:
            raise Failed("the feed")
        self.produced = int(printed)

    # --- the servers ---

    def shake_servers(self):
        for part, server, how, away_s in self.schedule.servers:
            while self.done["kill"] < part * self.arguments.kills:
                if self.ended.wait(0.1):
                    return
            if server == "kafka proxy":
                self.kafka_proxy.cut() if how == "cut" else self.kafka_proxy.stall(away_s)
            else:
                control(how, server)
                time.sleep(away_s)
                control("start", server)
            self.done[f"{server} {how}"] += 1

    # --- the end ---

    def catch_up(self):
        """Those that live catch up by themselves, leave cleanly, and nothing is left to do."""
        ends = records.Produced(self.folder / "produced").ends
        deadline = time.monotonic() + CAUGHT_UP_WITHIN_S
        while True:
            positions = self.mirror.positions()
            behind = {p: (positions.get(p), end) for p, end in ends.items()
                      if end and positions.get(p, 0) < end}  # fmt: skip
            if not behind:
                break
            for slot in self.slots:
                slot.check()
            stopped = self.mirror.stopped()
            if stopped or time.monotonic() > deadline:
                raise Failed(f"not caught up: {behind} (partition: position, end); {stopped}\n"
                             + kafka.members(self.name))  # fmt: skip
            time.sleep(0.1)
        for slot in self.slots:
            slot.drain()
        last = self.slots[0]
        last.start("--until-caught-up")
        if code := last.process.end(within_s=CAUGHT_UP_WITHIN_S):
            raise Failed(f"--until-caught-up ended with {code}{last.process.tail()}")
        self.proxy.settle(60)

    def look_at_logs(self):
        self.said, odd = report.said(self.folder / "logs")
        if odd:
            raise Failed("in the logs:" + "".join(f"\n    | {line[:600]}" for line in odd[:20]))

    def audit(self):
        since = time.monotonic()
        command = [
            sys.executable, str(rig.REPOSITORY / "tests" / "audit.py"),
            f"s3://{rig.variable('GROUNDTRACK_TEST_BUCKET')}/{self.name}",
            "--topic", self.topic, "--group", self.name, "--expect", "topic",
            "--data", ",".join(schedule.DATA_FOLDERS), "--produced", self.folder / "produced",
        ]  # fmt: skip
        if subprocess.run([str(part) for part in command]).returncode:
            raise Failed("the audit")
        self.audited_s = time.monotonic() - since

    def tidy(self):
        self.proxy.close()
        kafka.delete_topic(self.topic)

    def write_struck(self):
        with open(self.folder / "struck.jsonl", "w") as file:
            for struck in self.struck:
                file.write(json.dumps(dataclasses.asdict(struck)) + "\n")

    def keep_bucket(self):
        """What the store holds, beside the logs."""
        endpoint = rig.variable("GROUNDTRACK_TEST_MINIO")
        bucket = rig.variable("GROUNDTRACK_TEST_BUCKET")
        for key in rig.list_objects(endpoint, bucket, self.name + "/"):
            file = self.folder / "bucket" / key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(rig.get_object(endpoint, bucket, key))


def control(action, server):
    script = rig.variable("GROUNDTRACK_TEST_CONTROL")
    subprocess.run([sys.executable, script, action, server], check=True)

