"""Settings of the recorded machine: values of fields of the manifest."""

from typing import Final

ABIS: Final = ("merged", "own")  # prctl numbers: those of the merged kernel, or the revision's
CFI_MODES: Final = ("off", "auto", "on")  # whether the loader enables CFI for the program
QUANTUM: Final = (10_000, 50_000)  # default time slice in instructions, inclusive
# Virtual time that a system call takes, about what it takes on the host: a program that polls for a
# second runs for a second or two.
CALL_NS: Final = 10_000
