"""Changing one function of a module that is already imported, everywhere it is used.

The module's source is changed and compiled, and the function's code object is exchanged in place: whoever
imported or inherited the function runs the new one. Only ever called in a process of its own.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import types
from pathlib import Path
from typing import Any

from tests.mutants.model import Unusable


def split(target: str) -> tuple[types.ModuleType, str]:
    """The module and the dotted name of "package.module:Class.method"."""
    module, _, qualname = target.partition(":")
    return importlib.import_module(module), qualname


@functools.cache
def source_of(module: types.ModuleType) -> str:
    """The module's text, read once."""
    assert module.__file__ is not None
    return Path(module.__file__).read_text(encoding="utf-8")


@functools.cache
def tree_of(module: types.ModuleType) -> ast.Module:
    """The module's syntax tree, parsed once: to be read, not changed."""
    return ast.parse(source_of(module))


def definition(tree: ast.Module, qualname: str) -> ast.stmt:
    """The statement that defines ``Class.method``, ``function``, ``CONSTANT`` or ``Class.constant``."""
    body: list[ast.stmt] = tree.body
    found: ast.stmt | None = None
    for name in qualname.split("."):
        found = next((s for s in body if name in _names(s)), None)
        if found is None:
            raise Unusable(f"no definition of {qualname}")
        body = getattr(found, "body", [])
    assert found is not None
    return found


def _names(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Assign):
        return {t.id for t in statement.targets if isinstance(t, ast.Name)}
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return {statement.target.id}
    return set()


def replaced(target: str, old: str, new: str) -> ast.Module:
    """The target's module with ``old`` replaced by ``new`` at its only occurrence in the definition's text."""
    module, qualname = split(target)
    text = source_of(module)
    where = definition(tree_of(module), qualname)
    lines = text.splitlines(keepends=True)
    assert where.end_lineno is not None
    inside = "".join(lines[where.lineno - 1 : where.end_lineno])
    if inside.count(old) != 1 or old == new:
        raise Unusable(f"{target}: {inside.count(old)} occurrences of {old!r}, of which 1 is needed")
    lines[where.lineno - 1 : where.end_lineno] = [inside.replace(old, new)]
    return ast.parse("".join(lines))


def install(target: str, tree: ast.Module) -> None:
    """Give the target, in this process, the definition that it has in ``tree``."""
    module, qualname = split(target)
    owner: Any = module
    *path, name = qualname.split(".")
    for step in path:
        owner = getattr(owner, step)
    changed = definition(tree, qualname)
    if isinstance(changed, ast.Assign | ast.AnnAssign):
        assert changed.value is not None
        value = compile(ast.Expression(changed.value), module.__file__ or "", "eval")
        found, held = eval(value, vars(module)), getattr(owner, name)
        if isinstance(held, dict):  # whoever imported the table has the same one
            held.clear()
            held.update(found)
        else:
            setattr(owner, name, found)
        return
    code = _code(compile(tree, module.__file__ or "", "exec"), qualname)
    held = vars(owner)[name]
    function = inspect.unwrap(_function(held))
    if code.co_freevars == function.__code__.co_freevars:
        function.__code__ = code
        return
    # a mutant that drops the only `super()` no longer closes over its class
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    closure = tuple(cells[free] for free in code.co_freevars)
    fresh = types.FunctionType(code, function.__globals__, name, function.__defaults__, closure)
    fresh.__kwdefaults__ = function.__kwdefaults__
    wrapped: Any = fresh if held is function else type(held)(fresh)
    if isinstance(wrapped, functools.cached_property):
        wrapped.__set_name__(owner, name)
    setattr(owner, name, wrapped)


def _function(held: Any) -> Any:
    if isinstance(held, property):
        return held.fget
    if isinstance(held, functools.cached_property):
        return held.func
    return held.__func__ if isinstance(held, staticmethod | classmethod) else held


def _code(outer: types.CodeType, qualname: str) -> types.CodeType:
    for const in outer.co_consts:
        if isinstance(const, types.CodeType):
            if const.co_qualname == qualname:
                return const
            if qualname.startswith(f"{const.co_qualname}."):
                return _code(const, qualname)
    raise Unusable(f"no code of {qualname}")
