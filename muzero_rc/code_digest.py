"""Hashes of the code that decides an encode: of Python modules, and of the compiled extension.

What encodes are kept under must change with all that decides them, and with nothing else. So

- the modules are not listed but found: what the roots import, and what that imports. They are
  read as files, never imported;
- their hash is of the syntax tree. Comments, layout, docstrings, annotations, and the names
  of local variables and of private names that one module alone has do not count;
- the extension's hash is that of the file. It has libvpx, its patches, our C++ and the
  compiler's options in it, and no paths: builds of the same sources in several folders are equal
  byte for byte. A hash of sources would have to list what a build depends on.
"""

from __future__ import annotations

import ast
import builtins
import collections
import contextlib
import functools
import hashlib
import importlib.machinery
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import muzero_rc
from muzero_rc import disk_cache

__all__ = [
    "CODE_LIMIT_BYTES",
    "closure",
    "code_folder",
    "digest_of_code",
    "digest_of_extension",
    "digest_of_sources",
    "extension_path",
]

_PACKAGE = "muzero_rc"
_DIGITS = 12

CODE_LIMIT_BYTES = 16 * 2**20
"""Of the cached digests: a few kB for each installation."""

# Names with a meaning outside of the module: namedtuple's.
_NAMEDTUPLE = frozenset({"_asdict", "_field_defaults", "_fields", "_make", "_replace"})


def extension_path(folders: Sequence[Path] | None = None) -> Path:
    """The compiled extension's file.

    Args:
      folders: of the package; None for those of the running one.

    Raises:
      ImportError: there is none.
    """
    for folder in folders or _folders():
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            path = folder / "env" / "codec" / f"_native{suffix}"
            if path.is_file():
                return path
    raise ImportError("the encoder extension is not built: run make setup")


def digest_of_extension(*, folders: Sequence[Path] | None = None) -> str:
    """Hash of the compiled extension; of the running package it is computed once.

    Args:
      folders: of the package; None for those of the running one.

    Raises:
      ImportError: there is none.
    """
    return _own_extension() if folders is None else _sha256(extension_path(folders).read_bytes())


def code_folder() -> Path:
    """Where digests of code are cached."""
    return disk_cache.cache_root() / "code"


def digest_of_code(*roots: str, folders: Sequence[Path] | None = None) -> str:
    """Hash of modules and of all of the package that they import.

    Computed once by a process, and from files that have not changed since another process
    did, read from the cache on disk.

    Args:
      roots: names of modules.
      folders: of the package; None for those of the running one.

    Raises:
      ImportError: a root has no source.
    """
    return _own_code(roots) if folders is None else _cached_code(roots, folders)


def closure(*roots: str, folders: Sequence[Path] | None = None) -> dict[str, Path]:
    """Files of modules of the package and of all of it that they import, by module.

    Imports in functions count, those for type checkers do not.

    Args:
      roots: names of modules.
      folders: of the package; None for those of the running one.
    """
    return {name: module.path for name, module in _closure(roots, folders or _folders()).items()}


def digest_of_sources(sources: Mapping[str, str | bytes]) -> str:
    """Hash of what modules do.

    Args:
      sources: by name of the module.
    """
    return _digest({name: _parsed(source) for name, source in sources.items()})


def _digest(trees: Mapping[str, ast.Module]) -> str:
    names = {module: _Names(tree) for module, tree in trees.items()}
    # A private name that two modules have may be the same one: a method overridden elsewhere.
    modules = collections.Counter(word for found in names.values() for word in found.private)
    digest = hashlib.sha256()
    for module in sorted(trees):
        found = names[module]
        own = {word for word in found.defined - found.fixed if modules[word] == 1}
        writer = _Writer(own, found.outside)
        writer.write(trees[module])
        digest.update("\n".join([module, *writer.words]).encode())
    return digest.hexdigest()[:_DIGITS]


def _folders() -> list[Path]:
    """Where the package's modules lie; several in an editable installation."""
    return [Path(folder) for folder in muzero_rc.__path__]


@functools.cache
def _own_extension() -> str:
    return _sha256(extension_path().read_bytes())


@functools.cache
def _own_code(roots: tuple[str, ...]) -> str:
    return _cached_code(roots, _folders())


def _cached_code(roots: tuple[str, ...], folders: Sequence[Path]) -> str:
    """The digest from the cache on disk, if no file has changed since."""
    place = json.dumps([*roots, *map(str, folders), sys.version_info[:2], _hash_of_this()])
    path = code_folder() / f"{_sha256(place.encode())}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        known = json.loads(path.read_text())
        if all(_sha256(Path(f).read_bytes()) == h for f, h in known["files"].items()):
            return str(known["digest"])
    modules = _closure(roots, folders)
    digest = _digest({name: module.tree for name, module in modules.items()})
    hashes = {str(module.path): module.sha256 for module in modules.values()}
    # A cache that cannot be written costs time.
    with contextlib.suppress(OSError):
        _write(path, json.dumps({"digest": digest, "files": hashes}))
        disk_cache.trim(path.parent, CODE_LIMIT_BYTES, [path.stem])
    return digest


class _Module(NamedTuple):
    path: Path
    sha256: str
    tree: ast.Module


def _closure(roots: Sequence[str], folders: Sequence[Path]) -> dict[str, _Module]:
    found: dict[str, _Module] = {}
    seen: set[str] = set()
    ahead = list(roots)
    while ahead:
        name = ahead.pop()
        if name in seen:
            continue
        seen.add(name)
        path = _file(name, folders)
        if path is not None:
            source = path.read_bytes()
            found[name] = _Module(path, _sha256(source), _parsed(source))
            ahead += _imports(found[name].tree, name, path.stem == "__init__")
            ahead.append(name.rpartition(".")[0])
        elif name in roots:
            raise ImportError(f"{name} has no source here: install the package anew")
    return found


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    os.replace(file.name, path)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


@functools.cache
def _hash_of_this() -> str:
    return _sha256(Path(__file__).read_bytes())


def _file(name: str, folders: Sequence[Path]) -> Path | None:
    """The file of a module of the package; None if it is none."""
    package, *parts = name.split(".")
    if package != _PACKAGE:
        return None
    for folder in folders:
        for path in (folder.joinpath(*parts, "__init__.py"), folder.joinpath(*parts)):
            path = path if path.suffix == ".py" or not parts else path.with_suffix(".py")
            if path.is_file():
                return path
    return None


def _parsed(source: str | bytes) -> ast.Module:
    """The tree without what is for type checkers alone."""
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not _is_for_checkers(node)]
    return tree


def _is_for_checkers(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
        and not node.orelse
    )


def _imports(tree: ast.Module, name: str, is_package: bool) -> Iterator[str]:
    """What a module imports: modules, and names that may be modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = name.split(".")
                above = above[: len(above) - node.level + is_package]
                base = ".".join([*above, *filter(None, [node.module])])
            yield base
            for alias in node.names:
                yield f"{base}.{alias.name}"


def _is_private(word: str) -> bool:
    return word.startswith("_") and not word.endswith("_") and word not in _NAMEDTUPLE


class _Names:
    """Names of a module.

    Attributes:
      private: that it uses, strings that could be one included.
      defined: those of them that it defines.
      fixed: those that stand for something elsewhere: imported ones, and those in strings.
      outside: all names that are bound outside of functions, and Python's own.
    """

    def __init__(self, tree: ast.Module) -> None:
        words: set[str] = set()
        defined: set[str] = set()
        fixed: set[str] = set()
        node: Any
        for node in ast.walk(tree):
            kind = node.__class__
            if kind is ast.Name:
                words.add(node.id)
                if node.ctx.__class__ is ast.Store:
                    defined.add(node.id)
            elif kind is ast.Attribute:
                words.add(node.attr)
                if node.ctx.__class__ is ast.Store and getattr(node.value, "id", "") == "self":
                    defined.add(node.attr)
            elif kind is ast.arg:
                words.add(node.arg)
                defined.add(node.arg)
            elif kind in _DEFINITIONS:
                words.add(node.name)
                defined.add(node.name)
            elif kind is ast.Constant:
                if isinstance(node.value, str):
                    fixed.add(node.value)
            elif kind is ast.alias:
                fixed.update((node.name, node.asname or node.name))
            elif kind is ast.keyword:
                words.add(node.arg or "")
            elif kind in _RARE:
                fixed.update(_strings(node))
        self.private = {word for word in words | fixed if _is_private(word)}
        self.defined = {word for word in defined if _is_private(word)}
        self.fixed = fixed
        self.outside = _bound_outside(tree.body) | _BUILTINS


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef)
_RARE = (
    ast.Global, ast.Nonlocal, ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping,
    ast.MatchClass,
)  # fmt: skip
"""Other nodes with names; these stay as they are."""
_BUILTINS = frozenset(dir(builtins))
_NOT_WRITTEN = frozenset({"ctx", "kind", "type_comment", "type_ignores", "returns"})


def _strings(node: ast.AST) -> Iterator[str]:
    for _, value in ast.iter_fields(node):
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, str):
                yield part


class _Writer:
    """Writes a tree as words, without what does not count; numbers local and private names.

    Attributes:
      words: what was written.
    """

    def __init__(self, private: set[str], outside: Set[str]) -> None:
        self.words: list[str] = []
        self._private = private
        self._outside = outside
        self._numbers: dict[str, str] = {}
        self._locals: set[str] = set()
        self._local_numbers: dict[str, str] = {}

    def write(self, node: ast.AST) -> None:
        """Writes a node and what is in it."""
        kind = node.__class__
        if kind in _FUNCTIONS and not self._locals:
            self._locals = _locals(node) - self._outside - self._private
            self._local_numbers = {}
            self._fields(node)
            self._locals = set()
        elif kind is ast.Name:
            self.words.append(self._name(node.id, local=True))  # type: ignore[attr-defined]
        elif kind is ast.Constant:
            self.words.append(repr(node.value))  # type: ignore[attr-defined]
        else:
            self._fields(node)

    def _fields(self, node: ast.AST) -> None:
        words = self.words
        words.append(node.__class__.__name__)
        for field in node._fields:
            if field in _NOT_WRITTEN:
                continue
            value = getattr(node, field, None)
            if value is None:
                words.append("-")
            elif value.__class__ is str:
                words.append(self._name(value))
            elif value.__class__ is list:
                words.append("[")
                if field in _BODIES:
                    value = _bare(value, keep_annotations=node.__class__ is ast.ClassDef)
                for part in value:
                    if isinstance(part, ast.AST):
                        self.write(part)
                    else:
                        words.append(self._name(part) if isinstance(part, str) else repr(part))
                words.append("]")
            elif not isinstance(value, ast.AST):
                words.append(repr(value))
            elif field != "annotation" or node.__class__ is ast.AnnAssign:
                self.write(value)

    def _name(self, word: str, *, local: bool = False) -> str:
        """The name, or what no program has for one: its number by first place."""
        if word in self._private:
            return self._numbers.setdefault(word, f"<private {len(self._numbers)}>")
        if local and word in self._locals:
            return self._local_numbers.setdefault(word, f"<local {len(self._local_numbers)}>")
        return word


_BODIES = frozenset({"body", "orelse", "finalbody"})


def _bare(body: list[Any], *, keep_annotations: bool) -> Iterator[ast.AST]:
    """Statements without strings that nobody takes, and annotations that nobody reads.

    A class's may be read: they make the fields of a dataclass.
    """
    for node in body:
        kind = node.__class__
        if kind is ast.Pass or (
            kind is ast.Expr
            and node.value.__class__ is ast.Constant
            and isinstance(node.value.value, str)
        ):
            continue
        if kind is not ast.AnnAssign or keep_annotations:
            yield node
        elif node.value is not None:
            yield ast.Assign([node.target], node.value)


def _bound_outside(body: Iterable[ast.stmt]) -> set[str]:
    """Names of the module and of its classes."""
    names: set[str] = set()
    ahead: list[ast.AST] = list(body)
    while ahead:
        node = ahead.pop()
        if isinstance(node, _FUNCTIONS):
            names.add(node.name)
            continue
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        ahead += ast.iter_child_nodes(node)
    return names


def _locals(function: ast.AST) -> set[str]:
    """Variables of a function and of those within; no name that a caller could use."""
    bound: set[str] = set()
    fixed: set[str] = set()
    node: Any
    for node in ast.walk(function):
        kind = node.__class__
        if kind is ast.Name:
            if node.ctx.__class__ is ast.Store:
                bound.add(node.id)
        elif kind is ast.arg:
            fixed.add(node.arg)
        elif kind in _FUNCTIONS:
            fixed.add(node.name)
        elif kind is ast.ClassDef:
            fixed |= {node.name, *_bound_outside(node.body)}
        elif kind is ast.alias:
            fixed.add((node.asname or node.name).partition(".")[0])
        elif kind in _RARE:
            fixed.update(_strings(node))
    return bound - fixed
