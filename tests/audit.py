#!/usr/bin/env python3
"""Audits what groundtrack landed, by other people's libraries: every record once, nothing else.

    pip install -r tests/requirements.txt
    tests/audit.py ROOT --topic TOPIC --group GROUP --expect topic [--values] [--produced DIR]

ROOT is what store.url says: s3://BUCKET[/PREFIX] (--endpoint for a server of one's own; the
credentials are in the environment), file:///FOLDER or a folder. Checked, for each partition:

  objects      each is a checkpoint, a data file or a dead letters' file of the topic, and their
               names tile [first, end) without a break or an overlap
  footers      tell the range and number of rows that are there; the files that they list exist
  offsets      each of [first, end) is in exactly one row, with its partition's number
  checkpoints  nothing is begun, nothing is stopped, and next_offset is the expected end
  --produced   ids: each record that the chaos harness's feed had acknowledged is there once, at
               the offset that Kafka said, as the row or dead letter that follows from its id
  --values     rows hold what json.loads says of the topic's records: timestamp, message,
               longitude, latitude; records that are no JSON object are dead letters, byte for byte

--expect is `topic` (asks --brokers, or those that servers.py started) or PARTITION=END,... with
commas between, each range beginning at 0; or PARTITION=FIRST:END. Offsets that hold no record
(transactions, compaction) count as missing here. Prints a table; exit code 1: something is wrong.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import sys
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import rig

try:
    import pyarrow
    import pyarrow.compute
    import pyarrow.fs
    import pyarrow.parquet
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing.name} is not installed: pip install -r tests/requirements.txt")

NAME = re.compile(r"(.+)-(\d{5,})-(\d{20})-(\d{20})\.parquet")
PLAIN_GROUP = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
ISS = {
    "timestamp": ("timestamp",),
    "message": ("message",),
    "longitude": ("iss_position", "longitude"),
    "latitude": ("iss_position", "latitude"),
}
SHOWN_MAX = 20
READERS = 4


class File:
    """An object by its name: which batch it belongs to."""

    def __init__(self, key, dead, match):
        self.key = key
        self.dead = dead
        self.partition, self.first, self.last = (int(part) for part in match.groups()[1:])

    @property
    def range(self):
        return self.first, self.last + 1


class Audit:
    def __init__(self, arguments):
        self.arguments = arguments
        self.wrong = []
        # By batch: the files that the first footer lists.
        self.lists = {}
        self.fs, self.base = open_root(arguments.root, arguments.endpoint)
        self.data_folders = arguments.data.split(",")
        self.readers = concurrent.futures.ThreadPoolExecutor(READERS)
        self.produced = None
        if arguments.produced:
            from chaos import landed

            topic = Topic(brokers(arguments), arguments.topic)
            self.produced = landed.Check(arguments.produced, topic.ids, self.complain)

    def complain(self, text):
        self.wrong.append(text)

    # --- objects ---

    def classify(self):
        """Files by partition, checkpoint keys by partition; what is neither is wrong."""
        files, checkpoints = collections.defaultdict(list), {}
        for key in self.keys():
            if (partition := self.partition_of_checkpoint(key)) is not None:
                checkpoints[partition] = key
            elif (file := self.file(key)) is not None:
                files[file.partition].append(file)
            else:
                self.complain(f"stray object {key}")
        return files, checkpoints

    def keys(self):
        selector = pyarrow.fs.FileSelector(self.base, recursive=True, allow_not_found=True)
        for info in self.fs.get_file_info(selector):
            if info.type == pyarrow.fs.FileType.File:
                yield info.path.removeprefix(self.base).lstrip("/")

    def partition_of_checkpoint(self, key):
        group = urllib.parse.quote(self.arguments.group, safe=PLAIN_GROUP)
        folder = f"{self.arguments.checkpoints}/{group}/{self.arguments.topic}/"
        match = re.fullmatch(re.escape(folder) + r"(\d+)\.json", key)
        return int(match[1]) if match else None

    def file(self, key):
        dead = key.startswith(self.arguments.dead_letters + "/")
        if not dead and not any(key.startswith(data + "/") for data in self.data_folders):
            return None
        folders, _, name = key.rpartition("/")
        match = NAME.fullmatch(name)
        if not match or match[1] != self.arguments.topic:
            return None
        if dead and folders != self.arguments.dead_letters:
            return None
        return File(key, dead, match)

    def path(self, key):
        return f"{self.base}/{key}"

    # --- one partition ---

    def tiling(self, partition, files, first, end):
        """The batches, by the names of their objects, in order."""
        batches = sorted({file.range for file in files})
        expected = first
        for start, stop in batches:
            if start != expected:
                self.complain(f"partition {partition}: a batch begins at {start}, not {expected}")
            expected = stop
        if expected != end:
            self.complain(f"partition {partition}: the batches end at {expected}, not {end}")
        return len(batches)

    def footer(self, file, metadata, keys):
        entry = (metadata.metadata or {}).get(b"groundtrack")
        if entry is None:
            self.complain(f"{file.key} has no footer of groundtrack's")
            return
        footer = json.loads(entry)
        batch = footer["batch"]
        told = {
            "range": ((batch["start"], batch["end"]), file.range),
            "rows": (footer["file"]["count"], metadata.num_rows),
            "topic": (footer["topic"], self.arguments.topic),
            "group": (footer["group"], self.arguments.group),
            "partition": (footer["partition"], file.partition),
        }
        for what, (says, is_) in told.items():
            if says != is_:
                self.complain(f"{file.key}: its footer says {what} {says}, it is {is_}")
        agreed = self.lists.setdefault((file.partition, *file.range), batch["keys"])
        if agreed != batch["keys"]:
            self.complain(f"{file.key} lists other files than another of its batch")
        if file.key not in batch["keys"]:
            self.complain(f"{file.key} is not in its own batch's list")
        for key in batch["keys"]:
            # Where nothing was rejected, no dead letters' file is made.
            may_be_absent = key.startswith(self.arguments.dead_letters + "/")
            if key not in keys and not may_be_absent:
                self.complain(f"{key} is listed by {file.key}, but is not there")

    def read(self, file, keys):
        """The rows of a file, without what no check needs."""
        with self.fs.open_input_file(self.path(file.key)) as source:
            parquet = pyarrow.parquet.ParquetFile(source)
            self.footer(file, parquet.metadata, keys)
            columns = ["kafka_partition", "kafka_offset"]
            if self.arguments.values:
                columns += ["value"] if file.dead else list(ISS)
            if self.produced:
                columns += self.produced.columns(file.dead, parquet.schema_arrow.names)
            table = parquet.read(columns)
        here = pyarrow.compute.unique(table["kafka_partition"]).to_pylist()
        if table.num_rows and here != [file.partition]:
            self.complain(f"{file.key} holds rows of the partitions {here}")
        if table.num_rows:
            span = pyarrow.compute.min_max(table["kafka_offset"]).as_py()
            if span["min"] < file.first or span["max"] > file.last:
                self.complain(f"{file.key} holds offsets from {span['min']} to {span['max']}")
        return table

    def offsets(self, partition, tables, first, end):
        """Every offset of [first, end) once: sorted, they are the numbers themselves."""
        chunks = [chunk for table in tables for chunk in table["kafka_offset"].chunks]
        found = pyarrow.chunked_array(chunks, pyarrow.int64()).combine_chunks()
        if found.sort().equals(pyarrow.array(range(first, end), pyarrow.int64())):
            return 0, 0
        counts = pyarrow.compute.value_counts(found)
        values, times = counts.field(0), counts.field(1)
        doubled = values.filter(pyarrow.compute.greater(times, 1)).sort()
        expected = pyarrow.array(range(first, end), pyarrow.int64())
        missing = expected.filter(
            pyarrow.compute.invert(pyarrow.compute.is_in(expected, value_set=values))
        )
        inside = pyarrow.compute.is_in(values, value_set=expected)
        foreign = values.filter(pyarrow.compute.invert(inside)).sort()
        for what, which in (("missing", missing), ("doubled", doubled), ("foreign", foreign)):
            if len(which):
                shown = ", ".join(ranges(which.to_pylist())[:SHOWN_MAX])
                self.complain(f"partition {partition}: {len(which)} offsets {what}: {shown}")
        return len(missing), len(doubled) + len(foreign)

    def checkpoint(self, partition, key, first, end):
        if key is None:
            if end > first:
                self.complain(f"partition {partition} has no checkpoint")
            return None
        with self.fs.open_input_stream(self.path(key)) as source:
            checkpoint = json.loads(source.read())
        told = {"first_offset": first, "next_offset": end, "pending": None, "stopped": None}
        for field, right in told.items():
            if checkpoint[field] != right:
                self.complain(f"{key}: {field} is {checkpoint[field]}, not {right}")
        return checkpoint["next_offset"]

    # --- values ---

    def values(self, partition, files, tables, first, end):
        """Rows and dead letters, sorted by offset, equal what Python reads from the topic."""
        rows, dead_letters = self.topic.read(partition, first, end)
        for dead, expected in ((False, rows), (True, dead_letters)):
            mine = [table for file, table in zip(files, tables) if file.dead == dead]
            found = dict.fromkeys(expected, [])
            if mine:
                table = pyarrow.concat_tables(mine).sort_by("kafka_offset")
                found = {name: plain(table[name]) for name in expected}
            self.compare(partition, "dead letters" if dead else "rows", found, expected)

    def compare(self, partition, what, found, expected):
        at = expected["kafka_offset"]
        if found["kafka_offset"] != at:
            here = len(found["kafka_offset"])
            self.complain(f"partition {partition}: {here} {what}, by Python's reading {len(at)}")
            return
        for name in expected:
            right = like(expected[name], found[name])
            differ = [i for i, pair in enumerate(zip(found[name], right)) if pair[0] != pair[1]]
            for i in differ[:1]:
                self.complain(
                    f"partition {partition}: {name} differs in {len(differ)} {what}, first at "
                    f"{at[i]}: it is {found[name][i]!r}, Python reads {right[i]!r}"
                )

    # --- all ---

    def run(self):
        arguments = self.arguments
        expected = expectation(arguments)
        if arguments.values:
            self.topic = Topic(brokers(arguments), arguments.topic)
        files, checkpoints = self.classify()
        keys = {file.key for all_files in files.values() for file in all_files}
        for partition in sorted((set(files) | set(checkpoints)) - set(expected)):
            self.complain(f"objects of partition {partition}, which was not expected")
        heads = ["partition", "first", "end", "rows", "dead", "files", "batches", "next"]
        heads += ["missing", "extra"]
        print(" ".join(f"{head:>10}" for head in heads))
        for partition, (first, end) in sorted(expected.items()):
            mine = sorted(files[partition], key=lambda file: (file.first, file.dead, file.key))
            batches = self.tiling(partition, mine, first, end)
            # Most of the time is spent waiting for the store.
            tables = list(self.readers.map(lambda file: self.read(file, keys), mine))
            missing, extra = self.offsets(partition, tables, first, end)
            next_offset = self.checkpoint(partition, checkpoints.get(partition), first, end)
            rows = {dead: 0 for dead in (False, True)}
            for file, table in zip(mine, tables):
                rows[file.dead] += table.num_rows
            if arguments.values:
                self.values(partition, mine, tables, first, end)
            if self.produced:
                self.produced.partition(partition, mine, tables, first, end)
            line = [partition, first, end, rows[False], rows[True], len(mine), batches]
            line += [next_offset, missing, extra]
            print(" ".join(f"{'-' if cell is None else cell:>10}" for cell in line), flush=True)
        if self.produced and self.produced.untold:
            print(f"{self.produced.untold} records are in Kafka that it never acknowledged")
        for text in self.wrong[:SHOWN_MAX]:
            print(f"wrong: {text}")
        if len(self.wrong) > SHOWN_MAX:
            print(f"wrong: {len(self.wrong) - SHOWN_MAX} more")
        print("audit: " + ("every record once" if not self.wrong else "FAILED"), flush=True)
        return 1 if self.wrong else 0


class Topic:
    """The topic, read by confluent-kafka and json."""

    def __init__(self, brokers, topic):
        try:
            import confluent_kafka
        except ModuleNotFoundError:
            raise SystemExit("confluent_kafka is not installed: pip install confluent-kafka")
        self.kafka = confluent_kafka
        self.topic = topic
        settings = {
            "bootstrap.servers": brokers,
            "group.id": "audit",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.queue.backoff.ms": 10,
        }
        self.consumer = confluent_kafka.Consumer(settings)

    def read(self, partition, first, end):
        """What rows and what dead letters should hold, by rising offset."""
        rows = {name: [] for name in ["kafka_offset", *ISS]}
        dead = {"kafka_offset": [], "value": []}
        for record in self.records(partition, first, end):
            self.add(record, rows, dead)
        return rows, dead

    def ids(self, partition, offsets):
        """The keys of the records at these offsets, which are numbers."""
        wanted = set(offsets.tolist())
        records = self.records(partition, min(wanted), max(wanted) + 1)
        return [int(record.key()) for record in records if record.offset() in wanted]

    def records(self, partition, first, end):
        """Those of [first, end), by rising offset."""
        if first == end:
            return
        self.consumer.assign([self.kafka.TopicPartition(self.topic, partition, first)])
        at, silent = first, 0
        while at < end:
            records = self.consumer.consume(10_000, timeout=1)
            silent = 0 if records else silent + 1
            if silent > 30:
                raise SystemExit(f"the topic gives nothing at {partition}:{at}")
            for record in records:
                if record.error():
                    raise SystemExit(f"reading the topic: {record.error()}")
                at = record.offset() + 1
                if at <= end:
                    yield record

    @staticmethod
    def add(record, rows, dead):
        try:
            value = json.loads(record.value())
            if not isinstance(value, dict):
                raise ValueError("no object")
        except (ValueError, TypeError):
            dead["kafka_offset"].append(record.offset())
            dead["value"].append(record.value())
            return
        rows["kafka_offset"].append(record.offset())
        for name, path in ISS.items():
            cell = value
            for part in path:
                cell = cell.get(part) if isinstance(cell, dict) else None
            rows[name].append(cell)


def plain(column):
    """A column as Python's values; a time as the seconds since 1970."""
    if pyarrow.types.is_timestamp(column.type):
        column = column.cast(pyarrow.int64())
        return [None if us is None else us / 1_000_000 for us in column.to_pylist()]
    return column.to_pylist()


def like(values, found):
    """JSON's values in the type that the column has: a position is text, or the number it says."""
    is_float = any(isinstance(value, float) for value in found)
    return [float(v) if is_float and v is not None else v for v in values]


def ranges(numbers):
    """Sorted numbers as "3", "7-9"."""
    parts = []
    for number in numbers:
        if parts and parts[-1][1] + 1 == number:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return [f"{a}" if a == b else f"{a}-{b}" for a, b in parts]


def open_root(root, endpoint):
    """The file system and the folder of store.url."""
    url = urllib.parse.urlsplit(root)
    if url.scheme != "s3":
        folder = url.path if url.scheme == "file" else root
        return pyarrow.fs.LocalFileSystem(), os.path.abspath(folder)
    options = {"region": os.environ.get("AWS_REGION", rig.REGION)}
    if endpoint := endpoint or os.environ.get("GROUNDTRACK_TEST_MINIO"):
        server = urllib.parse.urlsplit(endpoint)
        options.update(endpoint_override=server.netloc, scheme=server.scheme)
    return pyarrow.fs.S3FileSystem(**options), (url.netloc + url.path).rstrip("/")


def brokers(arguments):
    return arguments.brokers or rig.variable("GROUNDTRACK_TEST_KAFKA")


def expectation(arguments):
    """[first, end) by partition."""
    if arguments.expect == "topic":
        ends = rig.topic_offsets(brokers(arguments), arguments.topic)
        firsts = rig.topic_offsets(brokers(arguments), arguments.topic, "earliest")
        if not ends:
            raise SystemExit(f"the topic {arguments.topic} is not there")
        return {partition: (firsts[partition], end) for partition, end in ends.items()}
    expected = {}
    for part in arguments.expect.split(","):
        match = re.fullmatch(r"(\d+)=(?:(\d+):)?(\d+)", part.strip())
        if not match:
            raise SystemExit(f"--expect: {part!r} is not PARTITION=END or PARTITION=FIRST:END")
        expected[int(match[1])] = (int(match[2] or 0), int(match[3]))
    return expected


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--expect", required=True, metavar="topic|PARTITION=END,...")
    parser.add_argument("--values", action="store_true")
    parser.add_argument("--brokers", help="default: the Kafka that servers.py started")
    parser.add_argument("--endpoint", help="default: the MinIO that servers.py started")
    parser.add_argument("--produced", metavar="DIR", help="what the chaos harness's feed noted")
    parser.add_argument("--data", default="parquet_files", help="with commas between: several")
    parser.add_argument("--dead-letters", default="dead_letters")
    parser.add_argument("--checkpoints", default="checkpoints")
    return Audit(parser.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
