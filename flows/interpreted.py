"""Compiled functions as the interpreter runs them, some of them watched.

The same source, found through the same imports, so what is seen is what the compiled function does; only
slower. For a look at one event, not for a run.
"""

import sys
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

PACKAGE = "operators."

Watch = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Gets a function as the interpreter runs it and returns what is called in its place."""


def interpreted(function: Any, watches: Mapping[Any, Watch]) -> Callable[..., Any]:
    """`function` with every function of `operators` that it reaches, compiled or not, run by the interpreter;
    those in `watches` are replaced by what their watch returns. Nothing else in the program changes.
    """
    copies: dict[str, ModuleType] = {}
    made: dict[Any, Callable[..., Any]] = {}
    watched = {_source(watched): watch for watched, watch in watches.items()}

    def module(original: ModuleType) -> ModuleType:
        if original.__name__ not in copies:
            copy = copies[original.__name__] = ModuleType(original.__name__)
            vars(copy).update({name: plain(value) for name, value in vars(original).items()})
        return copies[original.__name__]

    def plain(value: Any) -> Any:
        source = _source(value)
        if isinstance(source, FunctionType) and source.__module__.startswith(PACKAGE):
            names = vars(module(sys.modules[source.__module__]))
            if source not in made:
                made[source] = rebound(source, names)
            return made[source]
        if isinstance(value, ModuleType) and value.__name__.startswith(PACKAGE):
            return module(value)
        return value

    def rebound(source: FunctionType, names: dict[str, Any]) -> Callable[..., Any]:
        copy = FunctionType(source.__code__, names, source.__name__, source.__defaults__, source.__closure__)
        copy.__kwdefaults__ = source.__kwdefaults__
        return watched[source](copy) if source in watched else copy

    result: Callable[..., Any] = plain(function)
    return result


def _source(value: Any) -> Any:
    """The Python function behind a compiled one; anything else is itself."""
    return getattr(value, "py_func", value)
