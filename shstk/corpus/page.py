"""A campaign as one HTML page: the matrix of programs and kernels, and every cause."""

from __future__ import annotations

from importlib.resources import files

from shstk.corpus.compare import compare
from shstk.corpus.store import Store
from shstk.corpus.summary import matrix, to_json
from shstk.schemas.errors import UsageError
from shstk.schemas.version import VERSION


def page(store: Store, against: Store | None) -> str:
    """against: an earlier campaign; causes that it has not are marked as new. Raises UsageError
    without the package jinja2."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise UsageError(
            "a report needs the package jinja2", "pip install 'shstk[report]'"
        ) from None
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = (files("shstk") / "corpus" / "page.html.jinja").read_text(encoding="utf-8")
    new = {cause.id for cause in compare(against, store).new} if against else set()
    told = to_json(store)
    told["causes"].sort(key=lambda cause: cause["cause"] not in new)
    kernels, lines = matrix(store)
    return environment.from_string(source).render(
        told=told,
        new=new,
        against=against.where if against else None,
        kernels=kernels,
        lines=lines,
        version=VERSION,
    )
