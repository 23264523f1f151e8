"""Saves a guest in the middle of its run as bytes, and restores it.

The executor saves its own state (`Machine.save`). The kernel model is plain data and is pickled.
Its objects refer to each other in long chains and cycles, so each object is pickled separately, and
a reference is pickled as a number. Objects of the process rather than the guest are not saved: the
recorder, the output function, the trees of files.

Bytes of another build, or damaged ones, are rejected. They are unpickled, so they must come from
this user's own cache, never from a run.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pyarrow as pa

from shstk.tracer._core import AddressSpace, Hart, Pages
from shstk.tracer.kernel.fs.inode import Regular
from shstk.tracer.rerun.user_cache import build

if TYPE_CHECKING:
    from shstk.tracer.guest import Guest
    from shstk.tracer.kernel.kernel import Kernel

_HEAD: Final = struct.Struct("<8s32sQQ")  # magic, seal, bytes of the model, bytes of the executor
_MAGIC: Final = b"shstkpt1"
_LEVEL: Final = 1  # of zstd
_OURS: Final = "shstk.tracer."
_DATA: Final = "shstk.schemas."
_PLAIN: Final = frozenset(
    {("collections", "deque"), ("collections", "OrderedDict"), ("random", "Random")}
)


_T = TypeVar("_T")


class NoCheckpoint(ValueError):
    """Not a checkpoint of this build."""


def save(guest: Guest) -> bytes:
    """The state of a guest between two slices (loop.advance, an alarm)."""
    out = io.BytesIO()
    pickler = _Pickler(out, guest.k)
    for number, item in pickler.all_objects():
        pickler.dump((number, _state(item)))
    model = out.getvalue()
    executor = guest.machine.save(pickler.spaces, pickler.harts, pickler.files)
    packed: bytes = pa.Codec("zstd", _LEVEL).compress(model + executor, asbytes=True)
    sizes = (len(model), len(executor))
    return _HEAD.pack(_MAGIC, _seal(packed, *sizes), *sizes) + packed


def restore(guest: Guest, data: bytes) -> None:
    """Restore the state of a saved guest into one that was just set up in the same way.

    Raises NoCheckpoint, without a change to the guest.
    """
    if len(data) < _HEAD.size:
        raise NoCheckpoint("too short")
    magic, seal, model_size, executor_size = _HEAD.unpack_from(data)
    packed = data[_HEAD.size :]
    if magic != _MAGIC or seal != _seal(packed, model_size, executor_size):
        raise NoCheckpoint("from another build, or damaged")
    size = model_size + executor_size
    both = pa.Codec("zstd").decompress(packed, size, asbytes=True)
    k = guest.k
    for mm in k.mms.values():  # free their frames, even if something still refers to them
        mm.space.unmap(0, 1 << 56)
    core = guest.machine.restore(both[model_size:])
    model = io.BytesIO(both[:model_size])
    unpickler = _Unpickler(model, k, *core)
    while model.tell() < model_size:
        number, state = unpickler.load()
        vars(unpickler.objects[number]).clear()
        vars(unpickler.objects[number]).update(state)
    for item in unpickler.objects.values():
        if isinstance(item, Regular) and isinstance(item.data, Pages):
            if item.began is None:
                item.began = item.read_again()
            item.data.attach(item.began)


def _seal(packed: bytes, *sizes: int) -> bytes:
    return hashlib.sha256(build() + struct.pack("<2Q", *sizes) + packed).digest()


def _state(item: object) -> dict[str, Any]:
    """The attributes to save. A Regular with an origin can read its contents again, so they are
    not saved."""
    state = dict(vars(item))
    if isinstance(item, Regular) and item.origin is not None:
        state["began"] = None
        if isinstance(item.data, bytes):
            state["data"] = None
    return state


def _outside(k: Kernel) -> dict[str, object]:
    """The objects that the model refers to but that are not part of the guest."""
    trees = {f"tree {i}": mount.tree for i, mount in enumerate(k.sandbox.mounts)}
    process = {"machine": k.machine, "recorder": k.rec, "stdout": k.stdout_write, "poll": k.poll}
    return {**process, **trees}


class _Pickler(pickle.Pickler):
    """Numbers the objects in the order of first reference; object 0 is the kernel."""

    def __init__(self, out: io.BytesIO, k: Kernel) -> None:
        super().__init__(out, protocol=5)
        self.spaces: list[AddressSpace] = []
        self.harts: list[Hart] = []
        self.files: list[Pages] = []
        self._objects: list[object] = [k]
        self._numbers: dict[int, int] = {id(k): 0}  # of objects, and of those of the core
        self._outside = {id(thing): name for name, thing in _outside(k).items()}

    def all_objects(self) -> Iterator[tuple[int, object]]:
        """All objects, including those first referenced while earlier ones are pickled."""
        done = 0
        while done < len(self._objects):
            yield done, self._objects[done]
            done += 1

    def persistent_id(self, item: object) -> tuple[Any, ...] | None:
        if (name := self._outside.get(id(item))) is not None:
            return (name,)
        if isinstance(item, AddressSpace):
            return ("space", self._number(item, self.spaces))
        if isinstance(item, Hart):
            return ("hart", self._number(item, self.harts))
        if isinstance(item, Pages):
            return ("file", self._number(item, self.files))
        cls = type(item)
        by_identity = cls.__eq__ is object.__eq__ and not issubclass(cls, Enum)
        if by_identity and cls.__module__.startswith(_OURS):
            return ("object", self._number(item, self._objects), cls)
        return None

    def _number(self, item: _T, known: list[_T]) -> int:
        number = self._numbers.setdefault(id(item), len(known))
        if number == len(known):
            known.append(item)
        return number


class _Unpickler(pickle.Unpickler):
    def __init__(
        self,
        source: io.BytesIO,
        k: Kernel,
        spaces: list[AddressSpace],
        harts: list[Hart],
        files: list[Pages],
    ) -> None:
        super().__init__(source)
        self.objects: dict[int, object] = {0: k}
        self._outside = _outside(k)
        self._core: dict[str, list[Any]] = {"space": spaces, "hart": harts, "file": files}

    def persistent_load(self, name: tuple[Any, ...]) -> object:
        kind, *which = name
        if kind in self._outside:
            return self._outside[kind]
        if kind in self._core:
            return self._core[kind][which[0]]
        number, cls = which
        if number not in self.objects:
            self.objects[number] = cls.__new__(cls)  # restored later
        return self.objects[number]

    def find_class(self, module: str, name: str) -> type:
        """Allow only classes of the model."""
        found = super().find_class(module, name)
        ours = (
            module.startswith((_OURS, _DATA))
            and isinstance(found, type)
            and found.__module__ == module
        )
        if not ours and (module, name) not in _PLAIN:
            raise pickle.UnpicklingError(f"{module}.{name} is not a class of the kernel model")
        assert isinstance(found, type)
        return found
