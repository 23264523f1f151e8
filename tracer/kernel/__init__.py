"""A model of Linux on RISC-V, one kernel revision at a time, for the executor's harts."""
