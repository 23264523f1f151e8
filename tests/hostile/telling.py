"""What the campaigns of this folder print, and how they end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import NoReturn


def tell(failures: Iterable[str], what: str) -> NoReturn:
    """Print failures as they are found, then their number. what: was tried. Exit code 1 if any."""
    begun, count = time.monotonic(), 0
    for failure in failures:
        count += 1
        print(failure, flush=True)
    print(f"{what}, {count} failures, {time.monotonic() - begun:.0f} s")
    sys.exit(bool(count))
