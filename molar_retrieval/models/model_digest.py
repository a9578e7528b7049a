"""The digest of a user's own model: it changes with the code and the attributes that the model's scores depend on.

Code is followed from the class through whatever it calls of the user's own modules; of libraries name and version
count. What cannot be read gives a new digest each time, so that such a model is computed again rather than answered
from a cache.
"""

import os
import pickle
import sys
import sysconfig
from collections.abc import Iterator
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from types import (
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), np.generic)
_LIBRARIES = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib"))
_MOLAR = {"molar", "molar_retrieval", "molar_indexes", "molar_eval", "molar_serving", "molar_cli"}
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement


def model_digest(model: Any) -> str:
    """The digest of a model that is not fitted yet (32 hex digits)."""
    digest = _Digest(type(model).__module__)
    try:
        digest.add(model)
    except Exception:  # whatever an object's own methods raise
        return os.urandom(16).hex()
    return digest.hexdigest()


class _Digest:
    """A hash that is fed with objects; one that was met before counts by its number."""

    def __init__(self, module: str) -> None:
        self._hash, self._root = blake2b(digest_size=16), _root(module)
        self._met: dict[int, tuple[int, Any]] = {}  # with the objects, so that no id is used again

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def add(self, value: Any) -> None:
        if isinstance(value, _PLAIN):
            self._feed(f"{type(value).__name__} {value!r}".encode())
        elif id(value) in self._met:
            self._feed(f"again {self._met[id(value)][0]}".encode())
        else:
            self._met[id(value)] = len(self._met), value
            self._feed(type(value).__qualname__.encode())
            for part in self._parts(value):
                if isinstance(part, bytes):
                    self._feed(part)
                else:
                    self.add(part)

    def _feed(self, data: bytes) -> None:
        self._hash.update(len(data).to_bytes(8, "little"))
        self._hash.update(data)

    def _parts(self, value: Any) -> Iterator[Any]:
        """What an object consists of: plain values, and objects that have parts again."""
        own = self._is_own(type(value).__module__) and not isinstance(value, type)
        if own:
            slots = [name for base in type(value).__mro__ for name in getattr(base, "__slots__", ())]
            yield from (type(value), {name: getattr(value, name) for name in slots if hasattr(value, name)})
            yield getattr(value, "__dict__", {})
        match value:
            case list() | tuple():
                yield from value
            case set() | frozenset():
                yield from sorted(value, key=repr)
            case dict() | MappingProxyType():
                yield from (part for pair in value.items() for part in pair)
            case np.ndarray() if not value.dtype.hasobject:
                yield from (str(value.dtype), value.shape, np.ascontiguousarray(value).tobytes())
            case ModuleType() | type() | FunctionType():
                yield from self._definition(value)
            case _ if (parts := _wrapped(value)) is not None:
                yield from parts
            case _ if not own:
                yield from (type(value), _pickled(value))

    def _definition(self, value: Any) -> Iterator[Any]:
        """Of a module, class or function of the user's its content, of another one its name and version."""
        module = value.__name__ if isinstance(value, ModuleType) else value.__module__
        made = not isinstance(value, type) or value.__flags__ & _HEAP_TYPE
        yield f"{module}.{getattr(value, '__qualname__', '')}"
        if not (made and self._is_own(module)):
            yield str(getattr(sys.modules.get(_root(module)), "__version__", None))
        elif isinstance(value, FunctionType):
            yield from (value.__code__, value.__defaults__, value.__kwdefaults__, value.__closure__)
            yield {name: value.__globals__[name] for name in _names(value.__code__) if name in value.__globals__}
        else:
            yield from getattr(value, "__bases__", ())
            yield {name: part for name, part in sorted(vars(value).items()) if _tells(name, part)}

    def _is_own(self, module: str) -> bool:
        """Whether a module is the user's: the model's own package or program, or one outside of all libraries."""
        root, file = _root(module), getattr(sys.modules.get(module), "__file__", None)
        if root in (self._root, "__main__"):
            return True
        if root in _MOLAR or file is None:
            return False
        path = Path(file).resolve()
        return not any(path.is_relative_to(folder) for folder in _LIBRARIES)


def _root(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _names(code: CodeType) -> list[str]:
    """All names that code and the functions inside of it ask for."""
    inner = [name for const in code.co_consts if isinstance(const, CodeType) for name in _names(const)]
    return sorted({*code.co_names, *inner})


def _tells(name: str, part: Any) -> bool:
    """Whether an attribute of a class or module says what is computed: special ones do where they are methods."""
    special = name.startswith("__") or name == "_abc_impl"
    return isinstance(part, FunctionType | classmethod | staticmethod | property) or not (
        special or isinstance(part, GetSetDescriptorType | MemberDescriptorType)
    )


def _wrapped(value: Any) -> tuple[Any, ...] | None:
    """What is inside of code, or of an object that stands for a function; None: the object is neither."""
    match value:
        case CodeType():
            return (value.co_code, value.co_names, value.co_consts)
        case MethodType():
            return (value.__func__, value.__self__)
        case staticmethod() | classmethod():
            return (value.__func__,)
        case property():
            return (value.fget, value.fset)
        case cached_property():
            return (value.func,)
        case partial():
            return (value.func, value.args, value.keywords)
        case CellType():
            return _content(value)
        case _ if isinstance(getattr(value, "__wrapped__", None), FunctionType):
            return (value.__wrapped__,)
    return None


def _content(cell: CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # nothing yet
        return ()


def _pickled(value: Any) -> bytes:
    """An object of a library; random bytes where it cannot be written down."""
    try:
        return pickle.dumps(value)
    except Exception:
        return os.urandom(16)
