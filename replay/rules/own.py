"""Rules from outside: files that the user names, and entry points of the group shstk.rules.

Such a rule is a module like those of this folder, with two lines more: ID, and SEVERITY if it is
not an error. Its file's name is its slug.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from shstk.replay.rules import RULES, rule_of
from shstk.replay.rules.outcome import Finding, Outcome, Rule, Satisfied, Unknown
from shstk.schemas.errors import ShstkError
from shstk.schemas.selections import SELECTED, table_of
from shstk.schemas.tables import TABLES
from shstk.schemas.vocabulary import SEVERITIES

if TYPE_CHECKING:
    from shstk.replay.facts import Facts

GROUP: Final = "shstk.rules"
_HINT: Final = "docs/extending.md tells what a rule is"
_REQUIRED: Final = ("ID", "NEEDS", "APPLIES", "check")


class BadRule(ShstkError):
    """A rule from outside cannot be loaded, or raised; `what` names file and line."""


def catalogue(files: Iterable[Path] = ()) -> dict[str, Rule]:
    """The rules by id: those of shstk, those installed, those in files. Raises BadRule."""
    rules = dict(RULES)
    for module, where in _modules(files):
        rule = _rule(module, where)
        _only_one(rule, rules, where)
        rules[rule.id] = rule
    return rules


def _modules(files: Iterable[Path]) -> Iterator[tuple[ModuleType, str]]:
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        where = f"entry point {entry.name} = {entry.value}"
        yield _loaded(entry.load, where), where
    for path in dict.fromkeys(files):
        yield _loaded(partial(_of_file, path), str(path)), str(path)


def _of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise BadRule(f"{path}: no such file")
    name = f"shstk_rule_{path.stem}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadRule(f"{path} is no Python file", _HINT)
    module = module_from_spec(spec)
    sys.modules[name] = module  # pickle and dataclasses look it up there
    spec.loader.exec_module(module)
    return module


def _loaded(load: Callable[[], ModuleType], where: str) -> ModuleType:
    try:
        return load()
    except ShstkError:
        raise
    except SyntaxError as error:
        raise BadRule(f"{error.filename or where}:{error.lineno}: {error.msg}", _HINT) from error
    except Exception as error:
        raise BadRule(f"{_line(error, where)}: {type(error).__name__}: {error}", _HINT) from error


def _line(error: Exception, file: str) -> str:
    """The innermost line of a file that an error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file]
    return f"{file}:{own[-1].lineno}" if own else file


def _rule(module: ModuleType, where: str) -> Rule:
    if lacking := [name for name in _REQUIRED if not hasattr(module, name)]:
        raise BadRule(f"{where} has no {lacking[0]}", _HINT)
    slug = ((module.__file__ and Path(module.__file__).stem) or module.__name__).replace("_", "-")
    severity = getattr(module, "SEVERITY", "error")
    if severity not in SEVERITIES:
        raise BadRule(f"{where}: SEVERITY {severity!r} is none of {', '.join(SEVERITIES)}", _HINT)
    if not isinstance(module.ID, str) or not re.fullmatch(r"[A-Z]+\d+", module.ID):
        raise BadRule(f"{where}: ID {module.ID!r} is not letters and a number, such as ACME1")
    if not re.fullmatch(r"[a-z][a-z0-9-]*", slug):
        raise BadRule(f"{where}: {slug!r} is no name of a rule: small letters, digits and _")
    if not (module.__doc__ or "").strip():
        raise BadRule(f"{where} has no docstring, whose first line is the rule", _HINT)
    rule = rule_of(module, module.ID, slug, severity)
    for need in (*rule.needs, *rule.also):
        table, _, column = need.partition(".")
        if table not in SELECTED or (column and column not in TABLES[table_of(table)].names):
            raise BadRule(f"{where}: there is no {need!r}, which it needs", "docs/schema.md")
    file = module.__file__ or where
    return replace(rule, instances=Guarded(rule.id, file, module.check))


def _only_one(rule: Rule, rules: dict[str, Rule], where: str) -> None:
    """Its id, its family and its name are its own, so that ours can grow."""
    if rule.id in rules:
        raise BadRule(f"{where}: the id {rule.id} is that of {rules[rule.id].slug}")
    if rule.family in {ours.family for ours in RULES.values()}:
        raise BadRule(f"{where}: ids of the family {rule.family} are shstk's own", "choose another")
    if any(rule.slug == other.slug for other in rules.values()):
        raise BadRule(f"{where}: there is a rule {rule.slug} already")


@dataclass(frozen=True)
class Guarded:
    """A rule's check. What it raises, or yields amiss, is told with its file and line."""

    id: str
    file: str
    check: Callable[[Facts], Iterator[Outcome]]

    def __call__(self, facts: Facts) -> Iterator[Outcome]:
        try:
            for outcome in self.check(facts):
                if not isinstance(outcome, (Finding, Satisfied, Unknown)):
                    raise BadRule(f"{self.file}: {self.id} yields {outcome!r}: no outcome", _HINT)
                yield outcome
        except ShstkError:
            raise
        except Exception as error:
            where = _line(error, self.file)
            raise BadRule(f"{where}: {self.id} raised {type(error).__name__}: {error}") from error
