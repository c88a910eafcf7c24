"""Outages of the servers, and panics and hangs of single actors, each followed by an audit."""

import contextlib
import http.server
import json
import math
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import rig

import confluent_kafka

from chaos import kafka
from chaos.process import WITHIN_S, Failed, Process

# A step of each actor's own (docs/fault-points.md), during which its heartbeat is watched.
INGEST = {"poller": "hand-sample", "publisher": "produce"}
LANDING = {
    "subscriber": "hand-records",
    "flattener": "decode",
    "accumulator": "absorb",
    "uploader": "prepare-object",
    "checkpoint": "hand-command",
}
STEPS = INGEST | LANDING

# --- what is landed --------------------------------------------------------------------------


def iss_now(number):
    """An answer of Open Notify's kind; no two numbers give the same."""
    return {
        "message": "success",
        "timestamp": 1_735_520_478 + number,
        "iss_position": {
            "latitude": f"{51.6 * math.sin(number / 886):.4f}",
            "longitude": f"{number * 0.0647 % 360 - 180:.4f}",
        },
    }


def value(number, chance):
    """Good for the most part; text that is no JSON object, and tombstones, in between."""
    dice = chance.random()
    if dice < 0.002:
        return None
    if dice < 0.01:
        return chance.choice([b"", b"no JSON", b'{"message": ', b"[1, 2]", b"\xff\xfe", b"7"])
    body = iss_now(number)
    keys = list(body)
    chance.shuffle(keys)
    return json.dumps({key: body[key] for key in keys}).encode()


class Feed:
    """Fills a topic, in one go or at a rate in a thread of its own."""

    def __init__(self, topic, partitions, chance):
        brokers = rig.variable("GROUNDTRACK_TEST_KAFKA")
        settings = {"bootstrap.servers": brokers, "linger.ms": 20, "log_level": 0}
        self.producer = confluent_kafka.Producer(settings)
        self.topic, self.partitions = topic, partitions
        self.chance = random.Random(chance.random())
        self.sent = 0
        self.ended = threading.Event()

    def send(self, records):
        for number in range(self.sent, self.sent + records):
            partition = self.chance.randrange(self.partitions)
            while True:
                try:
                    body = value(number, self.chance)
                    self.producer.produce(self.topic, body, partition=partition)
                    break
                except BufferError:
                    self.producer.poll(0.1)
        self.sent += records
        self.producer.poll(0)

    def flush(self):
        if left := self.producer.flush(WITHIN_S):
            raise Failed(f"Kafka did not take {left} records of the test's own")

    @contextlib.contextmanager
    def flowing(self, per_second):
        def flow():
            while not self.ended.wait(0.1):
                self.send(per_second // 10)

        thread = threading.Thread(target=flow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.ended.set()
            thread.join()
            self.flush()


class OpenNotify(http.server.ThreadingHTTPServer):
    """The source: each answer is one second further than the last."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.served = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/iss-now.json"


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.served += 1
        body = json.dumps(iss_now(self.server.served)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        # A source that is turned off, or restarted, hears no more.
        with contextlib.suppress(ConnectionError):
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_):
        pass


# --- groundtrack under test ------------------------------------------------------------------


class Scene:
    """A topic, a configuration, and the processes that ran with it."""

    def __init__(self, arguments, folder, name, chance, **tables):
        self.arguments, self.folder, self.name = arguments, folder, name
        self.topic = name
        self.partitions = arguments.partitions
        self.runs = 0
        kafka.create_topic(self.topic, self.partitions)
        self.feed = Feed(self.topic, self.partitions, chance)
        self.config = rig.configuration(folder, name, self.topic, name, **tables)

    def start(self, *more, faults=None):
        self.runs += 1
        log = pathlib.Path(self.folder) / f"{self.name}-{self.runs}.log"
        return Process(self.arguments.program, self.config, *more, log=log, faults=faults)

    def catch_up(self, *more):
        """Lands what is left, and audits everything."""
        with self.start("--until-caught-up") as process:
            if code := process.end(within_s=5 * WITHIN_S):
                raise Failed(f"--until-caught-up ended with {code}{process.tail()}")
        audit = [
            sys.executable, str(rig.REPOSITORY / "tests" / "audit.py"),
            f"s3://{rig.variable('GROUNDTRACK_TEST_BUCKET')}/{self.name}",
            "--topic", self.topic, "--group", self.name, "--expect", "topic", "--values", *more,
        ]  # fmt: skip
        if subprocess.run(audit).returncode:
            raise Failed(f"the audit of {self.topic}")


# --- outages ---------------------------------------------------------------------------------


def outages(arguments, folder, chance):
    port = rig.free_port()
    files = {"max_rows": arguments.max_rows or 5000, "max_age": "1s"}
    web = {"listen": f"127.0.0.1:{port}"}
    scene = Scene(arguments, folder, f"outages-{os.getpid()}", chance, files=files, web=web)
    with scene.start() as process, scene.feed.flowing(per_second=10_000):
        process.wait_for("the first files", lambda: process.count("file landed") > 4)
        for server in ("kafka", "minio"):
            outage(process, server, chance.uniform(8, 15), port)
        if code := process.end(signal.SIGTERM):
            raise Failed(f"SIGTERM ended it with {code}{process.tail()}")
    scene.catch_up()


def outage(process, server, lasts_s, port):
    since = len(process.lines)
    control(process, "stop", server)
    time.sleep(lasts_s)
    process.wait_for("the warning", lambda: process.said(since), within_s=60)
    health, troubles = health_of(port)
    control(process, "start", server)
    landed = process.count("file landed")
    back = time.monotonic()
    process.wait_for("files again", lambda: process.count("file landed") > landed + 8)
    print(f"{server} was away for {lasts_s:.0f} s: {health}; landing {time.monotonic() - back:.1f} s"
          " after its return")  # fmt: skip
    for text in [*troubles, *process.said(since)]:
        print(f"    {text[:200]}")
    restarts = {group["name"]: group["restarts"] for group in status(port)["groups"]}
    if any(restarts.values()):
        raise Failed(f"an outage is no failure, but there were restarts: {restarts}")


def control(process, action, server):
    if process.process.poll() is not None:
        raise Failed(f"it ended with {process.process.returncode}{process.tail()}")
    script = rig.variable("GROUNDTRACK_TEST_CONTROL")
    subprocess.run([sys.executable, script, action, server], check=True)


def status(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status", timeout=10) as answer:
        return json.load(answer)


def health_of(port):
    now = status(port)
    return now["health"], [f"{t['place']}: {t['text']}" for t in now["troubles"]]


# --- panics and hangs ------------------------------------------------------------------------


def faults(arguments, folder, chance, kind):
    failed = []
    for actor in STEPS:
        try:
            fault(arguments, folder, chance, actor, kind)
        except Failed as error:
            failed.append(f"{actor}: {error}")
            print(f"FAILED {failed[-1]}", flush=True)
    if failed:
        raise Failed(f"{len(failed)} of {len(STEPS)} actors")


def fault(arguments, folder, chance, actor, kind):
    port = rig.free_port()
    source = OpenNotify()
    tables = {
        "source": {"url": source.url, "interval": "300ms", "timeout": "200ms"},
        "files": {"max_age": "1s", "max_rows": 1000},
        "web": {"listen": f"127.0.0.1:{port}"},
        "supervision": {"backoff": "500ms", "heartbeat": "3s"},
    }
    scene = Scene(arguments, folder, f"{kind}-{actor}-{os.getpid()}", chance, **tables)
    with scene.start(faults=f"{STEPS[actor]}:before={kind}@2") as process:
        # Others publish too, so that the landing has work while the source is restarted.
        with scene.feed.flowing(per_second=500):
            group = "ingest" if actor in INGEST else "landing"
            seen = {}

            def restarted():
                with contextlib.suppress(OSError):
                    for one in status(port)["groups"]:
                        seen[one["name"]] = one
                return seen.get(group, {}).get("restarts", 0) > 0

            process.wait_for(f"a restart of {group}", restarted)
            landed, served = process.count("file landed"), source.served
            process.wait_for(
                "landing goes on",
                lambda: process.count("file landed") > landed + 4 and source.served > served + 4,
            )
        restarts = {name: one["restarts"] for name, one in seen.items()}
        if code := process.end(signal.SIGTERM):
            raise Failed(f"SIGTERM ended it with {code}{process.tail()}")
        print(f"{actor} {kind}: restarts {restarts}: {seen[group]['last_failure']}")
        for text in process.said():
            print(f"    {text[:200]}")
    source.shutdown()
    scene.catch_up()
