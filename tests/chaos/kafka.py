"""Topics and groups of the harness, and what a member is configured with."""

import rig

import confluent_kafka.admin

WITHIN_S = 60

# How members share the partitions; "classic" is what groundtrack does by default.
PROTOCOLS = {
    "classic": {},
    "eager": {"partition.assignment.strategy": "range,roundrobin"},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer"},
}


def admin():
    """Kept until its answers are there: they end with it."""
    brokers = rig.variable("GROUNDTRACK_TEST_KAFKA")
    return confluent_kafka.admin.AdminClient({"bootstrap.servers": brokers, "log_level": 0})


def create_topic(topic, partitions):
    # The records' times are of their own, and long ago: Kafka must not count them as expired.
    new = confluent_kafka.admin.NewTopic(topic, partitions, 1, config={"retention.ms": "-1"})
    client = admin()
    client.create_topics([new])[topic].result(WITHIN_S)


def delete_topic(topic):
    client = admin()
    client.delete_topics([topic])[topic].result(WITHIN_S)


def options(protocol, session_s, heartbeat_ms=None):
    """[kafka.options] of a member. Under KIP-848 the broker decides the session: `set_session`."""
    chosen = dict(PROTOCOLS[protocol])
    if protocol != "consumer":
        chosen["session.timeout.ms"] = str(session_s * 1000)
        if heartbeat_ms:
            chosen["heartbeat.interval.ms"] = str(heartbeat_ms)
    lines = [f'"{key}" = "{text}"\n' for key, text in chosen.items()]
    return "".join(["[kafka.options]\n", *lines])


def set_session(group, session_s):
    """The session of a KIP-848 group, in place of the broker's default."""
    kinds = confluent_kafka.admin
    entries = {
        "consumer.session.timeout.ms": str(session_s * 1000),
        "consumer.heartbeat.interval.ms": "1000",
    }
    resource = kinds.ConfigResource(
        kinds.ResourceType.GROUP, group,
        incremental_configs=[
            kinds.ConfigEntry(name, value, incremental_operation=kinds.AlterConfigOpType.SET)
            for name, value in entries.items()
        ],
    )  # fmt: skip
    client = admin()
    client.incremental_alter_configs([resource])[resource].result(WITHIN_S)


def members(group):
    """The group's members with the partitions that they have and should have, by Kafka's tool."""
    return rig.kafka_tool(
        "consumer.group.ConsumerGroupCommand", "--describe", "--members", "--verbose",
        "--bootstrap-server", rig.variable("GROUNDTRACK_TEST_KAFKA"), "--group", group,
    )  # fmt: skip
