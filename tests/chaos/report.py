"""What a storm tells at its end: tables of what was hit, and what the processes said."""

import collections
import json

from chaos.mirror import KINDS, STEPS

# A person's mistake that the harness makes on purpose.
EXPECTED_ERRORS = (
    "mistake in the configuration",
    "reload refused, the old configuration goes on",
)
# A process that was replaced under its instance id says so, and ends; under KIP-848 librdkafka
# calls it fatal that the broker has not released the id of a predecessor that was killed.
STATIC_MEMBERS = (
    "another process joined with the instance_id",
    "other consumer with same group.instance.id",
    "The instance ID is still used by another member",
)


def said(folder):
    """Warnings and notable lines by how often, over all logs; and the lines that must not be."""
    counts, odd = collections.Counter(), []
    for log in sorted(folder.glob("*.log")):
        with open(log, "rb") as lines:
            for raw in lines:
                if b'"level":"DEBG"' in raw:
                    continue
                look_at(raw.decode(errors="replace").rstrip("\n"), log.name, counts, odd)
    return counts, odd


def look_at(text, name, counts, odd):
    try:
        line = json.loads(text)
        level, message = line["level"], line["msg"]
    except (ValueError, KeyError, TypeError):
        # Cut off by the kill, or no line of the logger's.
        if "panicked" in text:
            odd.append(f"{name}: {text}")
        return
    is_expected = message in EXPECTED_ERRORS or any(words in text for words in STATIC_MEMBERS)
    if level in ("ERRO", "CRIT") and not is_expected:
        odd.append(f"{name}: {text}")
    if level in ("WARN", "ERRO", "CRIT") or message in NOTABLE:
        counts[f"{level} {message}"] += 1


NOTABLE = {
    "partition claimed, a batch that was begun is read again",
    "kafka has not released our instance id yet, waiting for the session of our predecessor",
    "configuration loaded again",
    "partition is assigned anew",
    "landing drains",
}


class Tables:
    """Sums over all storms."""

    def __init__(self):
        self.kills, self.partitions = collections.Counter(), collections.Counter()
        self.stops, self.moments = collections.Counter(), collections.Counter()
        self.faults, self.zombies = collections.Counter(), collections.Counter()
        self.answers, self.done = collections.Counter(), collections.Counter()
        self.said = collections.Counter()

    def add(self, storm):
        for struck in storm.struck:
            is_kill = struck.how == "SIGKILL"
            (self.kills if is_kill else self.stops)[struck.step] += 1
            self.moments[struck.moment] += 1
            if is_kill:
                self.partitions.update(struck.steps.values())
        for faults in storm.faults:
            self.faults.update(faults.counts)
        self.zombies.update(storm.zombies)
        self.answers.update(storm.mirror.answers)
        self.done.update(storm.done)
        self.said.update(storm.said)

    def print(self):
        print(f"\n{'where it was struck':<50} {'kills':>6} {'stops':>6} {'partitions':>11}")
        for step in STEPS:
            numbers = self.kills[step], self.stops[step], self.partitions[step]
            print(f"{step:<50} {numbers[0]:>6} {numbers[1]:>6} {numbers[2]:>11}")
        table("struck at", self.moments)
        table("zombies", self.zombies)
        self.print_faults()
        table("done besides", collections.Counter(
            {name: count for name, count in self.done.items() if name not in ("kill", "zombie")}
        ))  # fmt: skip
        refused = collections.Counter()
        for (kind, status), count in self.answers.items():
            if status >= 400:
                refused[f"{kind}: {status}"] += count
        table("refused by the store itself", refused)
        table("said by the processes", self.said)

    def print_faults(self):
        effects = ["before", "after", "late"]
        print(f"\n{'faults injected in':<24}" + "".join(f"{effect:>9}" for effect in effects)
              + "  (before, after or late: when it took effect)")  # fmt: skip
        for kind in KINDS:
            counts = collections.Counter()
            for (of, _, effect), count in self.faults.items():
                counts[effect] += count if of == kind else 0
            if counts.total():
                print(f"{kind:<24}" + "".join(f"{counts[effect]:>9}" for effect in effects))
        by_name = collections.Counter()
        for (_, name, _), count in self.faults.items():
            by_name[name] += count
        table("faults by kind", by_name)


def table(head, counts):
    if counts:
        print(f"\n{head}")
        for name, count in counts.most_common():
            print(f"{count:>8}  {name[:110]}")
