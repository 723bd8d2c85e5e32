"""The wiring: the graph, the flows that run it, and the `sluice` command line."""
