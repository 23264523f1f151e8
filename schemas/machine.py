"""Settings of the recorded machine: values of the manifest's fields abi, enable_cfi, quantum."""

from typing import Final

ABIS: Final = ("merged", "own")  # prctl numbers: those of the merged kernel, or the revision's
CFI_MODES: Final = ("off", "auto", "on")  # whether the loader enables CFI for the program
QUANTUM: Final = (10_000, 50_000)  # default time slice in instructions, inclusive
