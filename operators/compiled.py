"""The one way to compile a kernel.

Numba's cache on disk notices a change in the file of a function, but not in the files of the functions and
tables it calls. So the cache lives in a directory named by a hash of every source file a kernel could be made
from, together with the versions of numba and numpy: after any edit, all kernels compile again.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy
from numba.core import config as numba_config

F = TypeVar("F", bound=Callable[..., object])

_ROOT = Path(__file__).resolve().parent.parent


def _code_hash() -> str:
    digest = hashlib.sha256(f"numba {numba.__version__} numpy {numpy.__version__}".encode())
    for package in ("operators", "schemas", "flows/auditor", "flows/simulation"):
        for path in sorted((_ROOT / package).rglob("*.py")):
            digest.update(str(path.relative_to(_ROOT)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


CODE_HASH = _code_hash()
"""Identity of the kernels' sources; snapshots carry it."""

_cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sluice" / f"kernels-{CODE_HASH}"
if os.environ.get("NUMBA_BOUNDSCHECK"):
    _cache = _cache.with_name(_cache.name + "-bounds")  # another flag that numba's cache does not notice
if "NUMBA_CACHE_DIR" not in os.environ:
    vars(numba_config)["CACHE_DIR"] = str(_cache)

COLD = not Path(vars(numba_config)["CACHE_DIR"]).is_dir()
"""True where no kernel of these sources has been compiled on this machine before."""


_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}


def kernel(function: F) -> F:
    """Compile `function` on first use: no fastmath, no Python objects, the interpreter lock released.

    Kernels never allocate, so their arrays need no reference counting (`_nrt`), which costs more than a whole
    gate. And they pass the same dozen arrays from one small function to the next, so these are inlined:
    thirty times faster than calls.
    """
    compile_: Any = numba.njit(**_OPTIONS, forceinline=True)  # type: ignore[call-overload]
    compiled: F = compile_(function)
    return compiled


def routine(function: F) -> F:
    """The same, but called: for what happens once an order or a session, not once a bar. A call costs about
    a tenth of a microsecond; inlining these at every place would make code that takes minutes to compile.
    """
    compile_: Any = numba.njit(**_OPTIONS)  # type: ignore[call-overload]
    compiled: F = compile_(function)
    return compiled
