"""The process of a command: the command's own, from its start to its end."""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn

_own = False
_code: int | None = None


def process_is_ours() -> None:
    """Say that this process ends with the command, so that the command may restrict it. To be
    called before anything registers what has to be done at exit."""
    global _own
    _own = True
    atexit.register(_leave)


def is_ours() -> bool:
    return _own


def end(code: int) -> NoReturn:
    global _code
    _code = code
    sys.exit(code)


def _leave() -> None:
    """The last function that is called at exit, being the first that was registered. What Python
    would do now is to take its objects apart one by one, a tenth of the time of a short command."""
    if _code is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_code)
