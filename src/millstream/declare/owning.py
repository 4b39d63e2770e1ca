"""Classes that one handler alone publishes, because what it keeps is what they add up to."""

from collections.abc import Iterable, Mapping

from millstream.declare.contract import Contract
from millstream.errors import DeclarationError


def check_owned(said: Mapping[str, Iterable[type[Contract]]], owned: Mapping[type[Contract], str]) -> None:
    """Raises `DeclarationError` for a class that is published by another place than the one that owns it.

    - `said`: as `Service.said` tells it.
    - `owned`: as `Service.owned` tells it.
    """
    for place, contracts in said.items():
        for contract in contracts:
            if (owner := owned.get(contract, place)) != place:
                raise DeclarationError(
                    f"{place} publishes {contract.__name__} past the state that {owner} keeps of it; "
                    "send the aggregate a command instead"
                )
