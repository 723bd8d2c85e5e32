"""A process of ours that dies on command: `python mortal.py FUSE live|paper OPTIONS` is `sluice live|paper
OPTIONS` until the file FUSE names one of the points below; then it is killed there, as if the power had gone.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from connectors.kafka import sinks, source
from flows.cli import main
from operators import shell

POINTS: dict[str, tuple[Any, str, str]] = {
    "before produce": (sinks._Writer, "_deliver", "before"),
    "after produce, before commit": (sinks._Writer, "_deliver", "after"),
    "after commit": (sinks._Writer, "write", "after"),
    "inside the snapshot of a step": (shell._Logic, "snapshot", "after"),
    "inside the snapshot of the input": (source._Part, "snapshot", "before"),
    "inside the snapshot of the output": (sinks._Numbered, "snapshot", "after"),
    "in the middle of a batch": (shell._Logic, "on_batch", "after"),
    "at start-up, before it reads": (source.KafkaSource, "build_part", "before"),
    "at start-up, before it reads back": (sinks._Numbered, "_read_back", "before"),
    "at start-up, after it has read back": (sinks._Numbered, "_read_back", "after"),
}


def arm(owner: Any, name: str, when: str, point: str, fuse: Path) -> None:
    """Make a method deadly, `when` it begins or ends, once the fuse names the point."""
    whole: Callable[..., Any] = getattr(owner, name)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            burn(fuse, point)
        result = whole(*args, **kwargs)
        if when == "after":
            burn(fuse, point)
        return result

    setattr(owner, name, deadly)


def burn(fuse: Path, point: str) -> None:
    try:
        named = fuse.read_text()
    except FileNotFoundError:
        return
    if named == point:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    armed = Path(sys.argv[1])
    for point, (owner, name, when) in POINTS.items():
        arm(owner, name, when, point, armed)
    sys.argv = ["sluice", *sys.argv[2:]]
    main()
