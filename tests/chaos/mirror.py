"""What the bucket holds, as seen by the proxy: every write passes it, so it is known without a
request what a kill has hit.

`kind_of` names a request by what it is for; `Mirror` follows the writes that the store accepted.
"""

import collections
import json
import threading

# What a request is for. Puts of checkpoints are told apart by what they change.
CLAIM_KINDS = ["get checkpoint", "create", "claim", "list", "probe"]
BATCH_KINDS = ["begin", "landed", "landed+begin", "put data", "put dead letters"]
OTHER_KINDS = ["other swap", "swap of an old epoch", "get object", "other"]
KINDS = CLAIM_KINDS + BATCH_KINDS + OTHER_KINDS

# Where a partition was when its writer was killed, in the order of its way.
STEPS = [
    "starting, nothing claimed yet",
    "claiming, its swap not sent",
    "claimed, reading or idle",
    "replay of a begun batch, none of its objects there",
    "replay of a begun batch, some objects there",
    "replay of a begun batch, all objects there",
    "begun, none of its objects there",
    "begun, some objects there",
    "begun, all objects there, not landed",
    "landed, its answer not heard, not committed",
]


class Mirror:
    """Checkpoints and objects below one prefix, by accepted writes."""

    def __init__(self, data_folders, dead_letters, checkpoints):
        self.data_folders, self.dead_letters = data_folders, dead_letters
        self.checkpoints_folder = checkpoints
        self.lock = threading.Lock()
        self.checkpoints = {}
        self.writers = {}
        self.replayed = set()
        self.objects = set()
        self.answers = collections.Counter()
        self.taken_over = collections.Counter()

    def kind_of(self, request, key):
        if request.method == "GET":
            if "list-type" in request.query:
                return "list"
            return "get checkpoint" if self.partition_of(key) is not None else "get object"
        if request.method != "PUT":
            return "other"
        if key.startswith(self.dead_letters + "/"):
            return "put dead letters"
        if self.partition_of(key) is not None:
            return self.kind_of_swap(request, self.partition_of(key))
        return "put data" if key.partition("/")[0] in self.data_folders else "other"

    def partition_of(self, key):
        """Of a checkpoint's key."""
        folder, _, name = key.rpartition("/")
        number = name.removesuffix(".json")
        is_checkpoint = folder.startswith(self.checkpoints_folder + "/") and number.isdigit()
        return int(number) if is_checkpoint else None

    def kind_of_swap(self, request, partition):
        try:
            new = json.loads(request.body)
        except ValueError:
            return "probe"
        known = self.checkpoints.get(partition)
        if known is None:
            return "create"
        if new == known and ("if-none-match" in request.headers
                             or "no-object-has-this" in request.headers.get("if-match", "")):  # fmt: skip
            return "probe"
        if new["epoch"] > known["epoch"]:
            return "claim"
        if new["epoch"] < known["epoch"]:
            return "swap of an old epoch"
        if new["next_offset"] > known["next_offset"]:
            return "landed+begin" if new["pending"] else "landed"
        return "begin" if new["pending"] and not known["pending"] else "other swap"

    def answered(self, slot, kind, key, request, status):
        """Follows what the store answered; for writes, what it accepted."""
        self.answers[kind, status] += 1
        if request.method != "PUT" or status != 200:
            return
        with self.lock:
            partition = self.partition_of(key)
            if partition is None:
                self.objects.add(key)
                return
            known, new = self.checkpoints.get(partition), json.loads(request.body)
            if known is None or new["revision"] > known["revision"]:
                self.checkpoints[partition] = new
                self.own(slot, partition, known, new)

    def own(self, slot, partition, known, new):
        before = self.writers.get(partition)
        if before not in (None, slot):
            self.taken_over[before] += 1
        self.writers[partition] = slot
        if known is not None and new["epoch"] > known["epoch"]:
            self.replayed.discard(partition)
            if new["pending"]:
                self.replayed.add(partition)
        elif new["pending"] is None or known is None or known["next_offset"] != new["next_offset"]:
            self.replayed.discard(partition)

    def steps(self, slot):
        """By partition of this writer: where it is."""
        with self.lock:
            return {
                partition: self.step(partition, checkpoint)
                for partition, checkpoint in self.checkpoints.items()
                if self.writers.get(partition) == slot
            }

    def step(self, partition, checkpoint):
        pending = checkpoint["pending"]
        if pending is None:
            return STEPS[2]
        there = [key in self.objects for key in pending["keys"]]
        # The dead letters' key, the last, is created only where it holds something.
        count = 2 if all(there[:-1]) else 1 if any(there) else 0
        return STEPS[3 + count] if partition in self.replayed else STEPS[6 + count]

    def positions(self):
        with self.lock:
            return {
                partition: max(checkpoint["next_offset"], checkpoint["holes_to"])
                for partition, checkpoint in self.checkpoints.items()
            }

    def stopped(self):
        with self.lock:
            return {
                partition: checkpoint["stopped"]["cause"]
                for partition, checkpoint in self.checkpoints.items()
                if checkpoint["stopped"]
            }


def headline(steps, trigger=None):
    """The one step that a kill counts under: the farthest of its partitions' ways, or what the
    request that it was triggered by tells better."""
    if trigger and trigger.is_after and trigger.kind in ("landed", "landed+begin"):
        return STEPS[9]
    if trigger and not trigger.is_after and trigger.kind in ("create", "claim", "get checkpoint"):
        return STEPS[1]
    if not steps:
        return STEPS[0]
    return max(steps.values(), key=STEPS.index)
