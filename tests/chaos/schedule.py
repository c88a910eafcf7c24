"""What is done to whom and in which order: a function of the seed alone."""

import dataclasses
import random

from chaos import mirror

# The broker's least under the classic protocol, and what the group is given under KIP-848.
SESSION_S = 6

REQUESTS = [
    # Kind of request, weight: at which a process is struck.
    ("get checkpoint", 1), ("claim", 3), ("probe", 1),
    ("begin", 3), ("put data", 8), ("put dead letters", 3), ("landed", 3), ("landed+begin", 5),
]  # fmt: skip

RELOADS = ["rows", "age", "folders by time", "column", "no column", "data", "invalid"]
# Each change of the folder is noted in the checkpoints, which take sixteen.
DATA_CHANGES_MAX = 3
DATA_FOLDERS = ["parquet_files", "parquet_b", "parquet_c"]


@dataclasses.dataclass
class Moment:
    """When a process is struck: at a request, some time after its start, or after some objects."""

    what: str
    kind: str = ""
    when: str = ""
    number: int = 0
    delay_s: float = 0


@dataclasses.dataclass
class Action:
    name: str
    moment: Moment = None
    # How long it stays away, or stopped.
    away_s: float = 0
    detail: str = ""


@dataclasses.dataclass
class Schedule:
    protocol: str
    partitions: int
    # By slot: whether it is a static member, and the client of the store.
    static: list
    clients: list
    rate: float
    # Of a file: few let batches wait for each other, many are cut by their age.
    max_rows: int
    actions: list
    servers: list


def moment(chance):
    dice = chance.random()
    if dice < 0.6:
        kinds, weights = zip(*REQUESTS)
        kind = chance.choices(kinds, weights)[0]
        when = chance.choice(["before", "flying", "after"])
        rare = kind in mirror.CLAIM_KINDS
        number = chance.randint(1, 2 if rare else 8)
        return Moment("request", kind, when, number, round(chance.uniform(0, 2), 3))
    if dice < 0.75:
        return Moment("time", delay_s=round(chance.uniform(0, 1.5), 3))
    number = chance.choice([1, 2, 4, 8, 16, 40])
    return Moment("objects", number=number, delay_s=round(chance.uniform(0, 0.15), 3))


def make(seed, arguments):
    chance = random.Random(f"schedule {seed}")
    any_of = ["eager", "cooperative", "consumer"]
    protocol = chance.choice(any_of) if arguments.protocol == "any" else arguments.protocol
    slots = arguments.instances
    # A static member is back at once under the classic protocols, and late under KIP-848; the
    # others the other way round.
    static = [chance.random() < (0.2 if protocol == "consumer" else 0.7) for _ in range(slots)]
    clients = [chance.choice(["rusoto", "object_store"]) for _ in range(slots)]
    actions = [kill(chance) for _ in range(arguments.kills)]
    actions += [zombie(chance) for _ in range(arguments.zombies)]
    actions += [leave(chance) for _ in range(arguments.kills // 12)]
    actions += reloads(chance, max(2, arguments.kills // 8))
    chance.shuffle(actions)
    return Schedule(
        protocol=protocol,
        partitions=chance.randint(6, 12),
        static=static,
        clients=clients,
        rate=round(chance.uniform(0.01, 0.04), 4),
        max_rows=arguments.max_rows or chance.choice([300, 1000, 5000]),
        actions=dealt(actions, protocol, static, chance),
        servers=servers(chance, arguments),
    )


def dealt(actions, protocol, static, chance):
    """By slot. Whoever returns late, and lets a rebalance wait for him, gets fewer."""
    weights = [4 if is_static == (protocol != "consumer") else 1 for is_static in static]
    slots = [[] for _ in static]
    for action in actions:
        chance.choices(slots, weights)[0].append(action)
    return slots


def kill(chance):
    # Mostly back at once; now and then only after its session has ended.
    away_s = chance.uniform(SESSION_S, SESSION_S + 2) if chance.random() < 0.05 else 0
    return Action("kill", moment(chance), round(max(away_s, chance.uniform(0, 0.3)), 3))


def zombie(chance):
    """Mostly in the midst of a batch: what it does next, it does without knowing of the others."""
    detail = chance.choice(["taken over", "taken over", "replaced"])
    at = moment(chance)
    while at.kind not in mirror.BATCH_KINDS and chance.random() < 0.9:
        at = moment(chance)
    at.delay_s = round(chance.uniform(SESSION_S + 1, SESSION_S + 4), 3)
    return Action("zombie", at, round(chance.uniform(SESSION_S + 1, SESSION_S + 3), 3), detail)


def leave(chance):
    return Action("leave", away_s=round(chance.uniform(0, 3), 3))


def reloads(chance, number):
    kinds = [chance.choice(RELOADS) for _ in range(number)]
    changes = [at for at, kind in enumerate(kinds) if kind == "data"]
    for at in changes[DATA_CHANGES_MAX:]:
        kinds[at] = "rows"
    return [Action("reload", detail=kind) for kind in kinds]


def servers(chance, arguments):
    """At which part of all kills done which server is away for how long."""
    number = max(1, arguments.kills // 50)
    planned = []
    for _ in range(number):
        planned.append(["kafka", chance.choice(["stop", "kill"]), chance.uniform(0, 4)])
        planned.append(["minio", chance.choice(["stop", "kill"]), chance.uniform(0, 4)])
        planned.append(["minio", "kill", 0])
        planned.append(["kafka proxy", "stall", chance.uniform(1, SESSION_S + 2)])
        planned += [["kafka proxy", "cut", 0] for _ in range(4)]
    chance.shuffle(planned)
    step = 0.9 / len(planned)
    return [
        [round(0.05 + at * step, 3), *rest[:2], round(rest[2], 3)]
        for at, rest in enumerate(planned)
    ]
