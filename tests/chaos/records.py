"""The records of the chaos harness: what one of a number looks like, and what was produced.

A record's id is its number and its key. From the id alone follow its value, its time and whether
it is a dead letter, so that a row can be checked without the topic. `Produced` is a folder with
what Kafka acknowledged: for each partition the ids and their offsets.
"""

import array
import json
import pathlib

import numpy

# A tenth of the records carry a field that no column names at first.
NOTED_EVERY = 10
# Records lie in this many hours, so that a batch has several folders.
HOURS = 3
FIRST_HOUR_MS = 1_764_000_000_000
FIRST_SECOND = 1_735_520_478
DEAD = [b"", b"no JSON", b'{"message": ', b"[1, 2]", b"\xff\xfe", b"7", b'{"id": "x"}']

COLUMNS = """
[[table.columns]]
name = "timestamp"
type = "timestamp(s)"
nullable = false
[[table.columns]]
name = "latitude"
path = "iss_position.latitude"
type = "float64"
nullable = false
[[table.columns]]
name = "longitude"
path = "iss_position.longitude"
type = "float64"
nullable = false
[[table.columns]]
name = "id"
type = "int64"
nullable = false
"""
NOTE_COLUMN = """
[[table.columns]]
name = "note"
type = "string"
"""


def is_dead(numbers):
    """Whether the record is no row; of a number or of a whole array."""
    return numbers * 2_654_435_761 % 499 == 0


def value(number):
    if is_dead(number):
        kind = number // 499 % (len(DEAD) + 1)
        return None if kind == len(DEAD) else DEAD[kind]
    note = b', "note": "n%d"' % number if number % NOTED_EVERY == 0 else b""
    return (
        b'{"iss_position": {"longitude": "%.4f", "latitude": "%.4f"}, "timestamp": %d, "id": %d%s}'
        % (*position(number), FIRST_SECOND + number, number, note)
    )


def position(numbers):
    return numbers * 647 % 3_600_000 / 10_000 - 180, numbers * 331 % 1_030_000 / 10_000 - 51.5


def time_ms(number):
    return FIRST_HOUR_MS + number % HOURS * 3_600_000 + number % 1000


class Writer:
    """Notes what Kafka acknowledged. Flushed as it goes: its memory is limited."""

    PAIRS_HELD = 50_000

    def __init__(self, folder, partitions):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.held = [array.array("q") for _ in range(partitions)]
        self.files = [open(path(folder, number), "wb") for number in range(partitions)]
        self.ends = [0] * partitions

    def acknowledged(self, number, partition, offset):
        held = self.held[partition]
        held.append(number)
        held.append(offset)
        self.ends[partition] = offset + 1
        if len(held) >= 2 * self.PAIRS_HELD:
            self.flush(partition)

    def flush(self, partition):
        self.held[partition].tofile(self.files[partition])
        del self.held[partition][:]

    def close(self):
        for partition, file in enumerate(self.files):
            self.flush(partition)
            file.close()
        ends = {str(partition): end for partition, end in enumerate(self.ends)}
        (self.folder / "ends.json").write_text(json.dumps(ends))


class Produced:
    """What Kafka acknowledged, read again."""

    def __init__(self, folder):
        self.folder = folder
        ends = json.loads((pathlib.Path(folder) / "ends.json").read_text())
        self.ends = {int(partition): end for partition, end in ends.items()}

    def partition(self, number):
        """Ids and their offsets, by rising offset."""
        pairs = numpy.fromfile(path(self.folder, number), dtype=numpy.int64).reshape(-1, 2)
        order = numpy.argsort(pairs[:, 1], kind="stable")
        return pairs[order, 0], pairs[order, 1]


def path(folder, partition):
    return pathlib.Path(folder) / f"{partition}.ids"
