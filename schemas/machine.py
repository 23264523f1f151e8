"""What a recorded machine can be: values of the manifest's fields cpu, abi, enable_cfi, quantum."""

from typing import Final

CPUS: Final = ("rv64gc", "rv64gc_zicfiss", "rv64gc_zicfilp", "rv64gc_zicfiss_zicfilp")
ABIS: Final = ("merged", "own")  # prctl numbers: those of the merged kernel, or the revision's
CFI_MODES: Final = ("off", "auto", "on")  # whether the loader enables CFI for the program
QUANTUM: Final = (10_000, 50_000)  # instructions of a turn, both ends included, by default
