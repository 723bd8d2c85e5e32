"""The decisions: pure state machines and compiled kernels, and one thin shell that turns a machine into a
step.

No file here reads a clock, a file, the environment of a run or a network, with one exception: `compiled`
names the directory in which compiled kernels are kept.
"""
