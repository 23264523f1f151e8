"""Seeds for fuzz_core.cpp: python tests/hostile/core_seeds.py DIRECTORY

Random instructions of every extension, in loops, and pieces of the fixtures' text.
"""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

from elftools.elf.elffile import ELFFile

TESTS = Path(__file__).parents[1]
HEADER = 9  # of fuzz_core.cpp: flags, and what chooses registers
LOOPS = 200
PIECE = 256
PIECES = 8  # of each program


def main() -> None:
    sys.path.insert(0, str(TESTS / "core"))
    import random_text

    rng = random.Random(0)
    texts = [random_text.loop(rng, rng.randrange(1, 40)) for _ in range(LOOPS)]
    found = [struct.pack(f"<{len(words)}I", *words) for words in texts]
    for file in sorted((TESTS.parent / "fixtures/bin").glob("*.elf")):
        with file.open("rb") as opened:
            text = ELFFile(opened).get_section_by_name(".text").data()
        starts = [2 * rng.randrange(max(len(text) - PIECE, 2) // 2) for _ in range(PIECES)]
        found += [text[start : start + PIECE] for start in starts]
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(found):
        (directory / str(number)).write_bytes(rng.randbytes(HEADER) + data)


if __name__ == "__main__":
    main()
