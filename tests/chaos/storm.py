"""One seed's storm: records keep coming, the processes of the group are struck as the schedule
says, the servers go away and return; then all must catch up, and everything is audited."""

import collections
import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import rig

from chaos import kafka, records, report, schedule
from chaos.faults import Faults
from chaos.fleet import FENCED_WITHIN_S, MOMENT_WITHIN_S, Settings, Slot, is_stopped, proceed
from chaos.mirror import CLAIM_KINDS, Mirror, headline
from chaos.process import Failed
from chaos.proxy import StoreProxy, Trap

# All that was produced must be in the store this long after the storm, without any restart.
CAUGHT_UP_WITHIN_S = 180
PROGRESS_EVERY_S = 30


@dataclasses.dataclass
class Struck:
    """A kill or a stop, and what it hit."""

    slot: str
    how: str
    moment: str
    step: str
    steps: dict
    last: str
    missed: bool


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
        jobs = [(self.torment, slot) for slot in self.slots] + [(self.shake_servers, None)]
        threads = [
            threading.Thread(target=self.guard, args=job, daemon=True) for job in jobs
        ]
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

    def guard(self, job, slot):
        try:
            job(slot) if slot else job()
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

    # --- one slot ---

    def torment(self, slot):
        chance = random.Random(f"{self.seed} {slot.number}")
        for action in self.schedule.actions[slot.number]:
            if self.ended.is_set():
                return
            if slot.process is None:
                slot.start()
            match action.name:
                case "kill":
                    self.kill(slot, action)
                case "zombie":
                    self.zombie(slot, action)
                case "leave":
                    slot.drain()
                    slot.process = None
                    self.ended.wait(action.away_s)
                case "reload":
                    slot.reload(action.detail, chance)
            self.done[action.name] += 1
        if slot.process is None:
            slot.start()

    def strike(self, slot, action, how):
        """Lets the moment come, and strikes the process."""
        moment, kind = action.moment, action.moment.kind
        if kind in CLAIM_KINDS and slot.port.requests["claim"]:
            # It has claimed already.
            kind = "put data"
        trap = Trap(kind, moment.when, moment.number, how, moment.delay_s)
        port = slot.port
        missed = False
        if moment.what == "request":
            port.trap = trap
            missed = not slot.wait_until_struck(trap, MOMENT_WITHIN_S)
        else:
            if moment.what == "objects":
                slot.wait_until(lambda: port.created >= moment.number, MOMENT_WITHIN_S)
            self.ended.wait(moment.delay_s if how == signal.SIGKILL else 0)
        if not trap.sprung.is_set():
            slot.check()
            self.loop.run(self.strike_now(port, trap))
        by_request = trap if moment.what == "request" and not missed else None
        text = f"{moment.when} {kind}" if by_request else moment.what
        self.struck.append(Struck(
            port.slot, how.name, "no such request came" if missed else text,
            headline(trap.steps, by_request), trap.steps, trap.last, missed,
        ))  # fmt: skip

    @staticmethod
    async def strike_now(port, trap):
        if not trap.sprung.is_set():
            port.strike(trap)

    def kill(self, slot, action):
        self.strike(slot, action, signal.SIGKILL)
        slot.killed()
        slot.process = None
        self.ended.wait(action.away_s)

    def zombie(self, slot, action):
        self.strike(slot, action, signal.SIGSTOP)
        stopped, port = slot.process, slot.port
        pid = stopped.process.pid
        if not slot.wait_until(lambda: is_stopped(pid), MOMENT_WITHIN_S):
            raise Failed(f"{slot.name} does not stop")
        taken = self.mirror.taken_over[port.slot]
        try:
            if action.detail == "replaced" and slot.static:
                self.replace(slot, stopped, pid, taken, action.away_s)
                return
            self.ended.wait(action.away_s)
        finally:
            proceed(pid)
        self.count_zombie("stopped past its session", port, taken)

    def replace(self, slot, stopped, pid, taken, away_s):
        """A second process under the same id; then the first goes on, and one of the two must
        end by itself. Mostly the first: the second if the first had to join anew just then."""
        since, port, at = time.monotonic(), slot.port, slot.at
        slot.at = 1 - at
        slot.start()
        replacement, its_port = slot.process, slot.port
        slot.wait_until(lambda: its_port.requests["claim"] > 0, MOMENT_WITHIN_S)
        while time.monotonic() - since < away_s:
            slot.check()
            time.sleep(0.05)
        proceed(pid)
        both = [stopped.process, replacement.process]
        deadline = time.monotonic() + FENCED_WITHIN_S
        while all(one.poll() is None for one in both) and time.monotonic() < deadline:
            time.sleep(0.05)
        codes = [one.poll() for one in both]
        if codes == [None, 5]:
            slot.at, slot.process = at, stopped
            self.count_zombie("replaced under its id, the replacement was fenced", port, taken)
            return
        port.pid = None
        if codes == [None, None] and self.schedule.protocol == "consumer":
            stopped.process.kill()
            stopped.process.wait()
        elif codes == [5, 5]:
            slot.process = None
        elif codes != [5, None]:
            raise Failed(f"{slot.name} was replaced, and the two ended with {codes}"
                         f"{stopped.tail()}{replacement.tail()}")  # fmt: skip
        self.count_zombie(f"replaced under its id, the two ended with {codes}", port, taken)

    def count_zombie(self, what, port, taken):
        self.zombies[what] += 1
        if self.mirror.taken_over[port.slot] > taken:
            self.zombies["of these: partitions were taken over meanwhile"] += 1

    # --- the servers ---

    def shake_servers(self, _=None):
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
                raise Failed(f"not caught up: {behind} (partition: position, end); {stopped}")
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

