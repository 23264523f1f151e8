"""What a recorded machine can be: values of the manifest's fields abi, enable_cfi, quantum."""

from typing import Final

ABIS: Final = ("merged", "own")  # prctl numbers: those of the merged kernel, or the revision's
CFI_MODES: Final = ("off", "auto", "on")  # whether the loader enables CFI for the program
QUANTUM: Final = (10_000, 50_000)  # instructions of a turn, both ends included, by default
