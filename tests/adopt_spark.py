#!/usr/bin/env python3
"""Takes over from a real Spark Structured Streaming job, killed at chosen moments.

    pip install pyarrow confluent-kafka pyspark==3.5.0
    tests/servers/servers.py run --only kafka,minio -- tests/adopt_spark.py [--only NAMES]

Needs a JDK (17) and Maven, which fetches Spark's Kafka source and S3 file system into the user's
cache once. For each scenario Spark reads a topic that keeps growing, takes the fields out by
from_json and writes Parquet; it is killed (SIGKILL), `groundtrack adopt` makes the checkpoints,
and `groundtrack run --until-caught-up` goes on. The audit is Spark's own reader over the sink and
pyarrow over our files: together they are the topic, each record once. Scenarios:

  written      killed when files of batch N are there and the sink's log has not N; then
               groundtrack is killed too, in the midst of its batches, and loses its checkpoints
  landed       killed after the sink's log has N and before commits/N
  compacted    killed likewise, behind a compacted log, with a partition added before the takeover
  retention    killed anywhere; Kafka deletes records behind the job: refused, then passed by a word
  file         as landed, with file:// instead of S3

Exit code 1: a record was lost or doubled, or a takeover did not do what it should.
"""

import argparse
import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import rig

try:
    import confluent_kafka
    import confluent_kafka.admin
    import pyarrow.dataset
    import pyarrow.fs
    import pyspark
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"{missing.name} is not installed: pip install pyarrow confluent-kafka pyspark==3.5.0"
    )

SPARK = "3.5.0"
HADOOP = "3.3.4"
PARTITIONS = 3
PER_SECOND = 300
# One record of so many is no JSON: a row of nulls of Spark's, a dead letter of ours.
BAD_EVERY = 97
START_S = 1_735_520_478
# Spark needs 20 s to its first batch on two busy cores; what takes longer than this is stuck.
WITHIN_S = 240
# A kill may come too late for its moment: the job is started again and goes on.
ATTEMPTS = 8
SCENARIOS = ["written", "landed", "compacted", "retention", "file"]


class Failed(Exception):
    """Something that must hold does not."""


def check(holds, text):
    if not holds:
        raise Failed(text)


# --- Spark -----------------------------------------------------------------------------------


def spark_jars():
    """Spark's Kafka source and S3 file system, fetched once."""
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    jars = pathlib.Path(home) / "groundtrack" / f"spark-{SPARK}" / "jars"
    if jars.is_dir():
        return jars
    rig.say(f"fetching Spark's Kafka source {SPARK} and hadoop-aws {HADOOP}")
    jars.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jars.parent) as work:
        artifacts = "".join(
            f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
            f"<version>{version}</version></dependency>"
            for group, artifact, version in [
                ("org.apache.spark", "spark-sql-kafka-0-10_2.12", SPARK),
                ("org.apache.hadoop", "hadoop-aws", HADOOP),
            ]
        )
        pathlib.Path(work, "pom.xml").write_text(
            '<project xmlns="http://maven.apache.org/POM/4.0.0">'
            "<modelVersion>4.0.0</modelVersion><groupId>groundtrack</groupId>"
            "<artifactId>spark</artifactId><version>1</version>"
            f"<dependencies>{artifacts}</dependencies></project>\n"
        )
        maven = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars"]
        subprocess.run(maven, cwd=work, check=True, stdout=sys.stderr)
        # pyspark brings these itself.
        for pattern in ("scala-library-*", "hadoop-client-*", "slf4j-*"):
            for jar in pathlib.Path(work, "jars").glob(pattern):
                jar.unlink()
        try:
            os.rename(pathlib.Path(work, "jars"), jars)
        except OSError:
            pass  # A second run at the same time was first.
    return jars


def session():
    from pyspark.sql import SparkSession

    settings = {
        "spark.jars": ",".join(str(jar) for jar in sorted(spark_jars().glob("*.jar"))),
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.hadoop.fs.s3a.endpoint": rig.variable("GROUNDTRACK_TEST_MINIO"),
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
        "spark.hadoop.fs.s3a.access.key": rig.variable("AWS_ACCESS_KEY_ID"),
        "spark.hadoop.fs.s3a.secret.key": rig.variable("AWS_SECRET_ACCESS_KEY"),
    }
    builder = SparkSession.builder.master("local[2]").appName("adopt")
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def job(topic, checkpoint, sink):
    """The job that this replaces, until it is killed."""
    from pyspark.sql.functions import col, from_json

    schema = (
        "timestamp LONG, message STRING, "
        "iss_position STRUCT<longitude: STRING, latitude: STRING>"
    )
    records = (
        session()
        .readStream.format("kafka")
        .option("kafka.bootstrap.servers", rig.variable("GROUNDTRACK_TEST_KAFKA"))
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("failOnDataLoss", "false")
        .option("maxOffsetsPerTrigger", "500")
        .load()
    )
    rows = records.select(from_json(col("value").cast("string"), schema).alias("iss")).select(
        "iss.timestamp", "iss.message", "iss.iss_position.longitude", "iss.iss_position.latitude"
    )
    query = (
        rows.writeStream.format("parquet")
        .option("path", sink)
        .option("checkpointLocation", checkpoint)
        .trigger(processingTime="1 second")
        .start()
    )
    query.awaitTermination()


def rows_of(sink):
    """Prints the timestamps of the rows that Spark reads by the sink's log, as JSON."""
    rows = session().read.parquet(sink).select("timestamp").collect()
    print(json.dumps([row.timestamp for row in rows]))


class Spark:
    """A job in a process of its own, with its JVM in the same group."""

    def __init__(self, topic, checkpoint, sink, log):
        self.command = [sys.executable, __file__, "--job", topic, checkpoint, sink]
        self.log = log
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self):
        if self.process:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
            self.process = None

    def lives(self):
        if self.process.poll() is not None:
            tail = pathlib.Path(self.log).read_text(errors="replace")[-3000:]
            raise Failed(f"Spark ended by itself: {tail}")


# --- the two kinds of folders ----------------------------------------------------------------


class Bucket:
    """Folders on MinIO."""

    scheme = "s3a"

    def __init__(self, root):
        self.endpoint = rig.variable("GROUNDTRACK_TEST_MINIO")
        self.bucket = rig.variable("GROUNDTRACK_TEST_BUCKET")
        self.root = root

    def url(self, folder, scheme="s3a"):
        return f"{scheme}://{self.bucket}/{self.root}/{folder}"

    def keys(self, folder):
        prefix = f"{self.root}/{folder}/"
        found = rig.list_objects(self.endpoint, self.bucket, prefix)
        return [key.removeprefix(prefix) for key in found]

    def body(self, key):
        return rig.get_object(self.endpoint, self.bucket, f"{self.root}/{key}")

    def store(self):
        return {"url": f"s3://{self.bucket}/{self.root}/ours"}

    def fs(self):
        host = self.endpoint.split("://")[1]
        return pyarrow.fs.S3FileSystem(endpoint_override=host, scheme="http", region=rig.REGION)

    def delete(self, key):
        self.fs().delete_file(f"{self.bucket}/{self.root}/{key}")

    def table(self, folder):
        if not self.keys(f"ours/{folder}"):
            return None
        path = f"{self.bucket}/{self.root}/ours/{folder}"
        return pyarrow.dataset.dataset(path, filesystem=self.fs(), format="parquet").to_table()


class Folder:
    """Folders on this machine."""

    def __init__(self, root):
        self.root = pathlib.Path(root)

    def url(self, folder):
        return f"file://{self.root}/{folder}"

    def keys(self, folder):
        base = self.root / folder
        return [str(path.relative_to(base)) for path in base.rglob("*") if path.is_file()]

    def body(self, key):
        return (self.root / key).read_bytes()

    def store(self):
        return {"url": f"file://{self.root}/ours"}

    def table(self, folder):
        if not self.keys(f"ours/{folder}"):
            return None
        return pyarrow.dataset.dataset(self.root / "ours" / folder, format="parquet").to_table()


def batches(names):
    """Numbers of the batches among the names of a log's files."""
    numbers = [name.removesuffix(".compact") for name in names]
    return {int(number) for number in numbers if number.isdigit()}


class Logs:
    """What the job's three logs hold now."""

    def __init__(self, place):
        self.planned = batches(place.keys("checkpoints/offsets"))
        self.landed = batches(place.keys("parquet_files/_spark_metadata"))
        self.ended = batches(place.keys("checkpoints/commits"))

    def newest(self):
        return [max(log, default=-1) for log in (self.planned, self.landed, self.ended)]

    def __str__(self):
        planned, landed, ended = self.newest()
        return f"planned {planned}, in the sink's log {landed}, committed {ended}"


# --- records ---------------------------------------------------------------------------------


def iss_now(second):
    """An answer of Open Notify's kind."""
    number = second - START_S
    return {
        "message": "success",
        "timestamp": second,
        "iss_position": {
            "longitude": f"{number % 3600 / 10 - 180:.4f}",
            "latitude": f"{number % 1000 / 20:.4f}",
        },
    }


class Feed(threading.Thread):
    """Fills the topic at a rate until it is told to end. Counts what it sent."""

    def __init__(self, topic, partitions):
        super().__init__(daemon=True)
        settings = {"bootstrap.servers": rig.variable("GROUNDTRACK_TEST_KAFKA"), "linger.ms": 20}
        self.producer = confluent_kafka.Producer(settings)
        self.topic, self.partitions = topic, partitions
        self.good, self.bad, self.number = [], 0, 0
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(0.1):
            for _ in range(PER_SECOND // 10):
                self.send()
            self.producer.poll(0)

    def send(self):
        self.number += 1
        partition = self.number % self.partitions
        if self.number % BAD_EVERY == 0:
            self.bad += 1
            body = b"no JSON"
        else:
            second = START_S + self.number
            self.good.append(second)
            body = json.dumps(iss_now(second)).encode()
        self.producer.produce(self.topic, body, partition=partition)

    def end(self):
        self.ended.set()
        self.join()
        check(self.producer.flush(60) == 0, "Kafka did not take the test's own records")


# --- groundtrack -----------------------------------------------------------------------------


class Groundtrack:
    def __init__(self, binary, config):
        self.binary, self.config = binary, config

    def run(self, *arguments):
        command = [self.binary, *arguments, "--config", self.config]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S)
        return done.returncode, done.stdout, done.stderr

    def adopt(self, place, *arguments):
        return self.run("adopt", place.url("checkpoints"), *arguments)


def configure(folder, name, topic, place, skip=""):
    path = rig.configuration(
        folder, name, topic, "", store={**place.store(), "data": "landed"},
        files={"max_age": "1s"}, log={"format": "json"},
    )  # fmt: skip
    file = pathlib.Path(path)
    file.write_text(file.read_text() + skip)
    return path


# --- a scenario ------------------------------------------------------------------------------


# By the newest batch of each log.
MOMENTS = {
    "written": lambda planned, landed, ended: planned > landed >= 3,
    "landed": lambda planned, landed, ended: landed > ended >= 2,
    "compacted": lambda planned, landed, ended: landed > ended and landed >= 11,
    "retention": lambda planned, landed, ended: ended >= 3,
    "file": lambda planned, landed, ended: landed > ended and landed >= 11,
}


def is_moment(name, place, newest):
    return MOMENTS[name](*newest) and (name != "written" or bool(expected_orphans(place)))


def kill_at(spark, place, name):
    """Runs the job and kills it once its logs are as wanted; says how they are then."""
    for _ in range(ATTEMPTS):
        spark.start()
        # What an earlier attempt left does not count.
        begun = Logs(place).newest()[0]
        deadline = time.monotonic() + WITHIN_S
        while True:
            newest = Logs(place).newest()
            if newest[0] > begun and is_moment(name, place, newest):
                break
            spark.lives()
            check(time.monotonic() < deadline, f"the moment never came: {newest}")
        spark.kill()
        logs = Logs(place)
        if is_moment(name, place, logs.newest()):
            return logs
        rig.say(f"    the kill came too late: {logs}; the job goes on")
    raise Failed("no kill came at its moment")


def expected_orphans(place):
    """Files of the sink that the log does not list, by another reading of the log."""
    listed = set()
    names = [name for name in place.keys("parquet_files/_spark_metadata") if name[0].isdigit()]
    for name in names:
        for line in place.body(f"parquet_files/_spark_metadata/{name}").decode().splitlines()[1:]:
            listed.add(json.loads(line)["path"].rsplit("/", 1)[1])
    files = {key for key in place.keys("parquet_files") if key.startswith("part-")}
    return files - listed


def offsets_of(place, topic, batch):
    lines = place.body(f"checkpoints/offsets/{batch}").decode().splitlines()
    return {int(number): end for number, end in json.loads(lines[2])[topic].items()}


def audit(place, spark_rows, feed, lost, starts, topic):
    """Spark's rows and ours are the topic; ours begin where the job ended."""
    ours, dead = place.table("landed"), place.table("dead_letters")
    our_rows = ours.column("timestamp").cast("int64").to_pylist() if ours else []
    our_rows = [value // 1_000_000 for value in our_rows]
    dead_count = dead.num_rows if dead else 0
    good = collections.Counter(value for value in spark_rows if value is not None)
    good.update(our_rows)
    doubled = [value for value, count in good.items() if count > 1]
    check(not doubled, f"{len(doubled)} records are there twice, such as {doubled[:5]}")
    missing = set(feed.good) - set(good)
    check(len(missing) <= lost, f"{len(missing)} records are nowhere, such as {sorted(missing)[:5]}")
    stray = set(good) - set(feed.good)
    check(not stray, f"{len(stray)} rows are of no record, such as {sorted(stray)[:5]}")
    bad = sum(value is None for value in spark_rows) + dead_count
    missing_bad = feed.bad - bad
    check(len(missing) + missing_bad == lost, f"{len(missing)} and {missing_bad} lost, not {lost}")
    first = {}
    for table in filter(None, (ours, dead)):
        for partition, offset in zip(
            table.column("kafka_partition").to_pylist(), table.column("kafka_offset").to_pylist()
        ):
            first[partition] = min(first.get(partition, offset), offset)
    for partition, start in starts.items():
        check(
            first.get(partition, start) >= start,
            f"partition {partition}: ours begin at {first.get(partition)}, not {start}",
        )
    return len(our_rows), dead_count


def scenario(name, binary, work):
    topic = f"adopt_{name}_{os.getpid()}"
    folder = pathlib.Path(work, name)
    folder.mkdir()
    place = Folder(folder) if name == "file" else Bucket(topic)
    brokers = rig.variable("GROUNDTRACK_TEST_KAFKA")
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": brokers})
    new = confluent_kafka.admin.NewTopic(topic, PARTITIONS, 1)
    admin.create_topics([new])[topic].result(60)
    feed = Feed(topic, PARTITIONS)
    feed.start()
    spark = Spark(topic, place.url("checkpoints"), place.url("parquet_files"), folder / "spark.log")
    groundtrack = Groundtrack(binary, configure(folder, name, topic, place))
    lost, extra = 0, []
    try:
        if name == "landed":
            refuse_while_running(spark, groundtrack, place)
        logs = kill_at(spark, place, name)
        planned, landed, ended = logs.newest()
        starts = offsets_of(place, topic, landed)
        rig.say(f"  killed: {logs}; {feed.number} records sent; starts {starts}")
        if name == "compacted":
            extra = grow(admin, topic)
        if name == "retention":
            lost = 40
            deleted = confluent_kafka.TopicPartition(topic, 1, starts[1] + lost)
            while rig.topic_offsets(brokers, topic)[1] < starts[1] + lost:
                time.sleep(0.2)
            admin.delete_records([deleted])[deleted].result(60)
            code, _, errors = groundtrack.adopt(place)
            word = f'[[skip]] topic = "{topic}" partition = 1 first_offset = {starts[1]}'
            check(code == 1 and word in errors, f"a loss was not refused: {code} {errors}")
            check(not place.keys("ours"), "a refused takeover wrote something")
            skip = f'[[skip]]\ntopic = "{topic}"\npartition = 1\nfirst_offset = {starts[1]}\n'
            groundtrack.config = configure(folder, name, topic, place, skip)
        code, table, errors = groundtrack.adopt(place, "--dry-run")
        check(code == 0, f"dry run: {code} {table} {errors}")
        check(not place.keys("ours"), "a dry run wrote something")
        orphans = expected_orphans(place)
        unnamed = [orphan for orphan in orphans if orphan not in table]
        check(not unnamed, f"not named: {unnamed}")
        before = sorted(place.keys("parquet_files"))
        code, table, errors = groundtrack.adopt(place)
        check(code == 0, f"adopt: {code} {table} {errors}")
        rig.say("    " + table.strip().replace("\n", "\n    "))
        code, table, errors = groundtrack.adopt(place)
        check(code == 0 and "no checkpoint is missing" in table, f"again: {code} {table} {errors}")
        if name == "written":
            lose_checkpoints(groundtrack, place)
        code, _, errors = groundtrack.run("run", "--until-caught-up")
        check(code == 0, f"run: {code} {errors[-2000:]}")
        feed.end()
        code, _, errors = groundtrack.run("run", "--until-caught-up")
        check(code == 0, f"run: {code} {errors[-2000:]}")
        feed.good += extra
        code, _, errors = groundtrack.adopt(place)
        check(code == 1, f"a takeover of what lands already was not refused: {errors}")
        check(sorted(place.keys("parquet_files")) == before, "the job's folder was touched")
        # Spark's reader, which honours the sink's log.
        read = [sys.executable, __file__, "--rows-of", place.url("parquet_files")]
        with open(folder / "spark.log", "ab") as log:
            printed = subprocess.run(read, stdout=subprocess.PIPE, stderr=log, check=True).stdout
        spark_rows = json.loads(printed.decode().splitlines()[-1])
        ours, dead = audit(place, spark_rows, feed, lost, starts, topic)
        rig.say(
            f"  {name}: {len(spark_rows)} rows of Spark's, {ours} rows and {dead} dead letters of "
            f"ours, {lost} lost by retention: {feed.number + len(extra)} records, each once; "
            f"{len(orphans)} orphans named"
        )
    finally:
        spark.kill()
        if feed.is_alive():
            feed.ended.set()


def grow(admin, topic):
    """Adds a partition with records of its own; returns their timestamps."""
    grown = confluent_kafka.admin.NewPartitions(topic, PARTITIONS + 1)
    admin.create_partitions([grown])[topic].result(60)
    # One that is made now knows of the partition.
    brokers = rig.variable("GROUNDTRACK_TEST_KAFKA")
    producer = confluent_kafka.Producer({"bootstrap.servers": brokers})
    deadline = time.monotonic() + WITHIN_S
    while len(producer.list_topics(topic, 10).topics[topic].partitions) <= PARTITIONS:
        check(time.monotonic() < deadline, "the partition never came")
    seconds = list(range(START_S - 50, START_S))
    for second in seconds:
        producer.produce(topic, json.dumps(iss_now(second)).encode(), partition=PARTITIONS)
    check(producer.flush(60) == 0, "Kafka did not take the test's own records")
    return seconds


def refuse_while_running(spark, groundtrack, place):
    """A job that runs is not taken over."""
    spark.start()
    deadline = time.monotonic() + WITHIN_S
    while min(Logs(place).newest()) < 2:
        spark.lives()
        check(time.monotonic() < deadline, "Spark lands nothing")
        time.sleep(0.2)
    code, _, errors = groundtrack.adopt(place)
    check(code == 1 and "still writes" in errors, f"while the job runs: {code} {errors}")
    check(not place.keys("ours"), "a refused takeover wrote something")
    rig.say(f"  refused while it runs: {errors.strip().splitlines()[-1]}")
    spark.kill()


def lose_checkpoints(groundtrack, place):
    """Kills groundtrack while it lands, deletes its checkpoints, and rebuilds them from the files;
    partitions that had landed nothing have theirs from the job again."""
    command = [groundtrack.binary, "run", "--config", groundtrack.config]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + WITHIN_S
    while len(place.keys("ours/landed")) < 2:
        check(process.poll() is None, "groundtrack ended by itself")
        check(time.monotonic() < deadline, "groundtrack lands nothing")
    process.kill()
    process.wait()
    checkpoints = place.keys("ours/checkpoints")
    pending = sum(json.loads(place.body(f"ours/checkpoints/{key}"))["pending"] is not None
                  for key in checkpoints)  # fmt: skip
    for key in checkpoints:
        place.delete(f"ours/checkpoints/{key}")
    code, table, errors = groundtrack.run("adopt", "--from-files")
    check(code == 0, f"from files: {code} {table} {errors}")
    rig.say(f"  killed with {pending} batches begun, {len(checkpoints)} checkpoints lost")
    rig.say("    " + table.strip().replace("\n", "\n    "))
    code, table, errors = groundtrack.adopt(place)
    is_whole = "every partition already" in errors
    check(code == 0 or is_whole, f"adopt after a loss: {code} {table} {errors}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(SCENARIOS))
    parser.add_argument("--binary", help="the groundtrack to test; default: release, else debug")
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--rows-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        return job(*arguments.job)
    if arguments.rows_of:
        return rows_of(arguments.rows_of)
    names = arguments.only.split(",")
    if unknown := set(names) - set(SCENARIOS):
        parser.error(f"no scenario is called {', '.join(sorted(unknown))}")
    check(pyspark.__version__ == SPARK, f"pyspark is {pyspark.__version__}, not {SPARK}")
    binary = rig.binary("groundtrack", ["release", "debug"], arguments.binary)
    spark_jars()
    work = tempfile.mkdtemp(prefix="groundtrack-adopt-")
    rig.say(f"binary {binary}; logs in {work}")
    failed = []
    for name in names:
        since = time.monotonic()
        rig.say(f"{name}:")
        try:
            scenario(name, binary, work)
        except Failed as failure:
            failed.append(name)
            rig.say(f"  {name} FAILED: {failure}")
        except Exception:
            failed.append(name)
            rig.say(f"  {name} FAILED: {traceback.format_exc()}")
        rig.say(f"  {name}: {time.monotonic() - since:.0f} s")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")
    rig.say(f"{len(names)} scenarios passed")


if __name__ == "__main__":
    main()
