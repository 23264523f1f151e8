"""Where a store can be: a directory, or what pyarrow's file systems know by a URI."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import polars as pl
import pyarrow as pa
import pyarrow.fs as pafs

from shstk.schemas.errors import ShstkError, UsageError

_ATTEMPTS: Final = 8  # of a request to a bucket: half a minute, if nobody answers
_KNOWN: Final = ("region", "endpoint_override", "scheme")


def opened(where: str) -> tuple[pafs.FileSystem, str]:
    """The file system of a place, and the path in it. Raises UsageError."""
    try:
        if where.startswith("s3://"):
            return _bucket(where)
        if "://" in where:
            fs, path = pafs.FileSystem.from_uri(where)
            return fs, str(path)
    except (ValueError, OSError) as error:  # pyarrow's own errors are ValueErrors
        raise UsageError(f"{shown(where)}: {error}", "a directory, or s3://BUCKET/PATH") from None
    return pafs.LocalFileSystem(), str(Path(where).absolute())


def shown(where: str) -> str:
    """A place without a password."""
    return re.sub(r"(?<=://)[^/@]*@", "", where)


def told(error: Exception) -> str:
    """Why a file system refused, in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).partition(" (Request ID")[0]
    code = re.search(r"AWS Error (\w+)", text)
    return text.partition(" operation: ")[2] or (code[1] if code else text)


def _bucket(where: str) -> tuple[pafs.FileSystem, str]:
    """pyarrow's own reading of such a URI gives no way to say how often a request is repeated."""
    parts = urlsplit(where)
    options = dict(parse_qsl(parts.query))
    if wrong := [name for name in options if name not in _KNOWN]:
        raise ValueError(f"unknown {wrong[0]!r}, there are {', '.join(_KNOWN)}")
    if not parts.hostname:
        raise ValueError("it names no bucket")
    at_home = options.get("endpoint_override") or os.environ.get("AWS_ENDPOINT_URL")
    if "region" not in options and not at_home and not os.environ.get("AWS_REGION"):
        options["region"] = pafs.resolve_s3_region(parts.hostname)
    fs = pafs.S3FileSystem(
        access_key=unquote(parts.username) if parts.username else None,
        secret_key=unquote(parts.password) if parts.password else None,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        allow_delayed_open=True,  # a small file is one request
        **options,
    )
    return fs, f"{parts.hostname}/{parts.path.strip('/')}".rstrip("/")


# What a file system and the reading of its files raise.
UNREADABLE: Final = (OSError, pa.ArrowException)


def unreadable(error: Exception) -> ShstkError | None:
    """What a scan of a store raised, if it is that it cannot be read."""
    named = isinstance(error, OSError) and error.errno is not None
    if named or not isinstance(error, (*UNREADABLE, pl.exceptions.PolarsError)):
        return None
    what = " ".join(told(error).split())
    return ShstkError(f"the store cannot be read: {what}", "a file of it may be damaged")
