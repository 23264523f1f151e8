"""Texts of strace: the calls of a program and all tasks that it creates."""
