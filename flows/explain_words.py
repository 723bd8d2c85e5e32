"""What gates, decisions and breakers say, in words with units."""

from collections.abc import Callable
from dataclasses import dataclass

from schemas.codes import Breaker, Reason, Stage
from schemas.config import MINUTE_NS, NS
from schemas.records import MICRO

LONG_AGO = 10**15
"""A number of ns above this is a point of time, below it a length of time or a count."""

Said = tuple[str, str]
"""A text with {observed} and {limit}, and the unit of both: a method of `Units`."""

ALLOWED: dict[Stage, Said] = {
    Stage.KILL_SWITCH: ("the account is not killed", "count"),
    Stage.HALT_LEVEL: ("the account is active", "count"),
    Stage.BREAKERS: ("no breaker is tripped", "count"),
    Stage.RECONCILIATION: ("nothing has to be settled", "count"),
    Stage.SESSION: ("{observed} left, entries stop at {limit}", "span"),
    Stage.FRESHNESS: ("the last bar is {observed} old, at most {limit}", "span"),
    Stage.CONFLICT: ("nothing else of the family is in the way", "count"),
    Stage.FREQUENCY: ("openings in the window: {observed}, fewer than {limit}", "count"),
    Stage.SIZE: ("{observed} is within every limit", "count"),
    Stage.CASH: ("costs {observed} at worst, {limit} is free", "money"),
    Stage.MESSAGES: ("messages left: {observed}, needed: {limit}", "count"),
}

REFUSED: dict[Reason, Said] = {
    Reason.KILLED: ("the account is killed", "count"),
    Reason.FLATTENING: ("everything is being sold", "count"),
    Reason.HALTED: ("the account is halted", "count"),
    Reason.REDUCING: ("the account only reduces", "count"),
    Reason.DAILY_LOSS: ("the session lost {observed}, the limit is {limit}", "money"),
    Reason.RAPID_LOSS: ("equity fell by {observed} within the window, the limit is {limit}", "money"),
    Reason.CONSECUTIVE_LOSSES: ("losses in a row: {observed}, the limit is {limit}", "count"),
    Reason.STRATEGY_LOSS: ("the strategy fell by {observed} from its best, the limit is {limit}", "money"),
    Reason.UNUSUAL_TRADING: ("in this block: {observed}, the strategy's own limit is {limit}", "count"),
    Reason.BLOCKED: ("the venue said something that does not fit, which must be settled first", "count"),
    Reason.OUTSIDE_SESSION: ("outside the session", "count"),
    Reason.ENTRIES_STOPPED: ("{observed} left, entries stop at {limit}", "span"),
    Reason.STALE_DATA: ("the last bar is {observed} old, at most {limit} is allowed", "span"),
    Reason.OPPOSITE_SIDE: ("{observed} of the family's other side are held or could fill", "count"),
    Reason.SAME_SIDE: ("{observed} of another instrument of this side are held or could fill", "count"),
    Reason.ONE_OPENING_A_BAR: ("there was an opening at this bar already", "count"),
    Reason.TOO_FREQUENT: ("openings: {observed}, another one is allowed below {limit}", "count"),
    Reason.SWITCHED_OFF: ("switched off, openings: {observed}, the limit is {limit}", "count"),
    Reason.POSITION_LIMIT: ("{observed} wanted, the largest position leaves room for {limit}", "count"),
    Reason.VOLUME_LIMIT: ("{observed} wanted, the share of the bar's volume is {limit}", "count"),
    Reason.COUNT_LIMIT: ("positions held: {observed}, the limit is {limit}", "count"),
    Reason.TOO_SMALL: ("worth {observed}, at least {limit} is needed", "money"),
    Reason.CASH: ("costs {observed} at worst, {limit} is free", "money"),
    Reason.MESSAGE_LIMIT: ("messages left: {observed}, needed: {limit}", "count"),
}
"""Why a gate refused or reduced an entry."""

REDUCED: dict[Reason, str] = {
    Reason.TARGET: "the target fell",
    Reason.TARGET_WITHDRAWN: "the target fell before it was filled",
    Reason.END_OF_DAY: "the end of the day",
    Reason.ENTRIES_STOPPED: "entries are cancelled this close to the session's close",
    Reason.CARRIED_OVER: "it is held since an earlier session",
    Reason.FLATTENING: "a command or a kill sells everything",
    Reason.DAILY_LOSS: "the daily loss breaker sells everything",
    Reason.HALTED: "the account is halted",
    Reason.REDUCING: "the account only reduces",
    Reason.BLOCKED: "the venue said something that does not fit",
    Reason.REPRICE: "the market left its limit behind",
    Reason.EXIT_RETRIED: "an exit failed and is tried again",
    Reason.OVERSOLD: "the venue sold more than was held",
}
"""Why a position is reduced, or an order cancelled."""

TRIPPED: dict[Breaker, Said] = {
    Breaker.DAILY_LOSS: ("lost {observed}, limit {limit}", "money"),
    Breaker.RAPID_LOSS: ("fell by {observed}, limit {limit}", "money"),
    Breaker.DRAWDOWN: ("fell by {observed}, limit {limit}", "money"),
    Breaker.CONSECUTIVE_LOSSES: ("losses {observed}, limit {limit}", "count"),
    Breaker.STRATEGY_LOSS: ("fell by {observed}, limit {limit}", "money"),
    Breaker.UNUSUAL_TRADING: ("{observed} in a block, limit {limit}", "count"),
    Breaker.EXIT_FAILURE: ("{observed}, limit {limit}", "tries"),
    Breaker.REPEATED_EXECUTION: ("openings {observed}, limit {limit}", "count"),
}


@dataclass(frozen=True, slots=True)
class Units:
    """Numbers of the account for people. `clock` turns a time in ns into text."""

    currency: str
    clock: Callable[[int], str]

    def money(self, micro: int) -> str:
        return f"{micro / MICRO:,.2f} {self.currency}"

    def count(self, number: int) -> str:
        return f"{number:,}"

    def span(self, ns: int) -> str:
        if ns < 2 * MINUTE_NS:
            return f"{ns / NS:g} s"
        minutes, rest = divmod(ns, MINUTE_NS)
        hours, minutes = divmod(minutes, 60) if minutes >= 120 else (0, minutes)
        parts = ((hours, "h"), (minutes, "min"), (rest / NS, "s"))
        return " ".join(f"{value:g} {unit}" for value, unit in parts if value)

    def tries(self, number: int) -> str:
        """Failed attempts, or the time without progress."""
        return self.span(number) if number >= NS else f"{number} failed attempts"

    def fill(self, said: Said, observed: int, limit: int) -> str:
        text, unit = said
        shown: Callable[[int], str] = getattr(self, unit)
        return text.format(observed=shown(observed), limit=shown(limit))

    def gate(self, stage: Stage, reason: Reason, observed: int, limit: int) -> str:
        """The verdict of a gate, with the numbers it compared."""
        if reason == Reason.NONE:
            return self.fill(ALLOWED[stage], observed, limit)
        if reason == Reason.UNUSUAL_TRADING and limit > LONG_AGO:
            return f"openings of the strategy are spaced out, the next one not before {self.clock(limit)}"
        return self.fill(REFUSED[reason], observed, limit)

    def breaker(self, breaker: Breaker, observed: int, limit: int) -> str:
        return self.fill(TRIPPED[breaker], observed, limit)
