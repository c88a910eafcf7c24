"""Which requests to the store meet which fault: a function of the seed, the slot, the kind of
request and its number."""

import collections
import dataclasses
import random

# What can befall a request: (name, whether the store has done what was asked, weight).
WRITE_FAULTS = [
    ("cut before", "before", 3),
    ("cut in the body", "before", 2),
    ("503", "before", 3),
    ("409", "before", 2),
    ("slow", "before", 3),
    ("cut after", "after", 4),
    ("503 after", "after", 3),
    ("409 after", "after", 1),
    ("answer too late", "after", 1),
    # The client has given it up and asks again, then it takes effect.
    ("cut, takes effect later", "late", 3),
    ("503, takes effect later", "late", 2),
]
READ_FAULTS = [
    ("cut before", "before", 3),
    ("503", "before", 3),
    ("slow", "before", 3),
    ("answer cut in half", "after", 4),
    ("answer too late", "after", 1),
]


@dataclasses.dataclass
class Fault:
    name: str
    effect: str
    delay_s: float


class Faults:
    """The faults of one slot."""

    def __init__(self, seed, slot, rate):
        self.seed, self.slot, self.rate = seed, slot, rate
        self.chances = {}
        self.is_on = True
        self.counts = collections.Counter()

    def next(self, kind, is_write):
        """The fault of the next request of this kind, or None."""
        chance = self.chances.get(kind)
        if chance is None:
            chance = self.chances[kind] = random.Random(f"{self.seed} {self.slot} {kind}")
        dice, choice, delay = chance.random(), chance.random(), chance.random()
        # Kinds that are rare meet more of them.
        often = kind in ("put data", "landed+begin")
        if not self.is_on or dice >= self.rate * (1 if often else 3):
            return None
        faults = WRITE_FAULTS if is_write else READ_FAULTS
        at = choice * sum(weight for *_, weight in faults)
        for name, effect, weight in faults:
            at -= weight
            if at < 0:
                break
        self.counts[kind, name, effect] += 1
        return Fault(name, effect, delay)
