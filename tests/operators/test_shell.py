"""The shell around a machine: what a snapshot must say before it is used."""

from typing import Any

import pytest

from operators.compiled import CODE_HASH
from operators.shell import SnapshotError, _Logic


class Counter:
    """Counts what it is given."""

    name = "counter"
    version = 3

    def __init__(self) -> None:
        self.total = 0

    def step(self, event: int) -> list[int]:
        self.total += event
        return [self.total, -self.total]

    def dump(self) -> dict[str, Any]:
        return {"total": self.total}

    def load(self, data: dict[str, Any]) -> None:
        self.total = data["total"]


def test_a_batch_goes_through_in_order_and_the_key_is_kept() -> None:
    logic = _Logic(Counter(), "parameters")
    assert logic.on_batch([1, 2]) == ([1, -1, 3, -3], False)


def test_a_snapshot_is_continued() -> None:
    logic = _Logic(Counter(), "parameters")
    logic.on_batch([5])
    again = _Logic(Counter(), "parameters")
    again.resume(logic.snapshot())
    assert again.on_batch([1]) == ([6, -6], False)


def test_a_snapshot_says_who_wrote_it() -> None:
    snapshot = _Logic(Counter(), "parameters").snapshot()
    assert snapshot["machine"] == "counter"
    assert snapshot["version"] == 3
    assert snapshot["parameters"] == "parameters"
    assert snapshot["code"] == CODE_HASH


@pytest.mark.parametrize("what", ["machine", "version", "parameters", "code"])
@pytest.mark.parametrize("value", ["other", None])
def test_a_snapshot_of_another_writer_is_refused(what: str, value: str | None) -> None:
    snapshot = _Logic(Counter(), "parameters").snapshot() | {what: value}
    with pytest.raises(SnapshotError, match=f"'counter'.*{what}.*empty recovery directory"):
        _Logic(Counter(), "parameters").resume(snapshot)
