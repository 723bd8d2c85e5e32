"""The vocabulary: records, reason codes, topics, codecs and configuration.

Nothing here reads a file, a clock or a network, and nothing here imports another package of the project.
"""
