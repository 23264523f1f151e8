"""A run as a timeline that one looks at: tracks of tasks and shadow stacks, for Perfetto."""
