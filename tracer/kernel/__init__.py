"""Linux on RISC-V in Python: what the executor's harts run under, one kernel revision at a time."""
