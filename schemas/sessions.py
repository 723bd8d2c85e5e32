"""Trading sessions as sorted arrays."""

from dataclasses import dataclass

from schemas.batches import Int64s


@dataclass(frozen=True, slots=True)
class Sessions:
    """Regular sessions of one exchange, sorted. `open_ns` and `close_ns` are (n,) int64, ns since the
    epoch, UTC.
    """

    exchange: str
    open_ns: Int64s
    close_ns: Int64s

    def __len__(self) -> int:
        return len(self.open_ns)
