"""What a dump shows of one moment: memory, call stacks, the two of a thread compared."""
