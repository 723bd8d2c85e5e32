"""Kafka: settings of clients, topics, one source and exactly-once sinks. Bytes and offsets, no decisions."""
