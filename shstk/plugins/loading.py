"""Load the plugin of `--plugin`: a name, `module:Class` or `file.py:Class`, with arguments."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final, get_args, get_type_hints

from shstk.plugin import Plugin
from shstk.plugins import SHIPPED
from shstk.schemas.errors import BadPlugin, ShstkError, UsageError

_FORMS: Final = "NAME, module:Class or path/file.py:Class, then ,key=value for each argument"


def load(spec: str | Plugin) -> Plugin:
    """Create a plugin with the arguments of the spec; name=… names its table.

    Raises UsageError for an invalid spec or argument, BadPlugin for code that cannot be loaded or
    is not a plugin.
    """
    if isinstance(spec, Plugin):
        return spec
    target, *arguments = spec.split(",")
    cls = find(target)
    given = dict(_argument(text, spec) for text in arguments)
    name = given.pop("name", None)
    made = _make(cls, target, given)
    if name is not None:
        made.name = name
    return made


def find(target: str) -> type[Plugin]:
    """The class that a spec without its arguments names."""
    if ":" not in target:
        if target not in SHIPPED:
            raise UsageError(
                f"no plugin {target!r} comes with shstk",
                f"there are {', '.join(SHIPPED)}; your own: {_FORMS}",
            )
        target = f"shstk.plugins.{target}:{SHIPPED[target]}"
    where, _, class_name = target.rpartition(":")
    module = _guarded(where, lambda: _module(where))
    cls = getattr(module, class_name, None)
    if cls is None:
        named = [n for n, v in vars(module).items() if _is_plugin(v)]
        raise BadPlugin(
            f"{where} has no class {class_name}",
            f"its plugins: {', '.join(named)}" if named else "no plugin is defined there",
        )
    if not _is_plugin(cls):
        raise BadPlugin(
            f"{target} is not a plugin", "a plugin is a class derived from shstk.plugin.Plugin"
        )
    assert isinstance(cls, type)
    return cls


def arguments(cls: type[Plugin]) -> dict[str, inspect.Parameter]:
    """The arguments that a plugin takes."""
    if cls.__init__ is object.__init__:
        return {}
    return dict(inspect.signature(cls).parameters)


def _is_plugin(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Plugin) and value is not Plugin


def _argument(text: str, spec: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--plugin {spec}: {text!r} is not key=value", _FORMS)
    return key, value


def _module(where: str) -> ModuleType:
    if not where.endswith(".py"):
        if "" not in sys.path:
            sys.path.append("")  # the current folder, after everything installed
        return importlib.import_module(where)
    path = Path(where)
    if not path.is_file():
        raise BadPlugin(f"{where}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def _make(cls: type[Plugin], target: str, given: dict[str, str]) -> Plugin:
    known = arguments(cls)
    values = {}
    for key, text in given.items():
        if key not in known:
            names = ", ".join(known) or "only name"
            raise UsageError(f"plugin {target} has no argument {key}", f"it has {names}")
        values[key] = _value(cls, target, key, text)
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in given:
            raise UsageError(f"plugin {target} needs {name}=…", f"--plugin {target},{name}=…")
    made = _guarded(target, lambda: cls(**values))
    assert isinstance(made, Plugin)
    return made


def _value(cls: type[Plugin], target: str, key: str, text: str) -> Any:
    """The argument as the type its parameter is annotated with: str unless it is one of these."""
    hints = _guarded(target, lambda: get_type_hints(cls.__init__))
    annotated = hints.get(key, str)
    kinds = {annotated, *get_args(annotated)}  # X | None too
    kind = next((k for k in _CONVERTERS if k in kinds), str)
    try:
        return _CONVERTERS[kind](text) if kind is not str else text
    except ValueError:
        raise UsageError(f"plugin {target}: {key}={text} is not {kind.__name__}") from None


def _bool(text: str) -> bool:
    words = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


_CONVERTERS: Final[dict[type, Callable[[str], Any]]] = {
    bool: _bool,
    int: lambda text: int(text, 0),
    float: float,
    Path: Path,
}


def _guarded(what: str, make: Callable[[], Any]) -> Any:
    """Raise any exception of the plugin's own code as BadPlugin."""
    try:
        return make()
    except ShstkError:
        raise
    except (Exception, SystemExit) as error:
        place = f" ({error.filename}:{error.lineno})" if isinstance(error, SyntaxError) else ""
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        raise BadPlugin(
            f"plugin {what} cannot be loaded: {type(error).__name__}: {text}{place}",
            "`shstk --debug …` shows where",
        ) from error
