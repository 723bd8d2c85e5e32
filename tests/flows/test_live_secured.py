"""Live trading on a broker that asks every process for its certificate, and lets it do what
deploy/kafka/README.md says it has to, and nothing else.
"""

import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from live_fixtures import Deployment, live_data, moments_of, record_days
from replay_fixtures import ROOT, SLUICE, write_toml

from connectors.kafka.client import SERVERS_VARIABLE, client_settings
from deploy.kafka.broker import Broker, free_port
from flows.publish import Followers, Publisher
from flows.service import grace_of, required
from schemas.records import Order
from schemas.topics import ALERTS, BARS, DEAD_LETTERS, DECISIONS, JOURNAL, ORDERS

MOMENTS = 12
PREFIX = "secured."
ACCOUNT = "live"
ROWS = ("live, market shards only", "live, account shard only", "paper", "record", "publish")
TOPICS = (BARS, JOURNAL, ORDERS, DECISIONS, ALERTS, DEAD_LETTERS)
OPERATIONS = {
    "create": AclOperation.CREATE,
    "describe": AclOperation.DESCRIBE,
    "describe-configs": AclOperation.DESCRIBE_CONFIGS,
}
DAY = timedelta(days=1)


class Authority:
    """Issues certificates; PEM files in one folder, with a file of settings beside each."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True)
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name("authority")
        self.certificate = self._signed("authority", self.key, x509.BasicConstraints(ca=True, path_length=0))
        (folder / "ca.pem").write_bytes(_pem(self.certificate))

    def issue(self, name: str) -> Path:
        """Key and certificate of `name` in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        here = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path = self.folder / f"{name}.pem"
        path.write_bytes(secret + _pem(self._signed(name, key, here)) + _pem(self.certificate))
        return path

    def properties(self, name: str) -> Path:
        """What README says of mutual TLS."""
        path, own = self.folder / f"{name}.properties", self.issue(name)
        path.write_text(
            f"security.protocol=SSL\nssl.ca.location={self.folder / 'ca.pem'}\n"
            f"ssl.certificate.location={own}\nssl.key.location={own}\n"
        )
        return path

    def _signed(self, name: str, key: ec.EllipticCurvePrivateKey, more: x509.ExtensionType) -> Any:
        now = datetime.now(UTC)
        made = x509.CertificateBuilder().subject_name(_name(name)).issuer_name(self.name)
        made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
        made = made.not_valid_before(now - DAY).not_valid_after(now + DAY).add_extension(more, critical=False)
        return made.sign(self.key, hashes.SHA256())


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "files")


@pytest.fixture(scope="module")
def secured(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """A broker that authorises: where its owner is let in, and where a certificate is asked for."""
    request.getfixturevalue("own_broker_possible")
    port, controller, secure = free_port(), free_port(), f"SECURE://127.0.0.1:{free_port()}"
    guarded = Broker(
        tmp_path_factory.mktemp("secured"),
        port,
        {
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},{secure}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},{secure}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SSL",
            "listener.name.secure.ssl.client.auth": "required",
            "listener.name.secure.ssl.keystore.type": "PEM",
            "listener.name.secure.ssl.keystore.location": str(authority.issue("broker")),
            "listener.name.secure.ssl.truststore.type": "PEM",
            "listener.name.secure.ssl.truststore.location": str(authority.folder / "ca.pem"),
            "listener.name.secure.ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        },
    )
    guarded.start()
    yield guarded.bootstrap, secure.removeprefix("SECURE://")
    guarded.stop()


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SERVERS_VARIABLE, raising=False)


def rights() -> dict[str, list[str]]:
    """The table of README, by process: what it reads, writes, and may do besides."""
    text = (ROOT / "deploy" / "kafka" / "README.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows if row[0] in (*ROWS, "topics ensure", "topics list")}


def acls(process: str) -> Iterator[AclBinding]:
    """Its row, as the broker's rules; the name of its user is that of the row, without spaces."""
    reads, writes, also = rights()[process]
    for cell, operation in ((reads, AclOperation.READ), (writes, AclOperation.WRITE)):
        yield from (_allowed(process, ResourceType.TOPIC, PREFIX + t, operation) for t in _topics(cell))
    if reads:
        prefixed = ResourcePatternType.PREFIXED
        yield _allowed(process, ResourceType.GROUP, "sluice", AclOperation.DESCRIBE, prefixed)
    if "transactional id PREFIX + ACCOUNT" in also:
        for operation in (AclOperation.WRITE, AclOperation.DESCRIBE):
            yield _allowed(process, ResourceType.TRANSACTIONAL_ID, PREFIX + ACCOUNT, operation)
    for clause in also.split("; "):
        topics = _topics(f"{reads} {writes}" if "its topics" in clause else clause)
        for word in set(re.findall(r"[\w-]+", clause)) & OPERATIONS.keys():
            yield from (_allowed(process, ResourceType.TOPIC, PREFIX + t, OPERATIONS[word]) for t in topics)


def _topics(cell: str) -> list[str]:
    named = re.findall(r"[\w-]+", re.sub(r"\(.*?\)", "", cell))
    return list(TOPICS) if "all" in named else [topic for topic in TOPICS if topic in named]


def _allowed(
    process: str,
    kind: ResourceType,
    name: str,
    operation: AclOperation,
    pattern: ResourcePatternType = ResourcePatternType.LITERAL,
) -> AclBinding:
    user = f"User:{user_of(process)}"
    return AclBinding(kind, name, pattern, user, "*", operation, AclPermissionType.ALLOW)


def user_of(process: str) -> str:
    return re.sub(r"\W+", "-", process)


@pytest.fixture
def as_user(secured: tuple[str, str], authority: Authority, tmp_path: Path) -> Callable[[str], Path]:
    """A configuration that logs in as a process of README's table, or as somebody else."""

    def configured(process: str) -> Path:
        properties = str(authority.properties(user_of(process)))
        data = live_data(secured[1], PREFIX, kafka__properties=properties)
        return write_toml(tmp_path / f"{user_of(process)}.toml", data)

    return configured


def sluice(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SLUICE, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
    )


def test_every_process_can_do_its_work_with_the_rights_of_its_row(
    secured: tuple[str, str], as_user: Callable[[str], Path], tmp_path: Path
) -> None:
    owner = AdminClient({"bootstrap.servers": secured[0]})
    for process in rights():
        for made in owner.create_acls(list(acls(process))).values():
            made.result(10)
    for command in ("ensure", "list"):
        done = sluice("topics", command, "-c", as_user(f"topics {command}"))
        assert done.returncode == 0, done.stderr
    with Deployment(tmp_path / "trading", secured[0], PREFIX) as trading:
        market = trading.run("live", "market", shard="market", config=as_user(ROWS[0]))
        account = trading.run("live", "account", shard="account", config=as_user(ROWS[1]))
        paper = trading.run("paper", "paper", config=as_user("paper"))
        terms, kafka = required(trading.config)
        mine = kafka.model_copy(
            update={"bootstrap_servers": secured[1], "properties": str(_properties(as_user("publish")))}
        )
        publishing = client_settings(mine, "publish")
        publisher = Publisher(publishing, trading.config, mine, grace_of(terms))
        followers = Followers([p.url for p in (market, account, paper)], publishing, PREFIX)
        for moment in moments_of(record_days(tmp_path / "bars", 1, 3), trading.config)[:MOMENTS]:
            publisher.bars(moment)
            followers.wait(Event())
            publisher.tick(moment)
            followers.wait(Event())
        assert len(trading.records(ORDERS, Order)) > 3
        for process in (market, account, paper):
            code, said = process.end()
            assert code == 0, said
    recorded = sluice("record", tmp_path / "days", "-c", as_user("record"), "--until-end")
    assert recorded.returncode == 0, recorded.stderr
    verified = sluice("verify", tmp_path / "days", "-c", as_user("record"))
    assert verified.returncode == 0, verified.stdout + verified.stderr


def _properties(config: Path) -> Path:
    return Path(re.findall(r'properties = "(.+)"', config.read_text())[0])


@pytest.mark.parametrize("process", [row for row in ROWS if row != ROWS[1]])
def test_only_the_account_may_write_orders(
    secured: tuple[str, str], as_user: Callable[[str], Path], process: str
) -> None:
    errors: list[KafkaError | None] = []
    settings = {"bootstrap.servers": secured[1], "log_level": 0}
    lines = _properties(as_user(process)).read_text().split()
    producer = Producer(settings | dict(line.split("=", 1) for line in lines))
    producer.produce(PREFIX + ORDERS, b"{}", b"live", 1, on_delivery=lambda error, _: errors.append(error))
    producer.flush(30)
    assert [error and error.code() for error in errors] == [KafkaError.TOPIC_AUTHORIZATION_FAILED]


def test_who_has_no_rights_is_told_so(as_user: Callable[[str], Path], tmp_path: Path) -> None:
    done = sluice("live", "-c", as_user("stranger"), "-r", tmp_path / "db")
    assert done.returncode == 2
    assert "or no right to see it" in done.stderr
    assert "deploy/kafka/README.md says which rights each process needs" in done.stderr
    assert "Traceback" not in done.stderr


def test_who_has_no_certificate_is_told_so(
    secured: tuple[str, str], authority: Authority, tmp_path: Path
) -> None:
    properties = tmp_path / "bare.properties"
    properties.write_text(f"security.protocol=SSL\nssl.ca.location={authority.folder / 'ca.pem'}\n")
    config = write_toml(
        tmp_path / "bare.toml", live_data(secured[1], PREFIX, kafka__properties=str(properties))
    )
    done = sluice("live", "-c", config, "-r", tmp_path / "db")
    assert done.returncode == 2
    assert secured[1] in done.stderr
    assert "[kafka] properties" in done.stderr
    assert "Traceback" not in done.stderr
