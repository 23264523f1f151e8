"""What shstk costs: `python -m benchmarks` in a checkout (README.md, CONTRIBUTING.md)."""

import sys
from pathlib import Path

# `-m` puts the checkout before the installed package, of which it has only a folder.
ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [place for place in sys.path if Path(place).resolve() != ROOT]
