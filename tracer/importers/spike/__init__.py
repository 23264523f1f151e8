"""Commit logs of Spike: what each hart executed, with its shadow-stack instructions as cfi rows."""
