"""The paper venue as a process of its own, beside a live account:

    SLUICE_CONFIG=deploy/live.toml python -m bytewax.run flows.paper -r DIRECTORY -s 5 -b 0

or `sluice paper`. It reads the account's journal and orders and writes its reports into the journal, each
once: it numbers them, and reads back what it wrote before a restart.
"""

from collections.abc import Iterable
from threading import Event
from typing import Any

import numpy as np
from bytewax.dataflow import Dataflow
from confluent_kafka.admin import AdminClient

from connectors.kafka.client import check_broker, client_settings
from connectors.kafka.sinks import ExactlyOnceSink
from connectors.kafka.source import KafkaSource, Polled
from connectors.kafka.topics import require
from connectors.metrics import Figures
from flows.graph import Setup, compile_venue, paper_graph
from flows.service import Service, flow_of_process, grace_of, required
from flows.wire import journal_rows, messages_of, names_of, order_rows
from operators.venue_machine import ORDER
from schemas.batches import VenueInput
from schemas.config import Config
from schemas.records import Names
from schemas.topics import JOURNAL, ORDERS


def flow() -> Dataflow:
    """The flow for `python -m bytewax.run flows.paper`; settings come from the environment."""
    return flow_of_process(lambda config, *_: paper(config))


def paper(config: Config) -> Service:
    """The venue of one account. Raises `ConfigError` and `KafkaProblem`."""
    terms, kafka = required(config)
    setup = Setup.of(config, paper=True)
    settings = client_settings(kafka, "paper")
    check_broker(settings)
    require(kafka, AdminClient(settings), (JOURNAL, ORDERS))
    stop, account, figures = Event(), config.account.id, Figures()
    partition = [kafka.account_partition]
    source: KafkaSource[Any] = KafkaSource(
        settings,
        kafka.prefix,
        {JOURNAL: partition, ORDERS: partition},
        Decoder(config, names_of(config)),
        identity=f"paper {account} {setup.identity}",
        clock=None,
        stop=stop,
        until_ordered=(JOURNAL, ORDERS),
    )
    sink = ExactlyOnceSink(
        settings,
        kafka.prefix,
        [JOURNAL],
        kafka.account_partition,
        transactional_id=None,  # readers of the journal count its offsets, and markers would leave holes
        identity=f"paper venue of {account}",
        on_written=figures.written,
    )
    graph = paper_graph(source, sink, setup, grace_of(terms))
    return Service(graph, source, stop, config, figures, lambda: compile_venue(setup))


class Decoder:
    """Messages as what the venue has to know."""

    def __init__(self, config: Config, names: Names):
        self.config = config
        self.names = names

    def __call__(self, polled: Polled) -> Iterable[tuple[str, VenueInput]]:
        messages = messages_of(polled)
        if polled.topic == ORDERS:
            news = VenueInput(None, order_rows(messages, self.names))
        else:
            news = VenueInput(journal_rows(messages, self.config)[0], np.zeros(0, ORDER))
        yield self.config.account.id, news
