"""A system call's error, as an exception."""

from __future__ import annotations

from shstk.schemas.uapi import ERRNO


class Errno(Exception):
    """`raise Errno("EINVAL")` ends a system call with -22. uapi.ERRNO has the names."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name
        self.number = ERRNO[name]
