"""Whether what landed is what was produced: a check of the audit's, by arrays of one partition.

Kafka may hold a record twice: it took it, was killed before it had said so, and took it again when
the feed asked again. Both are records of the topic, and both must land. The one that nobody was
told of is compared with the topic itself.
"""

import numpy
import pyarrow
import pyarrow.compute

from chaos import records

SHOWN_MAX = 5
ROWS = ["id", "timestamp", "kafka_timestamp", "latitude", "longitude"]
NOTES = ["note", "_extra"]
DEAD = ["key", "value", "kafka_timestamp"]


class Check:
    def __init__(self, folder, topic, complain):
        """`topic` reads the ids at some offsets of a partition: (partition, offsets) -> ids."""
        self.produced, self.topic, self.complain = records.Produced(folder), topic, complain
        self.untold = 0

    @staticmethod
    def columns(is_dead, there):
        return DEAD if is_dead else ROWS + [name for name in NOTES if name in there]

    def partition(self, number, files, tables, first, end):
        ids, offsets = self.produced.partition(number)
        untold = numpy.setdiff1d(numpy.arange(first, end), offsets)
        if len(untold):
            self.untold += len(untold)
            ids = numpy.concatenate([ids, self.topic(number, untold)])
            offsets = numpy.concatenate([offsets, untold])
        rows = [table for file, table in zip(files, tables) if not file.dead]
        dead = [table for file, table in zip(files, tables) if file.dead]
        found_ids = [array(table, "id") for table in rows]
        found_offsets = [array(table, "kafka_offset") for table in rows + dead]
        for table in dead:
            found_ids.append(numpy.array([int(key) for key in table["key"].to_pylist()], int))
            self.dead_letters(number, table, found_ids[-1])
        for table, numbers in zip(rows, found_ids):
            self.rows(number, table, numbers)
        self.compare(number, ids, offsets, joined(found_ids), joined(found_offsets))

    def compare(self, number, ids, offsets, found_ids, found_offsets):
        """The same ids at the same offsets, each once."""
        order, found_order = numpy.argsort(offsets), numpy.argsort(found_offsets, kind="stable")
        ids, found_ids = ids[order], found_ids[found_order]
        if numpy.array_equal(offsets[order], found_offsets[found_order]):
            self.tell(number, "ids at another offset than Kafka said", ids[ids != found_ids])
            return
        self.tell(number, "ids lost", numpy.setdiff1d(ids, found_ids))
        self.tell(number, "ids made up", numpy.setdiff1d(found_ids, ids))
        values, times = numpy.unique(found_offsets, return_counts=True)
        self.tell(number, "offsets doubled", values[times > 1])

    def rows(self, number, table, numbers):
        """Every cell follows from the id."""
        if not len(numbers):
            return
        longitude, latitude = records.position(numbers)
        seconds = records.FIRST_SECOND + numbers
        wrong = records.is_dead(numbers)
        wrong |= microseconds(table, "timestamp") != seconds * 1_000_000
        wrong |= microseconds(table, "kafka_timestamp") != records.time_ms(numbers) * 1000
        wrong |= numpy.abs(array(table, "latitude") - latitude) > 1e-9
        wrong |= numpy.abs(array(table, "longitude") - longitude) > 1e-9
        self.tell(number, "rows with a wrong cell", numbers[wrong])
        # What no column names is in _extra: a note is in one of the two.
        noted = numpy.zeros(len(numbers), bool)
        for name in NOTES:
            if name in table.column_names:
                noted |= pyarrow.compute.is_valid(table[name]).to_numpy()
        self.tell(number, "notes lost or made up",
                  numbers[noted != (numbers % records.NOTED_EVERY == 0)])  # fmt: skip

    def dead_letters(self, number, table, numbers):
        """Byte for byte what was produced, and nothing that should be a row."""
        times = microseconds(table, "kafka_timestamp")
        values = table["value"].to_pylist()
        wrong = [
            one for one, value, time in zip(numbers.tolist(), values, times.tolist())
            if not records.is_dead(one) or value != records.value(one)
            or time != records.time_ms(one) * 1000
        ]  # fmt: skip
        self.tell(number, "dead letters with other bytes", wrong)

    def tell(self, number, what, which):
        if len(which):
            shown = ", ".join(str(one) for one in list(which)[:SHOWN_MAX])
            self.complain(f"partition {number}: {len(which)} {what}: {shown}")


def array(table, name):
    return table[name].to_numpy()


def microseconds(table, name):
    return table[name].cast(pyarrow.timestamp("us", "UTC")).cast(pyarrow.int64()).to_numpy()


def joined(arrays):
    return numpy.concatenate([numpy.empty(0, numpy.int64), *arrays])
