"""What the scripts that need real servers share: binaries, Kafka's tools, S3, configurations.

Python's standard library alone. Addresses and credentials come from the environment that
`servers.py run` sets.
"""

import contextlib
import datetime
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import urllib.parse
import xml.etree.ElementTree

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
REGION = "us-east-1"


def variable(name):
    """An address that `servers.py run` has set."""
    value = os.environ.get(name)
    if not value:
        raise SystemExit(f"{name} is not set: run this by tests/servers/servers.py run")
    return value


def target():
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")


def binary(name, profiles, given=None):
    """A program that cargo built: the one given, or the first found of the profiles."""
    candidates = [pathlib.Path(given)] if given else [target() / p / name for p in profiles]
    for candidate in candidates:
        if candidate.is_file():
            return str(candidate.resolve())
    raise SystemExit(f"not built: {' or '.join(map(str, candidates))}")


# --- Kafka -----------------------------------------------------------------------------------


def kafka_tool(tool, *arguments):
    """Runs one of Kafka's command line tools; returns what it prints."""
    home = variable("GROUNDTRACK_TEST_KAFKA_HOME")
    command = ["java", "-cp", f"{home}/*", f"org.apache.kafka.tools.{tool}", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{tool} failed: {done.stdout[-500:]} {done.stderr[-500:]}")
    return done.stdout


def create_topic(brokers, topic, partitions):
    kafka_tool(
        "TopicCommand", "--bootstrap-server", brokers, "--create", "--topic", topic,
        "--partitions", str(partitions), "--replication-factor", "1",
    )  # fmt: skip


def topic_offsets(brokers, topic, at="latest"):
    """By partition: the offset behind the last record, or ("earliest") that of the first."""
    printed = kafka_tool(
        "GetOffsetShell", "--bootstrap-server", brokers,
        "--topic-partitions", re.escape(topic), "--time", at,
    )  # fmt: skip
    lines = [line.rsplit(":", 2) for line in printed.split() if line.startswith(topic + ":")]
    return {int(partition): int(offset) for _, partition, offset in lines}


# --- S3 --------------------------------------------------------------------------------------


def s3(endpoint, method, path, query=()):
    """One signed request without a body; returns the answer's body."""
    url = urllib.parse.urlsplit(endpoint)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    empty = hashlib.sha256(b"").hexdigest()
    headers = {"host": url.netloc, "x-amz-content-sha256": empty, "x-amz-date": stamp}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    path = urllib.parse.quote(path)
    query = urllib.parse.urlencode(sorted(query), quote_via=urllib.parse.quote, safe="")
    canonical = "\n".join([method, path, query, lines, names, empty])
    scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = ("AWS4" + variable("AWS_SECRET_ACCESS_KEY")).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={variable('AWS_ACCESS_KEY_ID')}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    with contextlib.closing(http.client.HTTPConnection(url.netloc, timeout=30)) as connection:
        connection.request(method, f"{path}?{query}" if query else path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    if answer.status != 200:
        raise OSError(f"{method} {path}: {answer.status} {body[:500]!r}")
    return body


def list_objects(endpoint, bucket, prefix):
    """Size by key of all that lies below a prefix."""
    found, token = {}, None
    while True:
        query = [("list-type", "2"), ("prefix", prefix)]
        if token:
            query.append(("continuation-token", token))
        page = xml.etree.ElementTree.fromstring(s3(endpoint, "GET", f"/{bucket}", query))
        space = page.tag.removesuffix("ListBucketResult")
        for item in page.iter(f"{space}Contents"):
            found[item.findtext(f"{space}Key")] = int(item.findtext(f"{space}Size"))
        token = page.findtext(f"{space}NextContinuationToken")
        if not token:
            return found


def get_object(endpoint, bucket, key):
    return s3(endpoint, "GET", f"/{bucket}/{key}")


# --- groundtrack -----------------------------------------------------------------------------


def toml(tables):
    """Tables of plain values as TOML; JSON writes strings, numbers and lists the same way."""
    lines = []
    for table, keys in tables.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def configuration(folder, name, topic, root, base=None, **tables):
    """Writes folder/name.toml: the topic lands below s3://BUCKET/{root}, with `base` (the text of
    a configuration without these tables) before it. Returns its path."""
    settings = {
        "kafka": {"brokers": [variable("GROUNDTRACK_TEST_KAFKA")], "topic": topic, "group": name},
        "store": {"url": f"s3://{variable('GROUNDTRACK_TEST_BUCKET')}/{root}"},
        "store.s3": {"endpoint": variable("GROUNDTRACK_TEST_MINIO"), "path_style": True},
        "web": {"listen": ""},
        "log": {"format": "json"},
    }
    for table, keys in tables.items():
        settings.setdefault(table, {}).update(keys)
    path = pathlib.Path(folder) / f"{name}.toml"
    path.write_text((base or "") + toml(settings))
    return str(path)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def say(text):
    print(text, file=sys.stderr, flush=True)
