"""The names that a mistyped word may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], most: int = 3) -> str:
    """`did you mean this or that?`, or nothing. Upper and lower case are the same."""
    from difflib import get_close_matches  # loads slowly, and hardly any command needs it

    spelled = {name.lower(): name for name in known}
    close = [spelled[name] for name in get_close_matches(word.lower(), spelled, n=most)]
    return f"did you mean {' or '.join(close)}?" if close else ""
