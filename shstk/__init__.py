"""shstk: record RISC-V Linux programs under a chosen kernel revision and judge their shadow stacks.

    import shstk
    result = shstk.record("prog.elf", kernel="v3", out="prog.run")
    report = shstk.check("prog.run")
    run = shstk.open("prog.run"); run.table("clones"); shstk.query(run, "SELECT * FROM tasks")

The names below are loaded on first use, so `import shstk` is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shstk.api import (
        build,
        check,
        diff,
        execute,
        explain_fault,
        explore,
        export,
        import_core,
        import_ftrace,
        import_qemu,
        import_spike,
        import_strace,
        matrix,
        open,
        qemu_plugin,
        query,
        record,
        record_real_kernel,
        replay_run,
        replay_under,
        stacks,
        window,
        write_report,
        write_timeline,
    )

    __version__: str

__all__ = [
    "__version__",
    "build",
    "check",
    "diff",
    "execute",
    "explain_fault",
    "explore",
    "export",
    "import_core",
    "import_ftrace",
    "import_qemu",
    "import_spike",
    "import_strace",
    "matrix",
    "open",
    "qemu_plugin",
    "query",
    "record",
    "record_real_kernel",
    "replay_run",
    "replay_under",
    "stacks",
    "window",
    "write_report",
    "write_timeline",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from shstk.schemas.version import VERSION

        return VERSION
    if name in __all__:
        from shstk import api

        return getattr(api, name)
    raise AttributeError(f"module 'shstk' has no attribute {name!r}")
