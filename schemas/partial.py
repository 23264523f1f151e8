"""The directory of a run that is being recorded."""

from typing import Final

PARTIAL: Final = ".partial"  # follows the name of the run
