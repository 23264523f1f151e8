"""Core dumps of riscv64 programs become runs of one moment."""
