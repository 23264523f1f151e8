"""Traces of ftrace: which probes to set, and a run from what they wrote (docs/real-kernel.md)."""
