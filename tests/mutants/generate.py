"""Mutants of every formula in a module, one change of one expression each, from its syntax tree.

What is changed: a sign, a term of a sum, a factor, a divisor, an exponent, a number, a transpose, a product by its
transpose, mean by sum, minimum by maximum, a function by its argument, a branch, the largest eigenvalue by the
smallest; and every number that ``bounds`` states is made 10 % too small (a lower bound: too large).
"""

from __future__ import annotations

import ast
import copy
import types
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from refimpl.objective import Movable
from tests.mutants.model import Mutant
from tests.mutants.patch import install, source_of

STRUCTURE = {"__post_init__", "n", "d", "lead", "leading", "space", "head"}  # shapes and sizes, no formulas
UNARY = {
    "exp",
    "log",
    "tanh",
    "sqrt",
    "sigmoid",
    "softplus",
    "logcosh",
    "abs",
    "softmax",
    "maximum",
    "clip",
    "max",
}
SWAPPED = {
    "matvec": "rmatvec",
    "rmatvec": "matvec",
    "mean": "sum",
    "max": "min",
    "min": "max",
    "maximum": "minimum",
    "softmax": "sigmoid",
}
FIRST_ONLY = {
    "reshape",
    "moveaxis",
    "broadcast",
    "broadcast_to",
    "sum",
    "mean",
    "softmax",
    "logsumexp",
    "take",
}
NO_REDUCTION = {"output", "_output"}  # a loss of the output: its mean is that of y given the scores
NO_FORMULA = {"zeros", "eye", "ones", "Indices", "indices", "replace", "range", "isinstance"}
FLIPPED: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Lt: ast.Gt,
    ast.Gt: ast.Lt,
    ast.LtE: ast.GtE,
    ast.GtE: ast.LtE,
}


@dataclass(frozen=True)
class Change:
    """``old`` becomes ``new`` in the definition ``qualname``; ``tree`` gives the whole module so changed."""

    qualname: str
    where: str  # qualname, and the inner functions down to the change
    old: str
    new: str
    module: types.ModuleType
    path: tuple[tuple[str, int | None], ...]
    node: ast.expr

    def tree(self) -> ast.Module:
        tree = ast.parse(source_of(self.module))
        *way, (field, index) = self.path
        parent: ast.AST = tree
        for name, i in way:
            parent = getattr(parent, name) if i is None else getattr(parent, name)[i]
        if index is None:
            setattr(parent, field, self.node)
        else:
            getattr(parent, field)[index] = self.node
        return ast.fix_missing_locations(tree)


Path = tuple[tuple[str, int | None], ...]


Judges = tuple[Callable[[], None], tuple[str, ...]]  # a check in this process, and tests for what it accepts


def mutants_of(
    module: types.ModuleType, judges: Callable[[Change], Judges], also: tuple[str, ...] = ()
) -> list[Mutant]:
    """Every change of the module's formulas as a mutant, with what judges it; arguments as for ``changes``."""
    short, times, found = module.__name__.rpartition(".")[2], Counter[str](), []
    for change in changes(module, also):
        name = f"{short}.{change.where}: {change.old} -> {change.new}"
        times[name] += 1
        if times[name] > 1:
            name += f" (#{times[name]})"
        found.append(_mutant(name, change, *judges(change)))
    return found


def _mutant(name: str, change: Change, judge: Callable[[], None], tests: tuple[str, ...]) -> Mutant:
    target = f"{change.module.__name__}:{change.qualname}"
    formula = f"{change.old} -> {change.new}"
    return Mutant(name, formula, target, lambda: install(target, change.tree()), tests, judge)


def changes(module: types.ModuleType, also: tuple[str, ...] = ()) -> list[Change]:
    """All changes of a module's formulas: methods of its movable classes and of ``also``, and the functions they use.

    ``also`` names classes, functions and tables of functions that hold formulas too.
    """
    tree = ast.parse(source_of(module))
    found: list[Change] = []
    seen: set[tuple[str, str]] = set()
    for qualname, path, statement in formulas(tree, module, also):
        for where, at, old, new in _in_definition(statement, qualname, path):
            key = (where + str(at), ast.dump(new))
            if key not in seen and ast.dump(old) != ast.dump(new):
                seen.add(key)
                found.append(Change(qualname, where, ast.unparse(old), ast.unparse(new), module, at, new))
    return found


def formulas(
    tree: ast.Module, module: types.ModuleType, also: tuple[str, ...] = ()
) -> Iterator[tuple[str, Path, ast.stmt]]:
    """(name, place, definition) of each method and constant of a class, and of what they use of the module."""
    top = {name: (i, s) for i, s in enumerate(tree.body) for name in _defined(s)}
    waiting: list[ast.AST] = [ast.Name(name) for name in also if name in top]
    for i, statement in enumerate(tree.body):
        if isinstance(statement, ast.ClassDef) and (
            statement.name in also or issubclass(getattr(module, statement.name), Movable)
        ):
            for j, member in enumerate(statement.body):
                names = _defined(member)
                if names and not set(names) & STRUCTURE:
                    yield f"{statement.name}.{names[0]}", (("body", i), ("body", j)), member
                    waiting.append(member)
    used: set[str] = set()
    while waiting:
        for node in ast.walk(waiting.pop()):
            if isinstance(node, ast.Name) and node.id in top and node.id not in used:
                used.add(node.id)
                i, statement = top[node.id]
                if not isinstance(statement, ast.ClassDef):
                    yield node.id, (("body", i),), statement
                    waiting.append(statement)


def _defined(s: ast.stmt) -> list[str]:
    if isinstance(s, ast.FunctionDef):
        return [s.name]
    if isinstance(s, ast.Assign):
        return [t.id for t in s.targets if isinstance(t, ast.Name)]
    if isinstance(s, ast.AnnAssign) and s.value is not None and isinstance(s.target, ast.Name):
        return [s.target.id]
    return []


Site = tuple[str, Path, ast.expr, ast.expr]


def _in_definition(s: ast.stmt, qualname: str, path: Path) -> Iterator[Site]:
    if isinstance(s, ast.FunctionDef):
        yield from _in_body(s.body, qualname, path, _returns_numbers(s))
    elif isinstance(s, ast.Assign | ast.AnnAssign) and isinstance(s.value, ast.expr) and _is_numeric(s.value):
        yield qualname, (*path, ("value", None)), s.value, _scaled(s.value, 0.9)


def _is_numeric(e: ast.expr) -> bool:
    return isinstance(e, ast.BinOp) or (
        isinstance(e, ast.Constant) and type(e.value) is float and e.value != 0
    )


def _returns_numbers(f: ast.FunctionDef) -> bool:
    return f.returns is not None and ast.unparse(f.returns) in {"Array", "float", "np.ndarray"}


def _in_body(
    body: list[ast.stmt], where: str, path: Path, numbers: bool, field: str = "body"
) -> Iterator[Site]:
    for i, s in enumerate(body):
        at: Path = (*path, (field, i))
        if isinstance(s, ast.FunctionDef):
            yield from _in_body(s.body, f"{where}.{s.name}", at, _returns_numbers(s))
        elif isinstance(s, ast.If):
            if not any(
                isinstance(x, ast.Raise) for x in s.body
            ):  # a refusal is judged by the tests of bad input
                yield from _in_expression(s.test, where, (*at, ("test", None)))
                yield from _in_body(s.body, where, at, numbers)
                yield from _in_body(s.orelse, where, at, numbers, "orelse")
        elif isinstance(s, ast.For):
            yield from _in_body(s.body, where, at, numbers)
        elif isinstance(s, ast.Expr) and isinstance(s.value, ast.Call):  # found.append(formula)
            yield from _in_expression(s.value, where, (*at, ("value", None)))
        elif isinstance(s, ast.Return) and s.value is not None:
            value: Path = (*at, ("value", None))
            if numbers and not isinstance(s.value, ast.UnaryOp) and not _is_zero(s.value):
                yield where, value, s.value, ast.UnaryOp(ast.USub(), s.value)
            if isinstance(s.value, ast.Tuple) and where.split(".")[-1].endswith(
                ("bounds", "between", "_scores")
            ):
                for j, e in enumerate(s.value.elts):
                    if _is_zero(e):
                        continue
                    yield where, (*value, ("elts", j)), e, _scaled(e, 0.9)
            yield from _in_expression(s.value, where, value)
        elif isinstance(s, ast.Assign | ast.AnnAssign | ast.AugAssign) and s.value is not None:
            yield from _in_expression(s.value, where, (*at, ("value", None)))


def _in_expression(e: ast.expr, where: str, path: Path) -> Iterator[Site]:
    """Changes of the expression itself, then of its parts."""
    for new in _changed(e):
        yield where, path, e, new
    if isinstance(e, ast.Call) and _called(e) in {"Bounds", "MapBounds"}:
        yield from _stated(e, where, path)
    if isinstance(e, ast.Call) and isinstance(e.func, ast.Attribute):  # x.max(): x may hold a formula
        yield from _in_expression(e.func.value, where, (*path, ("func", None), ("value", None)))
    for field, part in ast.iter_fields(e):
        parts = list(enumerate(part)) if isinstance(part, list) else [(None, part)]
        for i, child in parts:
            at: Path = (*path, (field, i))
            if isinstance(child, ast.keyword):
                child, at = child.value, (*at, ("value", None))
            if isinstance(child, ast.comprehension):
                continue
            if isinstance(child, ast.expr) and not _structural(e, field, i):
                yield from _in_expression(child, where, at)


def _stated(call: ast.Call, where: str, path: Path) -> Iterator[Site]:
    for i, k in enumerate(call.keywords):
        at: Path = (*path, ("keywords", i), ("value", None))
        if k.arg is not None and k.arg.endswith("_min"):
            yield where, at, k.value, _plus(k.value, 0.01)
        elif not _is_zero(k.value):
            yield where, at, k.value, _scaled(k.value, 0.9)
    for i, a in enumerate(call.args):
        yield where, (*path, ("args", i)), a, _scaled(a, 0.9)


def _structural(parent: ast.expr, field: str, i: int | None) -> bool:
    """Shapes, axes and indices are no formulas."""
    if isinstance(parent, ast.Subscript) and field == "slice":
        return True
    if not isinstance(parent, ast.Call):
        return False
    name = _called(parent)
    if field == "func":  # what a method is called on may be a formula; its name is changed with the call
        return True
    if name in NO_FORMULA:
        return True
    if (
        name == "Operator"
    ):  # backend, shape, apply, apply_T, lead, assemble: the functions are lambdas, if here
        index = i if field == "args" else None
        return index in (0, 1)
    if field == "keywords" and i is not None:
        return parent.keywords[i].arg in {"axis", "keepdims", "symmetric", "dtype"}
    return name in FIRST_ONLY and field == "args" and i != 0


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _changed(e: ast.expr) -> Iterator[ast.expr]:
    match e:
        case ast.BinOp(left, ast.Add() | ast.Sub() as op, right):
            if not (_is_zero(left) and isinstance(op, ast.Add)) and not _is_zero(right):
                yield ast.BinOp(left, FLIPPED[type(op)](), right)
            yield left
            yield right if isinstance(op, ast.Add) else ast.UnaryOp(ast.USub(), right)
        case ast.BinOp(ast.Constant(0), ast.Mult(), right):  # a zero of the right's shape
            yield right
        case ast.BinOp(left, ast.Mult(), right):
            yield left
            yield right
        case ast.BinOp(left, ast.Div() | ast.Pow(), _):
            yield left
        case ast.UnaryOp(ast.USub(), operand) if not isinstance(operand, ast.Constant):
            yield operand
        case ast.Compare(left, [op], [right]) if type(op) in FLIPPED:
            yield ast.Compare(left, [FLIPPED[type(op)]()], [right])
        case ast.IfExp(_, body, orelse):
            yield body
            yield orelse
        case ast.Attribute(value, "T"):
            yield value
        case ast.Attribute(value, "mean") if not _is_loss(
            value
        ):  # a reduction by another name: `mean = backend.mean`
            yield ast.Attribute(value, "sum", ast.Load())
        case ast.Call():
            yield from _changed_call(e)
        case ast.Subscript(ast.Call() as call, ast.Constant(0)) if "eigvals" in _called(call):
            yield ast.Subscript(call, ast.UnaryOp(ast.USub(), ast.Constant(1)), ast.Load())
        case ast.Subscript(ast.Call() as call, ast.UnaryOp(ast.USub(), ast.Constant(1))) if (
            "eigvals" in _called(call)
        ):
            yield ast.Subscript(call, ast.Constant(0), ast.Load())
    if isinstance(e, ast.BinOp) and not isinstance(e.op, ast.Pow):
        for side in ("left", "right"):
            number = getattr(e, side)
            if isinstance(number, ast.Constant) and type(number.value) in (int, float) and number.value:
                new = copy.copy(e)
                setattr(new, side, ast.Constant(number.value + 1))
                yield new


def _is_zero(e: ast.expr) -> bool:
    """An expression written to be zero, whose sign says nothing."""
    match e:
        case ast.Constant(0) | ast.BinOp(ast.Constant(0), ast.Mult(), _):
            return True
        case ast.Call(args=[*_, last]):
            return _called(e) == "zeros" or (_called(e) == "spread" and _is_zero(last))
    return False


def _is_loss(e: ast.expr) -> bool:
    return (e.attr if isinstance(e, ast.Attribute) else getattr(e, "id", "")) in NO_REDUCTION


def _changed_call(call: ast.Call) -> Iterator[ast.expr]:
    name = _called(call)
    if name == "mT" and call.args:
        yield call.args[0]
    if name in UNARY and call.args and not (name == "max" and len(call.args) > 1):
        yield call.args[0]
    named = isinstance(call.func, ast.Attribute) and not _is_loss(call.func.value)
    if name in SWAPPED and (named or name in {"min", "max"}):
        new = copy.copy(call)
        new.func = copy.copy(call.func)
        setattr(new.func, "attr" if isinstance(call.func, ast.Attribute) else "id", SWAPPED[name])
        yield new


def _scaled(e: ast.expr, factor: float) -> ast.expr:
    return ast.BinOp(ast.Constant(factor), ast.Mult(), e)


def _plus(e: ast.expr, amount: float) -> ast.expr:
    return ast.BinOp(e, ast.Add(), ast.Constant(amount))
