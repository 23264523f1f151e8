"""An unpacked Debian riscv64 system, for the tests: fetched by apt into the user's cache, once.

`python tests/differential/riscv_root.py` prints where it is, and fetches it first if need be (60 MB
of packages); with `large` it is the one of the campaign (450 MB). The mirror is the one this
machine's apt is configured for; nothing of it is kept in the repository.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SUITE = "trixie"  # the first release with riscv64
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PACKAGES = [
    *("bash", "bc", "busybox-static", "bzip2", "coreutils", "dash", "diffutils", "file"),
    *("findutils", "gawk", "gdbserver", "git", "grep", "gzip", "jq", "libc-bin", "lua5.4", "m4"),
    *("make", "perl", "python3", "sed", "sqlite3", "strace", "tar", "xz-utils", "zstd"),
]
# What the campaign of guard.py runs besides.
LARGE = [
    *("binutils", "bsdextrautils", "brotli", "clisp", "cpio", "curl", "dc", "ed", "elfutils"),
    *("erlang-base", "expect", "figlet", "fish", "gcc", "gdb", "gfortran", "ghostscript"),
    *("gnuchess", "gnupg", "graphviz", "groff-base", "guile-3.0", "ksh93u+m", "libc6-dev"),
    *("libxml2-utils", "lsof", "ltrace", "luajit", "lz4", "mawk", "minisat", "nano"),
    *("ocaml-base", "ocaml-interp", "openssh-client", "openssl", "parallel", "pari-gp", "patch"),
    *("php-cli", "procps", "psmisc", "redis-server", "rsync", "ruby", "sbcl", "socat"),
    *("stress-ng", "swi-prolog-nox", "tcl", "tcsh", "tmux", "unzip", "util-linux", "vim-tiny"),
    *("xsltproc", "z3", "zip", "zsh"),
]
DIRECTORIES = (
    "etc/apt/apt.conf.d",
    "etc/apt/preferences.d",
    "etc/apt/sources.list.d",
    "var/cache/apt/archives/partial",
    "var/lib/apt/lists/partial",
    "var/lib/dpkg",
)


class NotToBeHad(Exception):
    """Why this machine can't fetch the packages."""


def cached(large: bool = False) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "shstk" / f"debian-{SUITE}-riscv64{'-large' if large else ''}"


def riscv_root(large: bool = False) -> Path:
    """The tree, fetched if it is not there yet. Raises NotToBeHad."""
    root = cached(large)
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent) as work:
            fetched = Path(work, "root")
            packages = [*PACKAGES, *LARGE] if large else PACKAGES
            _unpack(_download(Path(work, "apt"), packages), fetched)
            try:
                fetched.rename(root)
            except OSError:
                if not root.exists():  # else another process was faster
                    raise
    return root


def _download(apt: Path, packages: list[str]) -> list[Path]:
    """The packages and all they depend on, by an apt that has nothing installed."""
    if not shutil.which("apt-get") or not KEYRING.exists():
        raise NotToBeHad("this machine has no apt of Debian's")
    for name in DIRECTORIES:
        (apt / name).mkdir(parents=True)
    (apt / "var/lib/dpkg/status").touch()
    sources = apt / "etc/apt/sources.list.d/debian.sources"
    sources.write_text(
        f"Types: deb\nURIs: {_mirror()}\nSuites: {SUITE}\nComponents: main\n"
        f"Architectures: riscv64\nSigned-By: {KEYRING}\n"
    )
    config = apt / "apt.conf"
    config.write_text(
        f'Dir "{apt}";\nDir::State::status "{apt}/var/lib/dpkg/status";\n'
        'Dir::Bin::Methods "/usr/lib/apt/methods";\nAPT::Architecture "riscv64";\n'
        'APT::Architectures { "riscv64"; };\nAcquire::Languages "none";\n'
        'APT::Sandbox::User "root";\nAPT::Install-Recommends "false";\n'
    )
    _apt(config, "update")
    _apt(config, "install", "--yes", "--download-only", *packages)
    return sorted((apt / "var/cache/apt/archives").glob("*.deb"))


def _mirror() -> str:
    """Where this machine's own Debian comes from."""
    form = "$(RELEASE) $(SITE)"
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    for line in done.stdout.splitlines():
        release, site = line.split(" ", 1)
        if site.endswith("/debian") and "-" not in release:
            return site
    raise NotToBeHad("apt is configured for no Debian mirror")


def _apt(config: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", *arguments],
        env={**os.environ, "APT_CONFIG": str(config), "LC_ALL": "C"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise NotToBeHad(f"apt-get {arguments[0]}: {done.stderr.strip().splitlines()[-1:]}")


def _unpack(packages: list[Path], root: Path) -> None:
    root.mkdir()
    # base-files first: it has the links /bin -> usr/bin that the others rely on.
    for package in sorted(packages, key=lambda p: not p.name.startswith("base-files")):
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)


if __name__ == "__main__":
    print(riscv_root("large" in sys.argv))
