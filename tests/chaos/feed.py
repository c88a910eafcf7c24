#!/usr/bin/env python3
"""Fills a topic at a rate, in a process of its own, and notes what Kafka acknowledged.

    feed.py --brokers HOST:PORT --topic TOPIC --partitions N --records N --rate N --out DIR --seed N

Goes on at the rate until SIGTERM, then brings it up to --records at full speed, waits for every
acknowledgement and ends. Broker restarts are sat out. Exit code 1: Kafka did not take a record.
"""

import argparse
import pathlib
import random
import signal
import sys
import threading
import time

sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)
from chaos import records

import confluent_kafka

# Longer than any outage of the harness: a record given up would have an unknown fate.
GIVEN_UP_AFTER_MS = 900_000


class Feed:
    def __init__(self, arguments):
        self.arguments = arguments
        self.writer = records.Writer(arguments.out, arguments.partitions)
        self.chance = random.Random(arguments.seed)
        self.failed = None
        self.producer = confluent_kafka.Producer({
            "bootstrap.servers": arguments.brokers,
            "enable.idempotence": True,
            "message.timeout.ms": GIVEN_UP_AFTER_MS,
            "linger.ms": 20,
            "queue.buffering.max.messages": 200_000,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
        })  # fmt: skip

    def acknowledged(self, error, message):
        if error is not None:
            self.failed = f"{message.key()!r}: {error}"
            return
        self.writer.acknowledged(int(message.key()), message.partition(), message.offset())

    def send(self, first, count):
        """Runs of one partition, so that partitions differ in what they hold."""
        produce, topic = self.producer.produce, self.arguments.topic
        partition = self.chance.randrange(self.arguments.partitions)
        for number in range(first, first + count):
            if number % 64 == 0:
                partition = self.chance.randrange(self.arguments.partitions)
            body, time_ms = records.value(number), records.time_ms(number)
            while True:
                try:
                    produce(
                        topic, body, b"%d" % number, partition,
                        on_delivery=self.acknowledged, timestamp=time_ms,
                    )  # fmt: skip
                    break
                except BufferError:
                    self.producer.poll(0.1)
        self.producer.poll(0)

    def run(self, ended):
        sent, since, every_s = 0, time.monotonic(), 0.05
        while not ended.wait(every_s) and self.failed is None:
            due = int((time.monotonic() - since) * self.arguments.rate)
            # What an outage kept back is not caught up at once.
            due = min(due, sent + int(self.arguments.rate * 4 * every_s) + 1)
            self.send(sent, due - sent)
            sent = due
        while sent < self.arguments.records and self.failed is None:
            count = min(1000, self.arguments.records - sent)
            self.send(sent, count)
            sent += count
        left = self.producer.flush(GIVEN_UP_AFTER_MS / 1000)
        self.writer.close()
        if self.failed or left:
            print(f"feed: Kafka did not take {left} records, {self.failed}", file=sys.stderr)
            return 1
        print(sent, flush=True)
        return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("brokers", "topic", "out"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("partitions", "records", "rate", "seed"):
        parser.add_argument(f"--{name}", required=True, type=int)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    # Ctrl-C is for the harness, which then ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return Feed(parser.parse_args()).run(ended)


if __name__ == "__main__":
    sys.exit(main())
