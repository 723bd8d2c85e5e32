"""The one place in `operators` that knows Bytewax: turns a machine into a stateful step.

A machine is a plain object with a state and a `step`. Its snapshot carries who wrote it, in which version,
with which parameters and which code; anything else is refused on resume, never used at best effort.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import bytewax.operators as op
from bytewax.operators import KeyedStream, StatefulBatchLogic

from operators.compiled import CODE_HASH

E = TypeVar("E")
O = TypeVar("O")  # noqa: E741 - the usual letter for an output
E_contra = TypeVar("E_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)


class Machine(Protocol[E_contra, O_co]):
    """A state machine for one key. It reads no clock and does no I/O: the same events give the same
    outputs.
    """

    name: str  # constant; part of the snapshot's identity
    version: int  # of the dumped form

    def step(self, event: E_contra) -> Sequence[O_co]:
        """Apply one event and return what follows from it."""
        ...

    def dump(self) -> dict[str, Any]:
        """The state as plain data: numbers, strings, bytes. Must not share memory with the machine."""
        ...

    def load(self, data: dict[str, Any]) -> None:
        """Take up a dumped state."""
        ...


class SnapshotError(RuntimeError):
    """A snapshot was written by other code, other parameters or another version."""


class _Logic(StatefulBatchLogic[E, O, dict[str, Any]], Generic[E, O]):
    def __init__(self, machine: Machine[E, O], parameters: str):
        self.machine = machine
        self.identity = {
            "machine": machine.name,
            "version": machine.version,
            "parameters": parameters,
            "code": CODE_HASH,
        }

    def resume(self, snapshot: dict[str, Any]) -> None:
        for what, mine in self.identity.items():
            if snapshot.get(what) != mine:
                raise SnapshotError(
                    f"step {self.machine.name!r}: the recovery snapshot was written with {what} "
                    f"{snapshot.get(what)!r}, this run has {mine!r}. Run with the same code and "
                    f"configuration as before, or start anew with an empty recovery directory."
                )
        self.machine.load(snapshot["state"])

    def on_batch(self, values: list[E]) -> tuple[list[O], bool]:
        return [output for value in values for output in self.machine.step(value)], StatefulBatchLogic.RETAIN

    def snapshot(self) -> dict[str, Any]:
        return {**self.identity, "state": self.machine.dump()}


def stateful(
    step_id: str, up: KeyedStream[E], build: Callable[[], Machine[E, O]], parameters: str
) -> KeyedStream[O]:
    """A step that runs one machine a key. `parameters`: a hash of everything that configures the machine."""

    def logic(snapshot: dict[str, Any] | None) -> _Logic[E, O]:
        made = _Logic(build(), parameters)
        if snapshot is not None:
            made.resume(snapshot)
        return made

    return op.stateful_batch(step_id, up, logic)
