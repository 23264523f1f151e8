"""What is rewritten in a query, and what is left alone."""

from __future__ import annotations

import pytest

from shstk.schemas.seq import pack
from shstk.sql import rewrite

SEQ = pack(1042, 3)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 0x10084", "SELECT 65668"),
        ("WHERE pc = 0xFFFF_FFFF_FFFF_F000", f"WHERE pc = {2**64 - 4096}"),
        ("WHERE seq >= 1042.3", f"WHERE seq >= {SEQ}"),
        ("WHERE 1042.3 < seq", f"WHERE {SEQ} < seq"),
        ("WHERE m.seq_end = 1042.3", f"WHERE m.seq_end = {SEQ}"),
        ('WHERE "during" IN (1042.3, 1.0)', f'WHERE "during" IN ({SEQ}, {pack(1, 0)})'),
        ("WHERE seq BETWEEN 1.0 AND 1042.3", f"WHERE seq BETWEEN {pack(1, 0)} AND {SEQ}"),
        # Not positions: numbers compared with anything else.
        ("WHERE share > 0.5 AND tid = 1", "WHERE share > 0.5 AND tid = 1"),
        ("SELECT high_water * 1.5 FROM t", "SELECT high_water * 1.5 FROM t"),
        # Not numbers at all.
        ("WHERE kind = '0x10' -- 0x20", "WHERE kind = '0x10' -- 0x20"),
        ('/* 0x10 */ SELECT "0x10"', '/* 0x10 */ SELECT "0x10"'),
        ("WHERE seq > 1.5.3", "WHERE seq > 1.5.3"),
    ],
)
def test_rewrite(sql: str, expected: str) -> None:
    assert rewrite(sql) == expected
