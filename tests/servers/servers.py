#!/usr/bin/env python3
"""Real servers for the tests: Apache Kafka, MinIO, versitygw and toxiproxy.

    servers.py install               builds what is missing into the user's cache, once
    servers.py run [--only NAMES] -- COMMAND...
                                     starts them on free loopback ports in a folder of their own,
                                     runs the command, ends them, returns the command's exit code
    servers.py stop|kill|start NAME  for a test within `run`: stops (SIGTERM), kills (SIGKILL) or
                                     starts again kafka, minio, minio-tls, versitygw or toxiproxy;
                                     port and data stay. start returns when the server answers.
                                     With another folder as GROUNDTRACK_TEST_SERVERS start starts
                                     a server of the test's own, which the test has to kill
    servers.py request METHOD PATH [BODY]
                                     for a test within `run`: asks MinIO, prints what it answers
    servers.py credentials POLICY    for a test within `run`: keys of MinIO that may do what this
                                     policy says, as a JSON document

NAMES is a list of servers with commas between. The command finds in its environment:
  GROUNDTRACK_TEST_KAFKA          host:port
  GROUNDTRACK_TEST_KAFKA_PROXIED  host:port where a test may listen and relay to ..._BEHIND: who
  GROUNDTRACK_TEST_KAFKA_BEHIND   asks there is never told another address of the broker
  GROUNDTRACK_TEST_KAFKA_HOME     folder of Kafka's jars, for its command line tools
  GROUNDTRACK_TEST_SECURE         host:port of a Kafka with access-control lists, where everybody
                                  is their administrator
  GROUNDTRACK_TEST_SECURE_NAME    localhost:port of its other listeners: see SECURE
  GROUNDTRACK_TEST_SECURE_CA      PEM file of the authority that signed their certificates
  GROUNDTRACK_TEST_SCRAM          localhost:port of its listener for SCRAM-SHA-512 over TLS, which
                                  asks for a certificate as well; a test sets the password of
                                  one of SCRAM_USERS
  GROUNDTRACK_TEST_SCRAM_CERTS    folder with ca.pem, client.pem and client.key for there
  GROUNDTRACK_TEST_SCRAM_PASSPHRASE  of client.key
  GROUNDTRACK_TEST_MINIO          http://host:port
  GROUNDTRACK_TEST_MINIO_TLS      https://localhost:port
  GROUNDTRACK_TEST_MINIO_CA       PEM file of the authority that signed its certificate
  GROUNDTRACK_TEST_VERSITYGW      http://host:port
  GROUNDTRACK_TEST_TOXIPROXY      http://host:port of its API
  GROUNDTRACK_TEST_BUCKET         a bucket that exists on each S3 server
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION
  GROUNDTRACK_TEST_CONTROL        this script
  GROUNDTRACK_TEST_SERVERS        the folder by which it finds what it started
"""

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

KAFKA = "4.1.0"
# Fixed, so that a run next year tests the same servers.
GO_TOOLS = {
    "minio": "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c",
    "versitygw": "github.com/versity/versitygw/cmd/versitygw@v1.8.0",
    "toxiproxy": "github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0",
}
# Go names a command by the last part of its path.
GO_BINARIES = {"toxiproxy": "server"}

SERVERS = ["kafka", "kafka-secure", "minio", "minio-tls", "versitygw", "toxiproxy"]
BUCKET = "groundtrack-test"
USER = "groundtrack-test"
PASSWORD = "groundtrack-test-secret"
PASSPHRASE = "groundtrack-test-passphrase"
# One for each test that changes a password.
SCRAM_USERS = ["scram-1", "scram-2", "scram-3"]
REGION = "us-east-1"
HOST = "127.0.0.1"

# The listeners of the Kafka with access-control lists, besides that of its administrator. The users
# of SASL are PLAIN's.
SECURE = {
    "SASL_PLAINTEXT": "SASL_PLAINTEXT",
    "SASL_SSL": "SASL_SSL",
    # What is wrong with it is its name.
    "EXPIRED": "SSL",
    "NOT_YET_VALID": "SSL",
    "OTHER_NAME": "SSL",
    "OTHER_AUTHORITY": "SSL",
    # Asks for a certificate of the client's.
    "MUTUAL": "SSL",
}
SECURE_USERS = {"groundtrack": "groundtrack-secret", "admin": "admin-secret"}

# Kafka answers in 5 s on an idle machine; a busy one with two cores may take ten times that.
READY_WITHIN_S = 120
# A clean end of Kafka takes 3 s; what takes longer is killed, its data are thrown away anyway.
END_WITHIN_S = 20


def cache():
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "groundtrack"


def say(text):
    print(f"servers: {text}", file=sys.stderr, flush=True)


# --- install ---------------------------------------------------------------------------------


def install(names=SERVERS):
    needed = {name.removesuffix("-tls").removesuffix("-secure") for name in names}
    if "kafka" in needed:
        install_kafka()
    for name, package in GO_TOOLS.items():
        if name in needed:
            install_go_tool(name, package)


def kafka_libs():
    return cache() / f"kafka-{KAFKA}" / "libs"


def install_kafka():
    libs = kafka_libs()
    if libs.is_dir():
        return
    say(f"fetching Apache Kafka {KAFKA}")
    since = time.monotonic()
    libs.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=libs.parent) as work:
        artifacts = "".join(
            f"<dependency><groupId>org.apache.kafka</groupId><artifactId>{artifact}</artifactId>"
            f"<version>{KAFKA}</version></dependency>"
            for artifact in ("kafka_2.13", "kafka-tools")
        )
        pathlib.Path(work, "pom.xml").write_text(
            '<project xmlns="http://maven.apache.org/POM/4.0.0">'
            "<modelVersion>4.0.0</modelVersion><groupId>groundtrack</groupId>"
            "<artifactId>kafka</artifactId><version>1</version>"
            f"<dependencies>{artifacts}</dependencies></project>\n"
        )
        maven = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"]
        subprocess.run(maven, cwd=work, check=True, stdout=sys.stderr)
        # Whole or not at all: a second run at the same time may have been first.
        with contextlib.suppress(OSError):
            os.rename(pathlib.Path(work, "libs"), libs)
    say(f"Apache Kafka {KAFKA} is there after {time.monotonic() - since:.0f} s")


def binary(name):
    folder = cache() / "bin"
    return folder / GO_BINARIES.get(name, name)


def install_go_tool(name, package):
    if binary(name).exists():
        return
    say(f"building {package}")
    since = time.monotonic()
    folder = cache() / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ, GOBIN=str(folder))
    subprocess.run(["go", "install", package], check=True, env=environment, stdout=sys.stderr)
    say(f"{name} is there after {time.monotonic() - since:.0f} s")


# --- one server ------------------------------------------------------------------------------


class Server:
    """A server in a folder: its port, its log, its process id."""

    def __init__(self, folder, name):
        self.name = name
        self.folder = pathlib.Path(folder) / name

    def port(self, which="port"):
        """Chosen once: a server that is started again is found where it was."""
        file = self.folder / which
        if not file.exists():
            with socket.socket() as free:
                free.bind((HOST, 0))
                file.write_text(str(free.getsockname()[1]))
        return int(file.read_text())

    def start(self):
        self.folder.mkdir(exist_ok=True)
        if self.alive():
            return
        command, environment = getattr(self, "command_" + self.name.replace("-", "_"))()
        with open(self.folder / "log", "ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=dict(os.environ, **environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the command; the servers are ended after it.
                start_new_session=True,
            )
        (self.folder / "pid").write_text(f"{process.pid} {started_at(process.pid)}")
        self.wait_until_ready(process)

    def wait_until_ready(self, process):
        deadline = time.monotonic() + READY_WITHIN_S
        while not self.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                log = (self.folder / "log").read_text(errors="replace")[-4000:]
                raise SystemExit(f"servers: {self.name} does not answer; its log ends:\n{log}")
            time.sleep(0.1)

    def ready(self):
        if self.name.startswith("minio"):
            path = "/minio/health/live"
        elif self.name == "toxiproxy":
            path = "/version"
        elif self.name == "versitygw":
            return s3(self.port(), "GET", "/")[0] == 200
        else:
            # The broker opens its port when it is ready to serve.
            with contextlib.suppress(OSError):
                socket.create_connection((HOST, self.port()), timeout=1).close()
                return True
            return False
        if self.name == "minio-tls":
            with contextlib.suppress(OSError):
                socket.create_connection((HOST, self.port()), timeout=1).close()
                return True
            return False
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(HOST, self.port(), timeout=2)
            connection.request("GET", path)
            return connection.getresponse().status == 200
        return False

    def pid(self):
        """The process that was started, unless its number is another's by now."""
        with contextlib.suppress(OSError, ValueError):
            pid, since = (self.folder / "pid").read_text().split()
            if started_at(int(pid)) == since:
                return int(pid)
        return None

    def alive(self):
        return self.pid() is not None

    def stop(self, how=signal.SIGTERM):
        pid = self.pid()
        if pid is None:
            return
        os.kill(pid, how)
        deadline = time.monotonic() + END_WITHIN_S
        while self.alive():
            # Ours, if it was started by this process.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                deadline = time.monotonic() + END_WITHIN_S
            time.sleep(0.05)

    def command_kafka(self):
        listeners = {
            "PLAINTEXT": (HOST, self.port(), self.port()),
            "PROXIED": (HOST, self.port("behind-port"), self.port("proxied-port")),
        }
        return self.kafka(listeners, {name: "PLAINTEXT" for name in listeners}, {})

    def command_kafka_secure(self):
        certificates = self.folder / "certs"
        if not certificates.exists():
            make_certificates(certificates)
            make_wrong_certificates(certificates)
            make_client_certificate(certificates)
        listeners = {"ADMIN": (HOST, self.port(), self.port())}
        settings = {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": ";".join(
                f"User:{name}" for name in ["ANONYMOUS", "admin", *SCRAM_USERS]
            ),
            "sasl.enabled.mechanisms": "PLAIN",
        }
        users = "".join(f' user_{name}="{secret}"' for name, secret in SECURE_USERS.items())
        for name, protocol in SECURE.items():
            port = self.port(name)
            # By this name they are certified.
            listeners[name] = ("localhost", port, port)
            of_listener = f"listener.name.{name.lower()}."
            if protocol.startswith("SASL"):
                settings[f"{of_listener}plain.sasl.jaas.config"] = (
                    "org.apache.kafka.common.security.plain.PlainLoginModule required" + users + ";"
                )
            if protocol.endswith("SSL"):
                file = certificates / f"{name.lower()}.pem"
                if not file.exists():
                    file = certificates / "both.pem"
                settings[f"{of_listener}ssl.keystore.type"] = "PEM"
                settings[f"{of_listener}ssl.keystore.location"] = str(file)
        scram = "listener.name.scram."
        listeners["SCRAM"] = ("localhost", self.port("SCRAM"), self.port("SCRAM"))
        settings[f"{scram}sasl.enabled.mechanisms"] = "SCRAM-SHA-512"
        settings[f"{scram}scram-sha-512.sasl.jaas.config"] = (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        )
        settings[f"{scram}ssl.keystore.type"] = "PEM"
        settings[f"{scram}ssl.keystore.location"] = str(certificates / "both.pem")
        for name in ("mutual", "scram"):
            of_listener = f"listener.name.{name}."
            settings[f"{of_listener}ssl.client.auth"] = "required"
            settings[f"{of_listener}ssl.truststore.type"] = "PEM"
            settings[f"{of_listener}ssl.truststore.location"] = str(certificates / "ca.pem")
        protocols = {"ADMIN": "PLAINTEXT", **SECURE, "SCRAM": "SASL_SSL"}
        return self.kafka(listeners, protocols, settings)

    def kafka(self, listeners, protocols, more):
        """Listeners by name: host, the port where it listens and the one that it tells of."""
        data = self.folder / "data"
        classpath = str(kafka_libs() / "*")
        properties = self.folder / "server.properties"
        if not data.exists():
            controller = self.port("controller-port")
            addresses = [f"{name}://{host}:{at}" for name, (host, at, _) in listeners.items()]
            told = [f"{name}://{host}:{at}" for name, (host, _, at) in listeners.items()]
            protocols = {**protocols, "CONTROLLER": "PLAINTEXT"}
            settings = {
                "process.roles": "broker,controller",
                "node.id": "1",
                "controller.quorum.voters": f"1@{HOST}:{controller}",
                "controller.listener.names": "CONTROLLER",
                "listeners": ",".join([*addresses, f"CONTROLLER://{HOST}:{controller}"]),
                "advertised.listeners": ",".join(told),
                "listener.security.protocol.map": ",".join(
                    f"{name}:{protocol}" for name, protocol in protocols.items()
                ),
                "inter.broker.listener.name": next(iter(listeners)),
                "log.dirs": str(data),
                "offsets.topic.replication.factor": "1",
                "offsets.topic.num.partitions": "5",
                "transaction.state.log.replication.factor": "1",
                "transaction.state.log.min.isr": "1",
                "transaction.state.log.num.partitions": "5",
                "share.coordinator.state.topic.replication.factor": "1",
                "share.coordinator.state.topic.min.isr": "1",
                "group.initial.rebalance.delay.ms": "0",
                # Tests of a killed member must not wait 45 s for its session. Its heartbeats
                # have room for a busy machine.
                "group.consumer.min.session.timeout.ms": "6000",
                "group.consumer.session.timeout.ms": "10000",
                "group.consumer.min.heartbeat.interval.ms": "1000",
                "group.consumer.heartbeat.interval.ms": "1000",
                "auto.create.topics.enable": "false",
                # Tests of retention must not wait five minutes.
                "log.retention.check.interval.ms": "1000",
                "log.initial.task.delay.ms": "1000",
                "log.segment.delete.delay.ms": "0",
                # Nor those of compaction fifteen seconds.
                "log.cleaner.backoff.ms": "500",
                **more,
            }
            lines = [f"{key}={value}\n" for key, value in settings.items()]
            properties.write_text("".join(lines))
            storage = ["java", "-cp", classpath, "kafka.tools.StorageTool"]
            cluster = subprocess.run(
                [*storage, "random-uuid"],
                check=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ).stdout.split()[-1]
            with open(self.folder / "log", "ab") as log:
                subprocess.run(
                    [*storage, "format", "-t", cluster, "-c", str(properties)],
                    check=True,
                    stdout=log,
                    stderr=log,
                )
        return ["java", "-Xmx1g", "-cp", classpath, "kafka.Kafka", str(properties)], {}

    def command_minio(self, *more):
        environment = {
            "MINIO_ROOT_USER": USER,
            "MINIO_ROOT_PASSWORD": PASSWORD,
            "MINIO_PROMETHEUS_AUTH_TYPE": "public",
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }
        address = f"{HOST}:{self.port()}"
        command = [str(binary("minio")), "server", "data", "--address", address, "--quiet"]
        return [*command, *more], environment

    def command_minio_tls(self):
        certificates = self.folder / "certs"
        if not certificates.exists():
            make_certificates(certificates)
        return self.command_minio("--certs-dir", str(certificates))

    def command_versitygw(self):
        # The second folder keeps its users, so that it needs none of ours.
        (self.folder / "data").mkdir(exist_ok=True)
        environment = {"ROOT_ACCESS_KEY": USER, "ROOT_SECRET_KEY": PASSWORD}
        command = [str(binary("versitygw")), "--port", f"{HOST}:{self.port()}", "posix", "data"]
        return command, environment

    def command_toxiproxy(self):
        return [str(binary("toxiproxy")), "-host", HOST, "-port", str(self.port())], {}


def started_at(pid):
    """When a process was started, in the kernel's ticks; None: there is none, or it has ended."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def make_certificates(folder):
    """An authority of our own, and a certificate that it signed for this machine."""
    folder.mkdir()

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ["-newkey", "rsa:2048", "-nodes", "-days", "2"]
    openssl(
        "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem",
        "-subj", "/CN=groundtrack test authority",
    )  # fmt: skip
    openssl("req", *new_key[:3], "-keyout", "private.key", "-out", "csr", "-subj", "/CN=localhost")
    (folder / "names").write_text(f"subjectAltName=DNS:localhost,IP:{HOST}\n")
    openssl(
        "x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "2", "-extfile", "names", "-out", "public.crt",
    )  # fmt: skip


def make_wrong_certificates(folder):
    """PEM files of a key and a certificate each: a good one, and some with one thing wrong."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    def both(name, certificate):
        key = (folder / "private.key").read_text()
        (folder / f"{name}.pem").write_text(key + (folder / certificate).read_text())

    both("both", "public.crt")
    (folder / "db").touch()
    (folder / "ca.conf").write_text(
        "[ca]\ndefault_ca=d\n[d]\ndatabase=db\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n"
        "unique_subject=no\ncertificate=ca.pem\nprivate_key=ca.key\nrand_serial=yes\n"
        "[p]\ncommonName=supplied\n"
    )
    (folder / "other_names").write_text("subjectAltName=DNS:elsewhere.example\n")
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", "other_ca.key",
        "-out", "other_ca.pem", "-subj", "/CN=another authority",
    )  # fmt: skip
    for name, begin, end, names, authority in [
        ("expired", "20200101000000Z", "20210101000000Z", "names", "ca"),
        ("not_yet_valid", "20980101000000Z", "20990101000000Z", "names", "ca"),
        ("other_name", "20200101000000Z", "20990101000000Z", "other_names", "ca"),
        ("other_authority", "20200101000000Z", "20990101000000Z", "names", "other_ca"),
    ]:
        openssl(
            "ca", "-batch", "-notext", "-config", "ca.conf", "-in", "csr", "-out", f"{name}.crt",
            "-startdate", begin, "-enddate", end, "-extfile", names,
            "-cert", f"{authority}.pem", "-keyfile", f"{authority}.key",
        )  # fmt: skip
        both(name, f"{name}.crt")


def make_client_certificate(folder):
    """A client of the same authority, its key behind a passphrase."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl(
        "req", "-newkey", "rsa:2048", "-passout", f"pass:{PASSPHRASE}", "-keyout", "client.key",
        "-out", "client.csr", "-subj", "/CN=client",
    )  # fmt: skip
    openssl(
        "x509", "-req", "-in", "client.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
        "-CAcreateserial", "-days", "2", "-out", "client.pem",
    )  # fmt: skip


# --- just enough S3 to make a bucket ---------------------------------------------------------


def s3(port, method, path, tls_ca=None, body=b"", service="s3"):
    """One signed request; returns status and body, or 0 if there was no answer."""
    now = time.gmtime()
    day, stamp = time.strftime("%Y%m%d", now), time.strftime("%Y%m%dT%H%M%SZ", now)
    host = f"localhost:{port}" if tls_ca else f"{HOST}:{port}"
    payload = hashlib.sha256(body).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": payload, "x-amz-date": stamp}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    path, _, query = path.partition("?")
    canonical = "\n".join([method, urllib.parse.quote(path), query, lines, names, payload])
    path = f"{path}?{query}" if query else path
    scope = f"{day}/{REGION}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    key = ("AWS4" + PASSWORD).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={USER}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    del headers["host"]
    try:
        if tls_ca:
            import ssl

            context = ssl.create_default_context(cafile=tls_ca)
            connection = http.client.HTTPSConnection(
                "localhost", port, timeout=10, context=context
            )
        else:
            connection = http.client.HTTPConnection(HOST, port, timeout=10)
        with contextlib.closing(connection):
            if body:
                headers["content-type"] = "application/x-www-form-urlencoded"
                # MinIO wants it for some settings.
                headers["content-md5"] = base64.b64encode(hashlib.md5(body).digest()).decode()
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error).encode()


def make_bucket(server):
    ca = server.folder / "certs" / "ca.pem"
    tls_ca = ca if ca.exists() else None
    # MinIO answers before its disks are ready.
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        status, body = s3(server.port(), "PUT", f"/{BUCKET}", tls_ca)
        if status in (200, 409):
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"servers: {server.name} makes no bucket: {status} {body!r}")
        time.sleep(0.2)


def credentials_for(policy):
    """Keys of MinIO's, for an hour, that may do what this document says and no more."""
    form = {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "DurationSeconds": "3600",
        "Policy": json.dumps(json.loads(policy), separators=(",", ":")),
    }
    port = urllib.parse.urlsplit(os.environ["GROUNDTRACK_TEST_MINIO"]).port
    body = urllib.parse.urlencode(form).encode()
    status, answer = s3(port, "POST", "/", body=body, service="sts")
    if status != 200:
        raise SystemExit(f"servers: no credentials: {status} {answer.decode()}")
    text = answer.decode()

    def element(name):
        return text.split(f"<{name}>")[1].split("<")[0]

    return {
        "AWS_ACCESS_KEY_ID": element("AccessKeyId"),
        "AWS_SECRET_ACCESS_KEY": element("SecretAccessKey"),
        "AWS_SESSION_TOKEN": element("SessionToken"),
    }


# --- run -------------------------------------------------------------------------------------


def environment_of(folder, servers):
    variables = {
        "GROUNDTRACK_TEST_CONTROL": os.path.abspath(__file__),
        "GROUNDTRACK_TEST_SERVERS": str(folder),
        "GROUNDTRACK_TEST_BUCKET": BUCKET,
        "AWS_ACCESS_KEY_ID": USER,
        "AWS_SECRET_ACCESS_KEY": PASSWORD,
        "AWS_REGION": REGION,
    }
    for server in servers:
        at = f"{HOST}:{server.port()}"
        if server.name.startswith("kafka"):
            variables["GROUNDTRACK_TEST_KAFKA_HOME"] = str(kafka_libs())
        if server.name == "kafka":
            variables["GROUNDTRACK_TEST_KAFKA"] = at
            proxied, behind = server.port("proxied-port"), server.port("behind-port")
            variables["GROUNDTRACK_TEST_KAFKA_PROXIED"] = f"{HOST}:{proxied}"
            variables["GROUNDTRACK_TEST_KAFKA_BEHIND"] = f"{HOST}:{behind}"
        elif server.name == "kafka-secure":
            variables["GROUNDTRACK_TEST_SECURE"] = at
            variables["GROUNDTRACK_TEST_SECURE_CA"] = str(server.folder / "certs" / "ca.pem")
            variables["GROUNDTRACK_TEST_SCRAM"] = f"localhost:{server.port('SCRAM')}"
            variables["GROUNDTRACK_TEST_SCRAM_CERTS"] = str(server.folder / "certs")
            variables["GROUNDTRACK_TEST_SCRAM_PASSPHRASE"] = PASSPHRASE
            variables["GROUNDTRACK_TEST_KAFKA_HOME"] = str(kafka_libs())
            for name in SECURE:
                variables[f"GROUNDTRACK_TEST_SECURE_{name}"] = f"localhost:{server.port(name)}"
        elif server.name == "minio-tls":
            variables["GROUNDTRACK_TEST_MINIO_TLS"] = f"https://localhost:{server.port()}"
            variables["GROUNDTRACK_TEST_MINIO_CA"] = str(server.folder / "certs" / "ca.pem")
        else:
            variables[f"GROUNDTRACK_TEST_{server.name.upper()}"] = f"http://{at}"
    return variables


def run(names, command):
    install(names)
    # The session's variables must not reach another account than the servers'.
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        os.environ.pop(name, None)
    folder = tempfile.mkdtemp(prefix="groundtrack-servers-")
    servers = [Server(folder, name) for name in names]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        since = time.monotonic()
        for server in servers:
            server.start()
            if server.name.startswith("minio") or server.name == "versitygw":
                make_bucket(server)
        say(f"{', '.join(names)} after {time.monotonic() - since:.1f} s in {folder}")
        return run_command(command, environment_of(folder, servers))
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        for server in reversed(servers):
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def run_command(command, variables):
    process = subprocess.Popen(command, env=dict(os.environ, **variables))
    try:
        code = process.wait()
    except BaseException as end:
        # Ctrl-C has reached the command too; it may take its time, but not for ever.
        if not isinstance(end, KeyboardInterrupt):
            process.terminate()
        try:
            process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    return code if code >= 0 else 128 - code


def main(arguments):
    match arguments:
        case ["install"]:
            install()
            return 0
        case ["request", method, path, *body]:
            port = urllib.parse.urlsplit(os.environ["GROUNDTRACK_TEST_MINIO"]).port
            status, answer = s3(port, method, path, body="".join(body).encode())
            print(answer.decode())
            return 0 if 200 <= status < 300 else 1
        case ["credentials", policy]:
            print(json.dumps(credentials_for(pathlib.Path(policy).read_text())))
            return 0
        case ["run", "--only", names, "--", *command] if command:
            names = names.split(",")
            if unknown := set(names) - set(SERVERS):
                raise SystemExit(f"servers: no server is called {', '.join(sorted(unknown))}")
            return run(names, command)
        case ["run", "--", *command] if command:
            return run(SERVERS, command)
        case [("stop" | "kill" | "start") as action, name] if name in SERVERS:
            server = Server(os.environ["GROUNDTRACK_TEST_SERVERS"], name)
            if action == "start":
                server.start()
            else:
                server.stop(signal.SIGTERM if action == "stop" else signal.SIGKILL)
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.CalledProcessError as failed:
        print(f"servers: {json.dumps(failed.cmd)} failed: {failed.returncode}", file=sys.stderr)
        sys.exit(1)
