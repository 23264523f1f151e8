"""gdb's remote serial protocol over a recording: forwards, backwards, and never a write."""
