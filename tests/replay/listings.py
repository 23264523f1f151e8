"""A run that tests of replay share: a thread that is made, pushes, and ends."""

from __future__ import annotations

from dataclasses import replace

from shstk.listing import build_run
from shstk.replay.run import Run
from shstk.schemas.tables import TABLES

HEAD = """```run
kernel {kernel}
{extra}
S1 = 4M@0x7fff_f000_0000
S2 = 4M@0x7fff_e000_0000
TID = 0x7ff0_1000
THREAD = CLONE_VM|CLONE_THREAD|CLONE_SIGHAND|CLONE_CHILD_CLEARTID
0.1 t1 boot mm1
10  t1 prctl(PR_SET_SHADOW_STACK_STATUS, PR_SHADOW_STACK_ENABLE) = 0 ssp_exit=S1.top {{ map S1 ss }}
20  t1 sspush 0x10234
"""

WELL = """30  t1 clone(THREAD, child_tid_addr=TID) = 2 { map S2 ss; t2 created ssp=S2.top }
    t2 first_user
40  t2 sspush 0x10300
41  t2 sspopchk 0x10300
50  t2 exit(0) { exit_begin 0; unmap S2; clear_child_tid TID; futex_wake TID 1; mm_dropped 1 }
60  t1 sspopchk 0x10234
70  t1 exit_group(0) { exit_begin 0; unmap S1; mm_dropped 0 }
```"""

LEAK = WELL.replace("unmap S2; ", "")


def threaded(body: str = WELL, kernel: str = "7.2", extra: str = "") -> Run:
    return build_run(HEAD.format(kernel=kernel, extra=extra) + body)


def without(run: Run, *tables: str, **changed: object) -> Run:
    """The same run without some tables, or with fields of its manifest changed."""
    kept = {name: run.arrow(name) for name in TABLES if name not in tables}
    return Run.from_tables(replace(run.manifest, **changed), kept)  # type: ignore[arg-type]
