"""Settings of Kafka clients: where the brokers are, how to log in, and what is said while they are away."""

import logging
import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from schemas.config import Kafka

SERVERS_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"
ANSWER_SECONDS = 10
REMIND_SECONDS = 60.0
ATTEMPT_SECONDS = 1.0

logger = logging.getLogger("sluice.kafka")
_library_logger = logging.getLogger("sluice.kafka.library")

_OFFSETS = "offsets are kept in snapshots"
_DELIVERY = "deliveries must be confirmed, in order and once"
REFUSED = {
    "bootstrap.servers": "it stands in [kafka] bootstrap_servers",
    "metadata.broker.list": "it stands in [kafka] bootstrap_servers",
    "client.id": "every client has its own",
    "group.id": _OFFSETS,
    "group.instance.id": _OFFSETS,
    "enable.auto.commit": _OFFSETS,
    "auto.commit.enable": _OFFSETS,
    "auto.commit.interval.ms": _OFFSETS,
    "enable.auto.offset.store": _OFFSETS,
    "auto.offset.reset": "an offset that is gone must be an error",
    "isolation.level": "what a transaction aborted must not be read",
    "enable.partition.eof": "the end of a partition is needed to read back",
    "check.crcs": "what was damaged on its way must not be read",
    "allow.auto.create.topics": "`sluice topics ensure` creates topics",
    "enable.idempotence": _DELIVERY,
    "acks": _DELIVERY,
    "request.required.acks": _DELIVERY,
    "retries": _DELIVERY,
    "message.send.max.retries": _DELIVERY,
    "max.in.flight": _DELIVERY,
    "max.in.flight.requests.per.connection": _DELIVERY,
    "message.timeout.ms": _DELIVERY,
    "delivery.timeout.ms": _DELIVERY,
    "request.timeout.ms": _DELIVERY,
    "delivery.report.only.error": _DELIVERY,
    "dr_cb": _DELIVERY,
    "dr_msg_cb": _DELIVERY,
    "partitioner": "every record is written to a partition that is known",
    "transactional.id": "every writer has its own, which fences the one before it",
    "transaction.timeout.ms": "it belongs to the writer",
    "log_level": "logging is set up by the program",
    "log.queue": "logging is set up by the program",
    "test.mock.num.brokers": "it replaces the brokers by a toy in memory",
    "test.mock.broker.rtt": "it replaces the brokers by a toy in memory",
}
"""Keys that a file of settings may not have, and why: each would break a promise of ours."""

_NO_SECRET = {"bootstrap.servers", "client.id", "security.protocol", "sasl.mechanism", "sasl.mechanisms"}


class KafkaProblem(RuntimeError):  # noqa: N818 - it is not always an error of the program
    """Kafka cannot be used as it is; the message says what, where and which setting cures it."""


def bootstrap_servers(kafka: Kafka) -> str:
    """Where the brokers are: the environment wins over the configuration."""
    return os.environ.get(SERVERS_VARIABLE) or kafka.bootstrap_servers


def client_settings(kafka: Kafka, purpose: str) -> dict[str, Any]:
    """Settings for any client of librdkafka, which is called sluice-`purpose` by the brokers.

    Clients made of them say through logging when no broker can be reached and when one can again, as long as
    they are polled. Raises `KafkaProblem`, never with a value of the file of settings.
    """
    given = read_properties(Path(kafka.properties)) if kafka.properties else {}
    settings: dict[str, Any] = {
        "reconnect.backoff.max.ms": 1000,
        **given,
        "bootstrap.servers": bootstrap_servers(kafka),
        "client.id": f"sluice-{purpose}",
    }
    return {**settings, "error_cb": _Watch(settings).on_error, "logger": _library_logger}


def check_broker(settings: Mapping[str, Any]) -> None:
    """Wait until a broker answers. Raises `KafkaProblem` when none does within 10 s, or one refuses to let us
    in.
    """
    errors: list[KafkaError] = []
    where = servers_shown(settings["bootstrap.servers"])
    noting: dict[str, Any] = {**settings, "error_cb": errors.append}
    try:
        admin = AdminClient(noting)
    except KafkaException as error:
        raise KafkaProblem(f"{where}: {_without_values(error.args[0].str(), settings)}") from None
    deadline = time.monotonic() + ANSWER_SECONDS
    while not _answers(admin):
        reasons = [error for error in errors if error.code() != KafkaError._ALL_BROKERS_DOWN]
        reason = _without_values(reasons[-1].str(), settings) if reasons else "silence"
        if any(error.code() == KafkaError._AUTHENTICATION for error in reasons):
            raise KafkaProblem(f"{where} does not let us in: {reason}; see the file of [kafka] properties")
        if time.monotonic() >= deadline:
            raise KafkaProblem(
                f"no Kafka broker answers at {where} within {ANSWER_SECONDS} s: {reason}. Check the address, "
                f"and what the file of [kafka] properties says of TLS and SASL"
            )


def _answers(admin: AdminClient) -> bool:
    """One attempt, which takes its time where it fails."""
    began = time.monotonic()
    try:
        admin.list_topics(timeout=ATTEMPT_SECONDS)
    except KafkaException:
        admin.poll(max(0.0, ATTEMPT_SECONDS - (time.monotonic() - began)))
        return False
    return True


def servers_shown(servers: str) -> str:
    """The brokers' addresses, with the setting they come from."""
    setting = SERVERS_VARIABLE if os.environ.get(SERVERS_VARIABLE) else "[kafka] bootstrap_servers"
    return f"{servers} ({setting})"


# --- the file of settings


def read_properties(path: Path) -> dict[str, str]:
    """The settings of a file, key=value, one a line. Raises `KafkaProblem`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise KafkaProblem(f"{path}, [kafka] properties: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KafkaProblem(f"{path}, [kafka] properties: is not a text in UTF-8") from None
    given: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        key, equals, value = (part.strip() for part in text.partition("="))
        where = f"{path}, line {number}"
        if not key or not equals:
            raise KafkaProblem(f"{where}: write it as key=value")
        if key in given:
            raise KafkaProblem(f"{where}: {key} is there twice")
        if key in REFUSED:
            raise KafkaProblem(f"{where}: {key} may not be set here: {REFUSED[key]}")
        given[key] = value
    _try_out(given, path)
    return given


def _try_out(given: Mapping[str, str], path: Path) -> None:
    """Let librdkafka judge the settings. Without servers it connects to nothing."""
    settings: dict[str, Any] = {**given, "log_level": 0}
    try:
        Producer(settings)
    except KafkaException as error:
        problem = error.args[0].str()
    except (TypeError, ValueError):
        problem = "a key is not one of a file"  # such as error_cb, which takes a function
    else:
        return
    unknown = re.search(r'No such configuration property: "(.+)"', problem)
    refused = re.search(r'Invalid value .*for configuration property "(.+)"', problem)
    if unknown:
        problem = f"{unknown[1]} is not a setting that librdkafka knows"
    elif refused:
        problem = f"the value of {refused[1]} is not one that librdkafka takes"
    else:
        problem = _without_values(problem, given)
    raise KafkaProblem(f"{path}, [kafka] properties: {problem}")


def _without_values(text: str, settings: Mapping[str, Any]) -> str:
    """A message of librdkafka without what stands in the file of settings, which may be secret."""
    values = {value for key, value in settings.items() if isinstance(value, str) and key not in _NO_SECRET}
    for value in sorted(values - {""}, key=len, reverse=True):
        # A short one, such as a number, is also a part of harmless words and addresses.
        pattern = re.escape(value) if len(value) > 3 else rf"(?<!\w){re.escape(value)}(?!\w)"
        text = re.sub(pattern, "…", text)
    return text


# --- while the brokers are away


def _not_told_otherwise(record: logging.LogRecord) -> bool:
    """Failed connections come several a second here; the error callback tells of them once a minute."""
    return not (isinstance(record.args, tuple) and record.args[:1] in (("FAIL",), ("ERROR",)))


_library_logger.addFilter(_not_told_otherwise)


class _Watch:
    """Tells when no broker can be reached, again every minute, and when one can again.

    librdkafka reports that the last connection is gone, and not that there is one again; so from then on a
    client of its own tries, in a thread that ends with the trouble.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = {**settings, "error_cb": self._note, "logger": _library_logger}
        self._lock = threading.Lock()
        self._watching = False
        self._reason = ""
        self._told = -REMIND_SECONDS

    def on_error(self, error: KafkaError) -> None:
        """`error_cb` of all clients with the same settings, called while they are polled."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._note(error)
            self._warn()
            return
        with self._lock:
            if self._watching:
                return
            self._watching = True
        threading.Thread(target=self._watch, name="kafka-watch", daemon=True).start()

    def _note(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._reason = _without_values(error.str(), self._settings)

    def _warn(self) -> None:
        """One broker of several is away, or refuses something."""
        with self._lock:
            now = time.monotonic()
            due = not self._watching and now - self._told >= REMIND_SECONDS
            if due:
                self._told = now
        if due:
            logger.warning("%s: %s", self._settings["client.id"], self._reason)

    def _watch(self) -> None:
        client, servers = self._settings["client.id"], servers_shown(self._settings["bootstrap.servers"])
        admin = AdminClient(self._settings)
        began = time.monotonic()
        told = None
        while not _answers(admin):
            now = time.monotonic()
            if told is None or now - told >= REMIND_SECONDS:
                told = now
                logger.error("%s: no broker of %s can be reached: %s", client, servers, self._reason)
        now = time.monotonic()
        if told is not None:
            logger.warning("%s: %s reached again after %.0f s", client, servers, now - began)
        with self._lock:
            self._watching = False
            self._told = now  # errors of this outage that still wait to be polled are no news
