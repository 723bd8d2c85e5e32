"""A made-up market of 1-minute bars, for demonstrations, tests and benchmarks.

In: a calendar, families of symbols and a seed. Out: one frame of bars a session, in order of time. State:
each family's random stream and volatility, and each member's last close.

Each family follows an index with volatility that clusters from day to day and is high at the open and the
close, with overnight gaps and rare jumps. A member moves by its leverage times the index's move since the
previous close, as a leveraged fund does, so over days it drifts from a multiple of the index. Volumes are
whole numbers, high at both ends of the session.

Always true: the same arguments give the same bars, whatever other families there are; dirt stands between the
clean rows and changes none of them; clean bars pass the quality check with a jump limit of 20 %.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connectors.recording import BAR_SCHEMA, PRICE_COLUMNS, TIME, create_recording, write_bars
from schemas.batches import Float64s, Int64s
from schemas.sessions import Sessions

SOURCE = "synthetic"
_STEPS = 4  # moves inside a minute, from which high and low come
_DAILY_VOLATILITY = 0.007
_LARGEST_MOVE = 0.14  # of a member from one bar to the next
_SPREAD_NOISE = 2e-5
_START_PRICE = 100.0
_TYPICAL_VOLUME = 20_000.0


@dataclass(frozen=True, slots=True)
class Family:
    """Symbols that follow one index, each with its daily leverage; below 0 it is inverse.

    `thin` gives, by symbol, the share of minutes in which nothing trades and no bar appears.
    """

    name: str
    members: tuple[tuple[str, float], ...]
    thin: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError(f"family {self.name} has no members")
        for symbol, leverage in self.members:
            if not 0 < abs(leverage) <= 5:
                raise ValueError(f"{symbol}: a leverage of {leverage} is not possible; from -5 to 5, not 0")
        for symbol, share in (self.thin or {}).items():
            if symbol not in dict(self.members):
                raise ValueError(f"thin symbol {symbol} is no member of {self.name}")
            if not 0 <= share <= 0.5:
                raise ValueError(f"{symbol}: {share} of the minutes missing is not possible; from 0 to 0.5")


def independent_symbols(n: int) -> tuple[Family, ...]:
    """`n` families of one symbol each: SYM001, SYM002 and so on."""
    return tuple(Family(f"SYM{k:03d}", ((f"SYM{k:03d}", 1.0),)) for k in range(1, n + 1))


class _Path:
    """One family's prices from session to session."""

    def __init__(self, family: Family, seed: int) -> None:
        self.family = family
        digest = hashlib.sha256(family.name.encode()).digest()
        # The stream depends on the family's own name only, so adding a family changes no other.
        self.random = np.random.Generator(
            np.random.PCG64(np.random.SeedSequence([seed, int.from_bytes(digest[:8])]))
        )
        self.closes = np.full(len(family.members), _START_PRICE)
        self.log_volatility = 0.0
        self.leverage = np.array([leverage for _, leverage in family.members])
        self.volume = _TYPICAL_VOLUME * np.exp(self.random.normal(0.0, 1.0, len(family.members)))
        thin = family.thin or {}
        self.missing = np.array([thin.get(symbol, 0.0) for symbol, _ in family.members])

    def session(self, bars: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """One session: (members, 5, bars) float64 and which bars exist, (members, bars)."""
        random = self.random
        members = len(self.leverage)
        largest = _LARGEST_MOVE / np.abs(self.leverage).max()
        self.log_volatility = 0.95 * self.log_volatility + 0.15 * random.normal()
        volatility = _DAILY_VOLATILITY * np.exp(self.log_volatility)

        # U shape: about three times the volatility at the open, twice at the close.
        position = (np.arange(bars) + 0.5) / bars
        shape = 0.7 + 1.6 * np.exp(-position * 12.0) + 0.8 * np.exp(-(1.0 - position) * 15.0)
        scale = np.repeat(shape / np.sqrt((shape**2).sum() * _STEPS), _STEPS) * volatility
        moves = scale * random.standard_t(5, bars * _STEPS) * np.sqrt(3.0 / 5.0)
        gap = 0.5 * volatility * random.standard_t(4)
        if random.random() < 0.03:
            gap += random.normal(0.0, 0.02)
        if random.random() < 0.02:
            moves[random.integers(len(moves))] += random.normal(0.0, 0.008)
        # A bar's whole range, first move to last, counts against the last close.
        moves = np.clip(moves, -largest / (2 * _STEPS), largest / (2 * _STEPS))
        moves[0] = np.clip(gap, -largest / 2, largest / 2)
        index = np.exp(np.cumsum(moves))  # relative to the previous close

        noise = 1.0 + _SPREAD_NOISE * random.standard_normal((members, len(index)))
        paths = self.closes[:, None] * (1.0 + self.leverage[:, None] * (index - 1.0)) * noise
        paths = np.maximum(np.round(paths, 2), 0.01).reshape(members, bars, _STEPS)
        out = np.empty((members, len(PRICE_COLUMNS), bars))
        out[:, 0] = paths[:, :, 0]
        out[:, 1] = paths.max(axis=2)
        out[:, 2] = paths.min(axis=2)
        out[:, 3] = paths[:, :, -1]
        spread = random.normal(0.0, 0.6, (members, bars))
        out[:, 4] = np.round(self.volume[:, None] * shape * np.exp(spread))
        exists = random.random((members, bars)) >= self.missing[:, None]
        exists[:, 0] = exists[:, -1] = True
        self.closes = out[:, 3, -1].copy()
        return out, exists


def generate(
    sessions: Sessions,
    families: Sequence[Family],
    first: date,
    days: int,
    seed: int,
    dirty: bool = False,
    interval_ns: int = 60_000_000_000,
) -> Iterator[pl.DataFrame]:
    """One frame in the columns of a recording for each of `days` sessions from `first` on.

    With `dirty`, rows that the quality check must refuse stand between the clean ones; their source says
    what they are. Raises ValueError for too few sessions in the calendar and for a symbol named twice.
    """
    symbols = [symbol for family in families for symbol, _ in family.members]
    if len(set(symbols)) != len(symbols) or len({family.name for family in families}) != len(families):
        raise ValueError("families and symbols must be distinct")
    if not symbols:
        raise ValueError("no family to generate")
    if days <= 0:
        raise ValueError(f"days: {days} is not possible; at least 1")
    begin = int(np.searchsorted(sessions.close_ns, np.datetime64(first, "ns").astype(np.int64), side="right"))
    if begin + days > len(sessions):
        raise ValueError(
            f"the calendar has {len(sessions) - begin} sessions from {first} on, {days} are needed"
        )
    # Not a generator itself: what is wrong is said at the call, not at the first session.
    return _frames(sessions, families, symbols, range(begin, begin + days), seed, dirty, interval_ns)


def _frames(
    sessions: Sessions,
    families: Sequence[Family],
    symbols: Sequence[str],
    indices: range,
    seed: int,
    dirty: bool,
    interval_ns: int,
) -> Iterator[pl.DataFrame]:
    paths = [_Path(family, seed) for family in families]
    dirt = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 1])))
    names = pl.Series(symbols)
    for k in indices:
        open_ns, close_ns = int(sessions.open_ns[k]), int(sessions.close_ns[k])
        bars = (close_ns - open_ns) // interval_ns
        of_families = [path.session(bars) for path in paths]
        values = np.concatenate([values for values, _ in of_families])
        exists = np.concatenate([exists for _, exists in of_families])
        # All symbols of a minute, then the next minute, as a feed delivers them.
        minute, member = np.nonzero(exists.T)
        start: Int64s = open_ns + minute.astype(np.int64) * interval_ns
        prices: Float64s = values.transpose(2, 0, 1)[minute, member]
        frame = pl.DataFrame(
            {
                "symbol": names.gather(member),
                "start_ns": start,
                "end_ns": start + interval_ns,
                **{name: prices[:, i] for i, name in enumerate(PRICE_COLUMNS)},
                "source": pl.Series([SOURCE]).new_from_index(0, len(start)),
            }
        )
        frame = frame.with_columns(pl.col("start_ns", "end_ns").cast(TIME))
        yield _soiled(frame, dirt, close_ns, interval_ns) if dirty else frame


def _soiled(
    frame: pl.DataFrame, random: np.random.Generator, close_ns: int, interval_ns: int
) -> pl.DataFrame:
    """The frame with one row of every kind of dirt between its rows."""
    clean = frame["symbol"].to_list()
    kinds = (
        "nan",
        "high below low",
        "zero price",
        "duplicate",
        "correction",
        "after the close",
        "spike",
        "unknown symbol",
        "wrong unit",
    )
    # Dirt made of a row stands right after it, except the spike: that stands before a row and takes its place
    # in time. None is made of the first minute, so that the symbol has a good bar to compare with.
    eligible = np.flatnonzero(frame["start_ns"].to_physical().to_numpy() > frame["start_ns"].to_physical()[0])
    rows = random.choice(eligible, size=len(kinds), replace=False)
    pieces: list[tuple[float, pl.DataFrame]] = []
    for kind, row in zip(kinds, rows.tolist(), strict=True):
        dirt = frame[row]
        close = float(dirt["close"][0])
        place = row + 0.5
        changes: dict[str, pl.Expr] = {}
        if kind == "nan":
            changes = {"close": pl.lit(float("nan"))}
        elif kind == "high below low":
            changes = {"high": pl.col("low") - 0.01}
        elif kind == "zero price":
            changes = {"low": pl.lit(0.0)}
        elif kind == "correction":
            changes = {"volume": pl.col("volume") + 100.0}
        elif kind == "after the close":
            # A thin bar that arrives when the session is over.
            place = float(len(clean))
            changes = {
                "start_ns": pl.lit(close_ns).cast(TIME),
                "end_ns": pl.lit(close_ns + interval_ns).cast(TIME),
                "volume": pl.lit(1.0),
            }
        elif kind == "spike":
            place = row - 0.5
            changes = {name: (pl.col(name) * 1.3).round(2) for name in ("open", "high", "low", "close")}
        elif kind == "unknown symbol":
            changes = {"symbol": pl.lit("XXXX")}
        elif kind == "wrong unit":
            # Microseconds taken for nanoseconds: January 1970.
            changes = {
                name: (pl.col(name).to_physical() // 1000).cast(TIME) for name in ("start_ns", "end_ns")
            }
        assert close > 0
        pieces.append((place, dirt.with_columns(**changes, source=pl.lit(f"{SOURCE}, {kind}"))))
    placed = [frame.with_columns(place=pl.int_range(len(clean)).cast(pl.Float64))]
    placed += [dirt.with_columns(place=pl.lit(place)) for place, dirt in pieces]
    return pl.concat(placed).sort("place", maintain_order=True).drop("place")


def write_synthetic(
    recording: Path,
    sessions: Sessions,
    families: Sequence[Family],
    first: date,
    days: int,
    seed: int,
    dirty: bool = False,
    interval_ns: int = 60_000_000_000,
) -> int:
    """Make a new recording of `generate` and return its rows. Its origin says that it is synthetic."""
    frames = generate(sessions, families, first, days, seed, dirty, interval_ns)
    parameters = {
        "exchange": sessions.exchange,
        "first": first.isoformat(),
        "days": days,
        "seed": seed,
        "dirty": dirty,
        "families": {family.name: dict(family.members) for family in families},
    }
    create_recording(recording, interval_ns, f"{SOURCE}, seed {seed}", parameters)
    rows = 0
    for frame in frames:
        write_bars(recording, frame.select(list(BAR_SCHEMA)))
        rows += frame.height
    return rows
