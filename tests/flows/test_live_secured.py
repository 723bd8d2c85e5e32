"""Live trading on a broker that asks every process for its certificate, and lets it do what
deploy/kafka/README.md says it has to, and nothing else.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
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
from kafka_broker import guarded_broker
from live_fixtures import Deployment, Process, live_data, moments_of, record_days
from replay_fixtures import ROOT, sluice, write_toml

from connectors.config_file import load_config
from connectors.kafka.client import SERVERS_VARIABLE, client_settings
from flows.publish import Followers, Publisher
from flows.service import grace_of, required
from schemas.records import Order
from schemas.topics import ALERTS, BARS, DEAD_LETTERS, DECISIONS, JOURNAL, ORDERS

MOMENTS = 12
PREFIX = "secured."
ACCOUNT = "live"
WHOLE, MARKET, ACCOUNT_ONLY = "live", "live, market shards only", "live, account shard only"
ROWS = (WHOLE, MARKET, ACCOUNT_ONLY, "paper", "record", "publish")
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


@dataclass(frozen=True)
class Secured:
    """A broker that authorises: where its owner is let in, and where a certificate is asked for."""

    owner: str
    address: str
    authority: Authority

    def login(self, process: str) -> Path:
        """A configuration that logs in as a process of README's table, or as somebody else."""
        properties = str(self.authority.properties(user_of(process)))
        data = live_data(self.address, PREFIX, kafka__properties=properties)
        return write_toml(self.authority.folder / f"{user_of(process)}.toml", data)


@pytest.fixture(scope="module")
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """With the rights of README's table, and the topics."""
    request.getfixturevalue("own_broker_possible")
    authority = Authority(tmp_path_factory.mktemp("authority") / "files")
    guarded, address = guarded_broker(
        tmp_path_factory.mktemp("secured"),
        "SSL",
        {
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
    owner = AdminClient({"bootstrap.servers": guarded.bootstrap})
    for process in rights():
        for created in owner.create_acls(list(acls(process))).values():
            created.result(10)
    made = Secured(guarded.bootstrap, address, authority)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(SERVERS_VARIABLE, raising=False)
        ensured = sluice("topics", "ensure", "-c", made.login("topics ensure"))
        assert ensured.code == 0, ensured
        yield made
    guarded.stop()


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


def test_every_process_can_do_its_work_with_the_rights_of_its_row(secured: Secured, tmp_path: Path) -> None:
    listed = sluice("topics", "list", "-c", secured.login("topics list"))
    assert listed.code == 0, listed
    with Deployment(tmp_path / "trading", secured.owner, PREFIX) as trading:
        terms, _ = required(trading.config)
        mine = required(load_config(secured.login("publish")))[1]
        publishing = client_settings(mine, "publish")
        publisher = Publisher(publishing, trading.config, mine, grace_of(terms))
        told = moments_of(record_days(tmp_path / "bars", 1, 3), trading.config)

        def play(first: int, last: int, *processes: Process) -> None:
            followers = Followers([p.url for p in processes], publishing, PREFIX)
            before = len(trading.records(ORDERS, Order))
            for moment in told[first:last]:
                publisher.bars(moment)
                followers.wait(Event())
                publisher.tick(moment)
                followers.wait(Event())
            assert len(trading.records(ORDERS, Order)) > before + 3
            for process in processes:
                code, said = process.end()
                assert code == 0, said

        market = trading.run("live", "market", shard="market", config=secured.login(MARKET))
        account = trading.run("live", "account", shard="account", config=secured.login(ACCOUNT_ONLY))
        play(0, MOMENTS, market, account, trading.run("paper", "paper", config=secured.login("paper")))
        whole = trading.run("live", "whole", config=secured.login(WHOLE))
        play(MOMENTS, 2 * MOMENTS, whole, trading.run("paper", "paper", config=secured.login("paper")))
    recorder = secured.login("record")
    for command in (("record", tmp_path / "days", "--until-end"), ("verify", tmp_path / "days")):
        ended = sluice(*command, "-c", recorder)
        assert ended.code == 0, ended


@pytest.mark.parametrize("process", [row for row in ROWS if row not in (WHOLE, ACCOUNT_ONLY)])
def test_only_the_account_may_write_orders(secured: Secured, process: str) -> None:
    errors: list[KafkaError | None] = []
    _, kafka = required(load_config(secured.login(process)))
    producer = Producer(client_settings(kafka, "thief"))
    producer.produce(PREFIX + ORDERS, b"{}", b"live", 1, on_delivery=lambda error, _: errors.append(error))
    producer.flush(30)
    assert [error and error.code() for error in errors] == [KafkaError.TOPIC_AUTHORIZATION_FAILED]


def test_who_has_no_rights_is_told_so(secured: Secured, tmp_path: Path) -> None:
    ended = sluice("live", "-c", secured.login("stranger"), "-r", tmp_path / "db")
    assert ended.code == 2
    assert "or no right to see it" in ended.stderr
    assert "deploy/kafka/README.md says which rights each process needs" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_who_has_no_certificate_is_told_so(secured: Secured, tmp_path: Path) -> None:
    properties = tmp_path / "bare.properties"
    properties.write_text(f"security.protocol=SSL\nssl.ca.location={secured.authority.folder / 'ca.pem'}\n")
    data = live_data(secured.address, PREFIX, kafka__properties=str(properties))
    ended = sluice("live", "-c", write_toml(tmp_path / "bare.toml", data), "-r", tmp_path / "db")
    assert ended.code == 2
    assert secured.address in ended.stderr
    assert "[kafka] properties" in ended.stderr
    assert "Traceback" not in ended.stderr
