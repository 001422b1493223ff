"""Small faults, one at a time, in the source of a module: what a tired person might have written."""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
}
_TURNED = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """A module with one fault."""

    module: str
    line: int
    before: str
    after: str
    tree: ast.Module

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.before}  ->  {self.after}"


def mutants(module: str, source: str) -> list[Mutant]:
    """All that can be made of a module, in the order of its lines."""
    tree = ast.parse(source)
    found = []
    for place, node in enumerate(ast.walk(tree)):
        for change in _changes(node):
            twin = copy.deepcopy(tree)
            other = next(each for index, each in enumerate(ast.walk(twin)) if index == place)
            before = ast.unparse(_said(node))
            change(other)
            ast.fix_missing_locations(twin)
            found.append(Mutant(module, getattr(node, "lineno", 0), before, ast.unparse(_said(other)), twin))
    return sorted(found, key=lambda each: each.line)


def chosen(found: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """So many of them, the same ones for the same seed."""
    return sorted(random.Random(seed).sample(found, min(count, len(found))), key=lambda each: each.line)


def _said(node: ast.AST) -> ast.AST:
    """What of a node is shown."""
    return node.test if isinstance(node, ast.If | ast.While) else node


def _changes(node: ast.AST) -> Iterator[Callable[..., None]]:
    """What can be made of a node, each a function that changes its twin."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield _compare
    elif isinstance(node, ast.BoolOp):
        yield _bool
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield _not
    elif isinstance(node, ast.BinOp) and type(node.op) in _COUNTED and not _text(node):
        yield _count
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _TURNED:
        yield _turn
    elif isinstance(node, ast.If):
        yield _always
    elif (
        isinstance(node, ast.Return)
        and isinstance(node.value, ast.Constant)
        and type(node.value.value) is bool
    ):
        yield _flip
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield _drop
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
        yield _forget


def _compare(node: ast.Compare) -> None:
    node.ops = [_COMPARED[type(node.ops[0])]()]


def _bool(node: ast.BoolOp) -> None:
    node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()


def _not(node: ast.UnaryOp) -> None:
    node.operand = ast.UnaryOp(ast.Not(), node.operand)


def _count(node: ast.BinOp) -> None:
    node.op = _COUNTED[type(node.op)]()


def _turn(node: ast.Call) -> None:
    assert isinstance(node.func, ast.Name)
    node.func.id = _TURNED[node.func.id]


def _always(node: ast.If) -> None:
    node.test = ast.Constant(value=True)


def _flip(node: ast.Return) -> None:
    assert isinstance(node.value, ast.Constant)
    node.value.value = not node.value.value


def _drop(node: ast.Expr) -> None:
    node.value = ast.Constant(value=None)


def _forget(node: ast.Assign) -> None:
    node.value = node.targets[0]
    node.value = ast.parse(ast.unparse(node.targets[0]), mode="eval").body


def _text(node: ast.BinOp) -> bool:
    return any(
        isinstance(each, ast.JoinedStr | ast.Constant) and not _number(each) for each in ast.walk(node)
    )


def _number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)
