"""Checks that the first parameter of a handler takes what its decorator sends it."""

import inspect
from collections.abc import Iterable, Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from millstream.declare.contract import Contract
from millstream.errors import DeclarationError


def check_function(where: str, function: Any) -> None:
    """Raises `DeclarationError` for what is called in another way than a handler is: in order, and once."""
    if not inspect.isfunction(function):
        raise DeclarationError(f"{where}: {function!r} is no function: write a handler with `def`")
    if inspect.isasyncgenfunction(function):
        raise DeclarationError(
            f"{where} is an async generator, which yields outcomes before its call is done: return them, as a list"
        )
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise DeclarationError(
                f"{where}: parameter {parameter} cannot be filled: a handler's parameters are given by their place. "
                "Drop the `*`"
            )


def check_returns(where: str, hints: dict[str, Any], example: str) -> None:
    """Raises `DeclarationError` for a function without a return annotation, which is what it publishes."""
    if "return" not in hints:
        raise DeclarationError(
            f"{where} has no return annotation, and that says what it publishes: write {example}, or -> None where it "
            "publishes nothing"
        )


def check_takes(where: str, consumes: Iterable[type[Contract]], annotation: Any) -> None:
    """Raises `DeclarationError` where an annotation does not take a class that is sent, or names one that is not."""
    if annotation is None:
        return
    consumes = tuple(consumes)
    taken = [_class_of(part) for part in _alternatives(annotation)]
    if any(part in (Any, object) or getattr(part, "_is_protocol", False) for part in taken):
        return
    classes = [part for part in taken if isinstance(part, type)]
    for contract in consumes:
        if not any(issubclass(contract, part) for part in classes):
            raise DeclarationError(
                f"{where} is registered for {contract.__name__}, and its first parameter takes {_shown(taken)}: name "
                "the same classes in both places"
            )
    for part in classes:
        if issubclass(part, Contract) and not any(issubclass(contract, part) for contract in consumes):
            raise DeclarationError(
                f"{where} takes {part.__name__}, which it is not registered for, so it never comes: add it to the "
                "decorator, or drop it from the annotation"
            )


def _alternatives(annotation: Any) -> Iterator[Any]:
    annotation = getattr(annotation, "__value__", annotation)  # `type Change = …` of Python 3.12
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if isinstance(annotation, TypeVar):
        if annotation.__constraints__:
            for part in annotation.__constraints__:
                yield from _alternatives(part)
        else:
            yield from _alternatives(annotation.__bound__ or object)
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _alternatives(part)
    elif annotation not in (None, NoneType):
        yield annotation


def _class_of(part: Any) -> Any:
    return get_origin(part) or part


def _shown(parts: list[Any]) -> str:
    return " | ".join(part.__name__ if isinstance(part, type) else str(part) for part in parts) or "nothing"
