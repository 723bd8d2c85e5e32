"""Every key of a configuration is checked; a refusal tells file, key, value and what is allowed."""

import base64
import contextlib
import copy
import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from schemas.config import (
    MAX_MONEY,
    NO_DECISION,
    Account,
    Allocation,
    Bars,
    Breakers,
    Calendar,
    CashGate,
    Config,
    ConfigError,
    ConflictGate,
    ConsecutiveLosses,
    Control,
    DailyLoss,
    Drawdown,
    ExitFailure,
    Family,
    Faults,
    Filter,
    FrequencyGate,
    FreshnessGate,
    Gates,
    Kafka,
    Live,
    MessageGate,
    Metrics,
    Orders,
    PaperVenue,
    RapidLoss,
    Section,
    SessionGate,
    SizeGate,
    Strategy,
    StrategyLoss,
    Tier,
    UnusualTrading,
    micro,
    parse_config,
    read_toml,
)
from schemas.records import MAX_INT, MICRO

TEXT = """
instruments = ["QQQ", "TQQQ", "SQQQ", "SPY"]

[account]
id = "demo"
currency = "USD"
cash = 100_000.50

[calendar]
exchange = "XNYS"
first = 2020-01-01
last = 2027-12-31

[bars]
interval_seconds = 60
jump_limit = 0.20
max_gap_bars = 60
max_price = 1_000_000
max_volume = 1_000_000_000
other_symbols = "refuse"

[[families]]
name = "nasdaq"
hysteresis = 0.05
bull = [
    { probability = 0.60, instrument = "QQQ", weight = 1 },
    { probability = 0.75, instrument = "TQQQ", weight = 0.5 },
]
bear = [{ probability = 0.60, instrument = "SQQQ", weight = 1 }]

[[strategies]]
name = "index"
kind = "ema_cross"
parameters = { fast = 20, slow = 60.5 }
signals = ["QQQ"]
family = "nasdaq"
capital_share = 0.5
filter = { cooldown = 5, noise_factor = 0.5, noise_window = 100, min_score = 0.1 }

[[strategies]]
name = "plain"
kind = "ema_cross"
parameters = {}
signals = ["SPY"]
capital_share = 0.25
filter = { cooldown = 0, noise_factor = 0, noise_window = 10, min_score = 0 }

[allocation]
min_weight_change = 0.1

[gates.session]
entries_stop_minutes = 15
cancel_entries_minutes = 10
exits_begin_minutes = 5
reprice_minutes = 3
force_minutes = 2
flat_by_seconds = 60

[gates.freshness]
max_age_seconds = 90

[gates.conflict]
two_of_one_side = "refuse"

[gates.frequency]
openings_per_window = 5
window_minutes = 10
openings_per_day = 60
release = "next_session"

[gates.size]
max_position_value = 100_000
max_position_share = 1
max_positions = 10
max_volume_share = 0.05
min_order_value = 100

[gates.cash]
buffer_share = 0.05
collar = 0.02

[gates.messages]
burst = 120
per_minute = 120
reserved_share = 0.5

[breakers.daily_loss]
share = 0.02
release = "next_session"

[breakers.rapid_loss]
share = 0.01
window_minutes = 15
pause_minutes = 30

[breakers.drawdown]
share = 0.15
factor = 0.5
release_share = 0.10

[breakers.consecutive_losses]
count = 5
pause_minutes = 240

[breakers.strategy_loss]
share = 0.05
pause_minutes = 1_440

[breakers.exit_failure]
attempts = 3
no_progress_seconds = 120     # a bar until it can fill, and a minute
instruments_to_kill = 2

[breakers.unusual_trading]
slow_at = 2
stop_at = 4

[orders]
entry_lifetime_bars = 3
exit_collar = 0.02
retry_seconds = 5
answer_seconds = 30
query_seconds = 10
absence_answers = 3
absence_seconds = 60

[venue]
half_spread = 0.00005
slippage = 0.00005
commission_per_unit = 0.005
commission_share = 0
participation = 0.10

[venue.faults]
seed = 1
reject = 0.1
partial = 0.1
delay = 0.1
delay_seconds = 90
lose = 0.1
duplicate = 0.1
fill_after_cancel = 0.1
unknown = 0.1
vanish = 0.1
bust = 0.1

[live]
clock = "wall"
tick_seconds = 1
grace_seconds = 2

[kafka]
bootstrap_servers = "broker:9092"
properties = "secrets/kafka.properties"
prefix = "demo."
account_partition = 0
account_partitions = 4
bars_partitions = 8
replication_factor = 1

[metrics]
host = "127.0.0.1"
port = 9400
"""
FILE = "deploy/some.toml"
ABSENT = object()
NAN, INF = Decimal("nan"), Decimal("inf")
Key = tuple[str | int, ...]


def whole() -> dict[str, Any]:
    return read_toml(TEXT, FILE, lambda data, _: copy.deepcopy(dict(data)))


def at(data: Any, key: Key) -> Any:
    for step in key:
        data = data[step]
    return data


def put(key: Key, value: Any) -> dict[str, Any]:
    """The whole configuration with one value replaced, added or, when ABSENT, removed."""
    data = whole()
    if value is ABSENT:
        del at(data, key[:-1])[key[-1]]
    else:
        at(data, key[:-1])[key[-1]] = value
    return data


def refusal(data: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(data, FILE)
    return str(caught.value)


def places(value: Any, key: Key = ()) -> list[tuple[Key, Any]]:
    """Every key of a nested value with what it holds, sections and list items included."""
    found: list[tuple[Key, Any]] = []
    steps: Any = value.items() if isinstance(value, dict) else enumerate(value)
    for step, inner in steps:
        found.append(((*key, step), inner))
        if isinstance(inner, dict | list):
            found += places(inner, (*key, step))
    return found


PLACES = places(whole())
SECTIONS: list[Key] = [(), *(k for k, v in PLACES if isinstance(v, dict) and k[-1] != "parameters")]
PARAMETERS: list[Key] = [("strategies", 0, "parameters", name) for name in ("fast", "slow")]
FAULTS: list[Key] = [key for key, _ in PLACES if key[:2] == ("venue", "faults") and key[-1] != "seed"]
PLACED: list[Key] = [
    ("live",),
    ("kafka",),
    ("kafka", "properties"),
    ("kafka", "prefix"),
    ("metrics",),
    ("metrics", "host"),
]
OPTIONAL: list[Key] = [("families",), ("strategies", 0, "family"), *PARAMETERS, *FAULTS, *PLACED]
LEAVES = [(key, value) for key, value in PLACES if not isinstance(value, dict | list)]
NAMES: dict[Key, str] = {("families", 0): "nasdaq", ("strategies", 0): "index", ("strategies", 1): "plain"}


def shown(key: Key) -> str:
    """A key as messages show it: list items by their name."""
    return ".".join(NAMES.get(key[: k + 1], str(step)) for k, step in enumerate(key))


def by_place(key: Key) -> str:
    """A key as messages show it when the item of a list has lost its name."""
    return ".".join(str(step) for step in key)


def ids(value: Any) -> str | None:
    return shown(value) or "file" if isinstance(value, tuple) else None


# --- every key ----------------------------------------------------------------------------------------------


def test_the_configuration_of_these_tests_is_accepted() -> None:
    config = parse_config(whole(), FILE)
    assert config.account.cash == Decimal("100000.50")
    assert config.interval_ns == 60_000_000_000
    assert config.calendar.first == dt.date(2020, 1, 1)
    assert config.strategies[1].family is None


@pytest.mark.parametrize("section", SECTIONS, ids=ids)
def test_unknown_key_is_refused_and_the_known_ones_named(section: Key) -> None:
    text = refusal(put((*section, "surprise"), 1))
    assert text.startswith(f"{FILE}: {shown((*section, 'surprise'))}: unknown key; known here: ")
    assert set(at(whole(), section)) <= set(text.split("known here: ")[1].split(", "))
    assert "\n" not in text


@pytest.mark.parametrize(
    "key", [k for k, _ in PLACES if k not in OPTIONAL and isinstance(k[-1], str)], ids=ids
)
def test_missing_key_is_refused_with_what_it_must_be(key: Key) -> None:
    lines = refusal(put(key, ABSENT)).splitlines()
    expected = by_place(key) if key[-1] == "name" else shown(key)
    assert lines[0].startswith(f"{FILE}: {expected}: missing and has no default; must be ")
    assert len(lines) == 1


@pytest.mark.parametrize(("key", "value"), PLACES, ids=ids)
@pytest.mark.parametrize(
    ("wrong", "told"), [(True, "true"), ([], "an empty list"), ({}, "a section"), (dt.time(12), "12:00:00")]
)
def test_wrong_type_is_refused_at_every_key(key: Key, value: Any, wrong: Any, told: str) -> None:
    if type(value) is type(wrong):
        return
    text = refusal(put(key, wrong))
    _, where, problem = text.split(": ", 2)
    assert where in (shown(key), by_place(key))
    assert problem.startswith(f"{told} is not allowed; must be ")
    assert "\n" not in text


@pytest.mark.parametrize(
    "key", [k for k, v in LEAVES if isinstance(v, int | Decimal) and not isinstance(v, bool)], ids=ids
)
@pytest.mark.parametrize("wrong", [NAN, INF, -INF, "1"], ids=str)
def test_no_number_may_be_nan_infinite_or_a_text(key: Key, wrong: Any) -> None:
    text = refusal(put(key, wrong))
    told = repr(wrong) if isinstance(wrong, str) else str(wrong).lower()
    assert text.startswith(f"{FILE}: {shown(key)}: {told} is not allowed; must be a ")
    assert "\n" not in text


@pytest.mark.parametrize("key", [k for k, v in LEAVES if isinstance(v, int | Decimal)], ids=ids)
def test_no_number_may_be_negative_or_absurdly_large(key: Key) -> None:
    if key in PARAMETERS or key[-1] == "seed":  # the limits of parameters are the strategy's
        return
    for wrong in (-1, 10**15):
        text = refusal(put(key, wrong))
        assert text.startswith(f"{FILE}: {shown(key)}: {wrong} is not allowed; must be a ")
        assert "at least" in text or "above" in text
        assert "at most" in text or "below" in text


# --- single rules, in the words people read -----------------------------------------------------------------

NAME = "must be a text of 1 to 32 characters: letters, digits and . _ / ^ -, a letter or digit first"
MESSAGES: list[tuple[Key, Any, str]] = [
    (("account", "id"), "", f"account.id: '' is not allowed; {NAME}"),
    (("account", "id"), "a b", f"account.id: 'a b' is not allowed; {NAME}"),
    (("account", "id"), "-a", f"account.id: '-a' is not allowed; {NAME}"),
    (("account", "id"), "a\n", f"account.id: 'a\\n' is not allowed; {NAME}"),
    (("account", "currency"), "usd", "'usd' is not allowed; must be a text: three to five capital letters"),
    (("account", "cash"), 0, "0 is not allowed; must be a number, above 0 and at most 900,000,000"),
    (("account", "cash"), MAX_MONEY + 1, "900000001 is not allowed; must be a number, above 0 and at most"),
    (("account", "cash"), Decimal("1.0000001"), "1.0000001 is not allowed; must be a number"),
    (("calendar", "first"), "2020-01-01", "'2020-01-01' is not allowed; must be a date such as 2026-01-31"),
    (("calendar", "first"), dt.datetime(2020, 1, 1), "calendar.first: 2020-01-01 00:00:00 is not allowed"),  # noqa: DTZ001
    (("bars", "interval_seconds"), 0, "0 is not allowed; must be a whole number, at least 1 and at most 86"),
    (("bars", "interval_seconds"), Decimal("60.0"), "60.0 is not allowed; must be a whole number"),
    (("bars", "jump_limit"), 0, "0 is not allowed; must be a number, above 0 and at most 1"),
    (("bars", "other_symbols"), "drop", "'drop' is not allowed; must be 'refuse' or 'ignore'"),
    (("families", 0, "bull", 0, "probability"), Decimal("0.5"),
     "families.nasdaq.bull.0.probability: 0.5 is not allowed; must be a number, above 0.5 and at most 1"),
    (("families", 0, "bull", 1, "weight"), Decimal("1.1"), "nasdaq.bull.1.weight: 1.1 is not allowed"),
    (("families", 0, "hysteresis"), Decimal("0.5"), "must be a number, at least 0 and below 0.5"),
    (("instruments",), [],
     "instruments: an empty list is not allowed; must be a list of at least 1 and at most 1,000"),
    (("instruments",), [f"S{k}" for k in range(1001)],
     "instruments: a list is not allowed; must be a list of"),
    (("instruments", 1), {"a": "b" * 5000}, "instruments.1: a section is not allowed"),
    (("strategies",), [],
     "strategies: an empty list is not allowed; must be a list of at least 1 and at most 64"),
    (("strategies", 0), 3, "strategies.0: 3 is not allowed; must be a section of keys and values"),
    (("strategies", 0, "signals"), [], "strategies.index.signals: an empty list is not allowed"),
    (("strategies", 0, "signals"), "QQQ", "strategies.index.signals: 'QQQ' is not allowed; must be a list"),
    (("strategies", 0, "family"), 5, f"strategies.index.family: 5 is not allowed; {NAME}"),
    (("strategies", 0, "parameters", "fast"), "x",
     "parameters.fast: 'x' is not allowed; must be a finite number"),
    (("strategies", 1, "filter", "noise_window"), 501,
     "strategies.plain.filter.noise_window: 501 is not allowed"),
    (("strategies", 0, "name"), "x" * 90, f"strategies.0.name: '{'x' * 40}…' is not allowed; {NAME}"),
    (("gates",), 3, "gates: 3 is not allowed; must be a section of keys and values"),
    (("gates", "session", "flat_by_seconds"), True, "true is not allowed; must be a whole number"),
    (("gates", "conflict", "two_of_one_side"), "", "'' is not allowed; must be 'allow' or 'refuse'"),
    (("gates", "frequency", "release"), "never",
     "'never' is not allowed; must be 'operator' or 'next_session'"),
    (("gates", "cash", "collar"), Decimal("0.3"),
     "gates.cash.collar: 0.3 is not allowed; must be a number, above 0 and at most 0.2, to 6 decimal places "
     "(limit of a buy above its reference price; the worst case that is paid)"),
    (("gates", "cash", "buffer_share"), 1, "1 is not allowed; must be a number, at least 0 and below 1"),
    (("venue", "commission_per_unit"), 1001,
     "1001 is not allowed; must be a number, at least 0 and at most 1,000"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "message"), MESSAGES)
def test_wrong_value_is_told_in_plain_words(key: Key, value: Any, message: str) -> None:
    text = refusal(put(key, value))
    assert text.startswith(f"{FILE}: ")
    assert message in text
    assert "\n" not in text
    assert len(text) < 300


@pytest.mark.parametrize("word", ["Decimal(", "instance", "tuple", "dict", "validat", "pydantic", "string"])
def test_messages_never_speak_of_python(word: str) -> None:
    for key, value, _ in MESSAGES:
        assert word not in refusal(put(key, value))


def test_every_error_is_told_not_only_the_first() -> None:
    data = put(("account", "cash"), 0)
    data["bars"]["jump_limit"] = 11
    data["venue"]["surprise"] = 1
    assert [line.split(": ")[1] for line in refusal(data).splitlines()] == [
        "account.cash",
        "bars.jump_limit",
        "venue.surprise",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", "not valid TOML: Invalid value"),
        ("\n\na = 1\na = 2\n", "line 4"),
        ("a = " + "9" * 5000, "not valid TOML: a number has too many digits"),
        ("a = 1e99999999999999999999", "not valid TOML: a number has too many digits"),
    ],
)
def test_text_that_is_not_toml_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{FILE}: not valid TOML") as caught:
        read_toml(text, FILE, parse_config)
    assert message in str(caught.value)


# --- cross-checks -------------------------------------------------------------------------------------------

TIER = {"probability": Decimal("0.6"), "instrument": "SPY", "weight": 1}
CROSS_CHECKS: list[tuple[str, dict[Key, Any], str]] = [
    ("calendar backwards", {("calendar", "first"): dt.date(2028, 1, 1)},
     "calendar: first, 2028-01-01, must not be after last, 2027-12-31"),
    ("probabilities fall", {("families", 0, "bull", 0, "probability"): Decimal("0.8")},
     "families.nasdaq: bull: probabilities must rise from tier to tier, not 0.8, 0.75"),
    ("probabilities equal", {("families", 0, "bull", 0, "probability"): Decimal("0.75")},
     "families.nasdaq: bull: probabilities must rise from tier to tier, not 0.75, 0.75"),
    ("both sides", {("families", 0, "bear", 0, "instrument"): "TQQQ"},
     "families.nasdaq: TQQQ cannot be on both sides"),
    ("no tiers", {("families", 0, "bull"): [], ("families", 0, "bear"): []},
     "families.nasdaq: needs at least one tier in bull or bear"),
    ("entries stop after cancel", {("gates", "session", "entries_stop_minutes"): 9},
     "gates.session: entries_stop_minutes 9, cancel_entries_minutes 10, exits_begin_minutes 5, "
     "reprice_minutes 3, force_minutes 2 and flat_by_seconds 60 must be times before the close that come in "
     "this order"),
    ("reprice after force", {("gates", "session", "reprice_minutes"): 1},
     "gates.session: entries_stop_minutes"),
    ("forced too late", {("gates", "session", "flat_by_seconds"): 61},
     "gates.session.force_minutes: 2 is too late; an exit takes one bar before flat_by_seconds: at least 3"),
    ("no progress within a bar", {("breakers", "exit_failure", "no_progress_seconds"): 59},
     "breakers.exit_failure.no_progress_seconds: 59 is less than a bar, 60"),
    ("drawdown released above", {("breakers", "drawdown", "release_share"): Decimal("0.2")},
     "breakers.drawdown: release_share 0.2 must not be above share 0.15"),
    ("slow after stop", {("breakers", "unusual_trading", "slow_at"): 5},
     "breakers.unusual_trading: slow_at 5 must not be above stop_at 4"),
    ("exits before cancel", {("gates", "session", "exits_begin_minutes"): 11},
     "gates.session: entries_stop_minutes"),
    ("flat at once", {("gates", "session", "flat_by_seconds"): 300}, "and flat_by_seconds 300 must be times"),
    ("instrument twice", {("instruments", 1): "QQQ"}, "instruments: QQQ given twice"),
    ("strategy twice", {("strategies", 1, "name"): "index"}, "strategies: index given twice"),
    ("family twice", {("families",): [
        {"name": "one", "hysteresis": 0, "bull": [TIER], "bear": []},
        {"name": "one", "hysteresis": 0, "bull": [TIER], "bear": []}]}, "families: one given twice"),
    ("tier unknown", {("families", 0, "bear", 0, "instrument"): "PSQ"},
     "families.nasdaq: 'PSQ' is not in instruments"),
    ("tier in two families", {("families",): [
        {"name": "one", "hysteresis": 0, "bull": [TIER], "bear": []},
        {"name": "two", "hysteresis": 0, "bull": [TIER], "bear": []}], ("strategies", 0, "family"): "one"},
     "families.two: 'SPY' is already in family 'one'"),
    ("signal unknown", {("strategies", 1, "signals", 0): "IWM"},
     "strategies.plain.signals: 'IWM' is not in instruments"),
    ("family unknown", {("strategies", 0, "family"): "dow"},
     "strategies.index.family: 'dow' is not in families"),
    ("family with two signals", {("strategies", 0, "signals"): ["QQQ", "SPY"]},
     "strategies.index.signals: a strategy on a family reads exactly one instrument"),
    ("capital above all", {("strategies", 1, "capital_share"): Decimal("0.500001")},
     "strategies: capital_share adds up to 1.000001; at most 1 is allowed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"), [c[1:] for c in CROSS_CHECKS], ids=[c[0] for c in CROSS_CHECKS]
)
def test_values_that_contradict_each_other_are_refused(changes: dict[Key, Any], message: str) -> None:
    data = whole()
    for key, value in changes.items():
        at(data, key[:-1])[key[-1]] = value
    text = refusal(data)
    assert text.startswith(f"{FILE}: ")
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("strategies", 1, "capital_share"), Decimal("0.5")),
        (("gates", "session", "flat_by_seconds"), 60),
        (("gates", "session", "cancel_entries_minutes"), 15),
        (("calendar", "first"), dt.date(2027, 12, 31)),
        (("account", "cash"), MAX_MONEY),
        (("account", "cash"), Decimal("0.000001")),
        (("gates", "cash", "collar"), Decimal("0.2")),
        (("families", 0, "bear"), []),
    ],
)
def test_value_on_its_limit_is_accepted(key: Key, value: Any) -> None:
    parse_config(put(key, value), FILE)


# --- promises -----------------------------------------------------------------------------------------------


def digest(text: str) -> str:
    return read_toml(text, FILE, parse_config).hash


def test_hash_ignores_comments_and_layout() -> None:
    moved = (
        TEXT.replace("[allocation]\nmin_weight_change = 0.1\n", "")
        + "[allocation]  # last\nmin_weight_change=0.10\n"
    )
    assert digest(moved) == digest(TEXT)
    assert digest(TEXT.replace("100_000.50", "100000.50")) == digest(TEXT)
    assert digest("# a comment\n" + TEXT.replace("\n\n", "\n\n\n")) == digest(TEXT)


def alternatives(key: Key, value: Any) -> list[dict[Key, Any]]:
    """Changes that give a key another value; some are not allowed."""
    if isinstance(value, dt.date):
        return [{key: value + dt.timedelta(days=1)}]
    if isinstance(value, int | Decimal):
        return [{key: value + step} for step in (1, -1, Decimal("0.000001"), Decimal("-0.000001"))]
    used = {k: f"{value}x" for k, v in LEAVES if v == value}  # a name, wherever it stands
    return [used, *({key: choice} for choice in ("EUR", "ignore", "allow", "operator", "other", "publisher"))]


DECIDING = [(key, value) for key, value in LEAVES if key[0] not in NO_DECISION]


@pytest.mark.parametrize(("key", "value"), DECIDING, ids=ids)
def test_hash_changes_with_any_value(key: Key, value: Any) -> None:
    hashes = set()
    for changes in alternatives(key, value):
        data = whole()
        for k, v in changes.items():
            at(data, k[:-1])[k[-1]] = v
        with contextlib.suppress(ConfigError):
            hashes.add(parse_config(data, FILE).hash)
    assert hashes
    assert digest(TEXT) not in hashes


GUARDS: list[type[BaseModel]] = [
    Account, Calendar, Bars, Allocation, Orders,
    Gates, SessionGate, FreshnessGate, ConflictGate, FrequencyGate, SizeGate, CashGate,
    MessageGate, Breakers, DailyLoss, RapidLoss, Drawdown, ConsecutiveLosses, StrategyLoss, ExitFailure,
    UnusualTrading, Family, Tier, Filter,
]  # fmt: skip
OTHERS: list[type[BaseModel]] = [Config, Strategy, PaperVenue, Faults, Control, Live, Kafka, Metrics]


EVERY: list[type[BaseModel]] = [*OTHERS, *GUARDS]


@pytest.mark.parametrize("section", GUARDS)
def test_no_field_that_limits_risk_has_a_default(section: type[BaseModel]) -> None:
    assert [name for name, field in section.model_fields.items() if not field.is_required()] == []


def test_only_what_risks_nothing_may_be_left_out() -> None:
    optional = {
        (section.__name__, name)
        for section in EVERY
        for name, field in section.model_fields.items()
        if not field.is_required()
    }
    faults = {("Faults", name) for name in Faults.model_fields if name != "seed"}
    assert optional - faults == {
        ("Config", "modules"),
        ("Config", "families"),
        ("Config", "control"),
        ("Strategy", "family"),
        ("PaperVenue", "faults"),
        ("Control", "keys"),
        ("Config", "live"),
        ("Config", "kafka"),
        ("Config", "metrics"),
        ("Kafka", "properties"),
        ("Kafka", "prefix"),
        ("Metrics", "host"),
    }


SMALL = (0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18, 2**255 + 1)
"""Heights of points of small order, also written in other ways."""


@pytest.mark.parametrize("key", [b"", b"\x07" * 31, b"\x07" * 33, *(n.to_bytes(32, "little") for n in SMALL)])
def test_what_is_no_public_key_is_refused(key: bytes) -> None:
    data = whole()
    data["control"] = {"keys": {"alice": base64.b64encode(key).decode()}}
    assert refusal(data) == (
        f"{FILE}: control.keys.alice: must be an Ed25519 public key of 32 bytes in base64; `sluice keygen` "
        f"prints it"
    )


def test_a_public_key_is_accepted() -> None:
    data = whole()
    data["control"] = {"keys": {"alice": base64.b64encode(b"\x07" * 32).decode()}}
    assert set(parse_config(data, FILE).control.keys) == {"alice"}


def test_every_section_is_covered_closed_strict_and_immutable() -> None:
    sections = set(Section.__subclasses__())
    assert sections == set(EVERY)
    for section in sections:
        assert section.model_config["extra"] == "forbid"
        assert section.model_config["strict"] is True
        assert section.model_config["frozen"] is True


def test_where_the_topics_are_is_no_part_of_what_is_decided() -> None:
    elsewhere = whole()
    elsewhere["kafka"]["bootstrap_servers"] = "other:9092"
    elsewhere["metrics"]["port"] = 9401
    assert parse_config(elsewhere, FILE).hash == digest(TEXT)


def test_a_partition_that_the_topics_do_not_have_is_refused() -> None:
    assert "account_partition: 4 is not one of account_partitions, 4" in refusal(
        put(("kafka", "account_partition"), 4)
    )


def test_largest_money_times_ten_thousand_in_millionths_fits_63_bits() -> None:
    assert micro(Decimal(MAX_MONEY)) * 10_000 <= MAX_INT
    parse_config(put(("account", "cash"), MAX_MONEY), FILE)
    refusal(put(("account", "cash"), MAX_MONEY + Decimal("0.000001")))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", MICRO),
        ("0.0000019", 1),
        ("0.0000009", 0),
        ("-0.0000001", -1),
        ("900000000", 900_000_000 * MICRO),
    ],
)
def test_millionths_are_rounded_down(value: str, expected: int) -> None:
    assert micro(Decimal(value)) == expected


def test_exits_that_begin_too_late_for_three_bars_are_refused() -> None:
    told = refusal(put(("gates", "session", "exits_begin_minutes"), 3))
    assert "exits_begin_minutes: 3 is too late" in told
    assert "at least 4" in told
