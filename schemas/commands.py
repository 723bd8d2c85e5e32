"""Commands of operators to an account: their JSON form, what is signed of it, and the limits they may change.

A command says exactly what it uses and nothing else: a limit and its value with LOWER_LIMIT and RAISE_LIMIT,
what to release with RELEASE, neither with the others. `RELEASE` names a breaker with the strategy and the
instrument that it counts by, or no breaker and one instrument: then what blocks that instrument is settled.

Always true: the bytes of two different commands differ, and name the account, so that a signature is worth
nothing for another command or another account.
"""

import json
from collections.abc import Collection
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from schemas import config
from schemas.codes import Breaker, ControlAction
from schemas.records import MICRO, Money, Record, TimeNs, _code

CHANGEABLE: dict[str, FieldInfo] = {
    "max_position_value": config.SizeGate.model_fields["max_position_value"],
    "max_position_share": config.SizeGate.model_fields["max_position_share"],
    "max_positions": config.SizeGate.model_fields["max_positions"],
    "max_volume_share": config.SizeGate.model_fields["max_volume_share"],
    "openings_per_window": config.FrequencyGate.model_fields["openings_per_window"],
    "openings_per_day": config.FrequencyGate.model_fields["openings_per_day"],
    "message_burst": config.MessageGate.model_fields["burst"],
    "messages_per_minute": config.MessageGate.model_fields["per_minute"],
    "daily_loss": config.DailyLoss.model_fields["share"],
    "rapid_loss": config.RapidLoss.model_fields["share"],
    "drawdown": config.Drawdown.model_fields["share"],
    "losses_in_a_row": config.ConsecutiveLosses.model_fields["count"],
    "strategy_loss": config.StrategyLoss.model_fields["share"],
}
"""Limits that a command may change, by their name in the account's state, with the key of the configuration
that gives their unit and range. Of each, more is riskier.
"""

LIMIT_ACTIONS = (ControlAction.LOWER_LIMIT, ControlAction.RAISE_LIMIT)

COUNTED_BY: dict[Breaker, tuple[bool, bool]] = {
    Breaker.DAILY_LOSS: (False, False),
    Breaker.RAPID_LOSS: (False, False),
    Breaker.DRAWDOWN: (False, False),
    Breaker.CONSECUTIVE_LOSSES: (True, False),
    Breaker.STRATEGY_LOSS: (True, False),
    Breaker.UNUSUAL_TRADING: (True, False),
    Breaker.EXIT_FAILURE: (False, True),
    Breaker.REPEATED_EXECUTION: (True, True),
}
"""Whether a breaker counts by strategy, and by instrument."""

BREAKERS = {member.name.lower(): member for member in Breaker}


def _one_of(names: Collection[str]) -> AfterValidator:
    """A name of the vocabulary, or "" for none."""
    known = ", ".join(names)

    def check(value: str) -> str:
        if value and value not in names:
            raise PydanticCustomError("unknown_enum", "not one of {known}", {"known": known})
        return value

    return AfterValidator(check)


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("has characters that cannot be shown")
    return value


NameOrNone = Annotated[str, Field(max_length=32, pattern=f"^$|{config.NAME_PATTERN}")]


class Signature(Record):
    """`signature`: Ed25519 over `signed_bytes`, in base64. `key`: its name in the configuration."""

    key: config.Name
    signature: Annotated[str, Field(max_length=88)]


class Command(Record):
    """What an operator asks for. `command_id` is the time of issue and rises from command to command; from
    after `expires_ns` on it is void. `issuer` is the key that signed first. `value` is the limit in the unit
    of the configuration: currency, a share or a count.
    """

    account: config.Name
    command_id: Annotated[TimeNs, Field(ge=1)]
    action: _code(ControlAction)  # type: ignore[valid-type]
    issuer: config.Name
    reason: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
    expires_ns: TimeNs
    breaker: Annotated[str, _one_of(BREAKERS)]
    strategy: NameOrNone
    instrument: NameOrNone
    limit: Annotated[str, _one_of(CHANGEABLE)]
    value: Money
    signatures: Annotated[list[Signature], Field(max_length=8)]

    @model_validator(mode="after")
    def _says_what_it_uses(self) -> Self:
        action = self.action.name.lower()
        if self.action in LIMIT_ACTIONS:
            if not self.limit:
                raise ValueError(f"{action} needs the name of a limit, one of {', '.join(CHANGEABLE)}")
        elif self.limit or self.value:
            raise ValueError(f"{action} takes no limit and no value")
        given = bool(self.strategy), bool(self.instrument)
        if self.action != ControlAction.RELEASE:
            if self.breaker or any(given):
                raise ValueError(f"{action} is about the whole account: no breaker, strategy or instrument")
        elif not self.breaker:
            if given != (False, True):
                raise ValueError("release without a breaker needs an instrument and no strategy")
        else:
            by = COUNTED_BY[BREAKERS[self.breaker]]
            if given != by:
                raise ValueError(f"release of {self.breaker} needs {_needed(by)}")
        return self


def _needed(by: tuple[bool, bool]) -> str:
    named = [name for name, wanted in zip(("a strategy", "an instrument"), by, strict=True) if wanted]
    return " and ".join(named) + " alone" if named else "neither strategy nor instrument"


def signed_bytes(command: Command) -> bytes:
    """What is signed: a tag with the version, the account, and all fields but the signatures as JSON with
    sorted keys and without spaces.
    """
    fields = command.model_dump(mode="json", exclude={"signatures"})
    body = json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return f"sluice command {Command.VERSION}\n{command.account}\n{body}".encode()


def limit_units(name: str, value: Decimal) -> int:
    """A limit as the account counts it: millionths of currency or of one, or a count. Raises `ValueError` for
    a value that the configuration would not allow either.
    """
    field = CHANGEABLE[name]
    whole = field.annotation is int
    if whole and value % 1:
        raise ValueError(f"{name} is a count, not {value}")
    allowed: Any = Annotated[(field.annotation, *field.metadata)]
    try:
        TypeAdapter(allowed).validate_python(int(value) if whole else value)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise ValueError(f"{name} cannot be {value}: {problem[0].lower()}{problem[1:]}") from None
    return int(value) if whole else config.micro(value)


def limit_value(name: str, units: int) -> Decimal:
    """A limit as the configuration writes it; undoes `limit_units`."""
    return Decimal(units) if CHANGEABLE[name].annotation is int else Decimal(units) / MICRO
