"""The parts: a module each, with a docstring that says what it measures, and `measure`."""
