"""Lookups of devices, quantities and rules, with the refusal for unknown ones."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from meterd.api.problem import unknown
from meterd.model.quantity import CATALOGUE, is_known

if TYPE_CHECKING:
    from meterd.daemon.site import Site


def measured(site: "Site") -> set[str]:
    """Every quantity of every device's newest polls."""
    names: set[str] = set()
    for state in site.latest.states.values():
        for poll in (state.last, *(part.poll for part in state.parts)):
            if poll is not None:
                names.update(poll.layout.quantities)
    return names


def need_devices(asked: Iterable[str], known: Iterable[str], site: "Site | None" = None) -> None:
    """Raises ApiRefusal for an unknown device; with the new name where it was renamed."""
    names = set(known)
    for name in asked:
        if name not in names:
            refusal = unknown("device", name, names, parameter="device")
            if (now := former(site).get(name)) is not None:
                refusal.hint = f"it was renamed: it is called {now} now"
            raise refusal


def former(site: "Site | None") -> Mapping[str, str]:
    """Names that devices had before they were renamed -> the names they have now."""
    return {} if site is None else site.former


def need_rule(asked: str, known: Iterable[str]) -> None:
    """Raises ApiRefusal for an unknown rule."""
    names = set(known)
    if asked not in names:
        raise unknown("rule", asked, names, parameter="rule")


def need_quantities(asked: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a quantity that neither this site nor the catalogue knows."""
    names = set(known)
    for name in asked:
        if name not in names and not is_known(name):
            raise unknown("quantity", name, names, near=CATALOGUE, parameter="quantity")


def ids(site: "Site") -> Sequence[str]:
    """The configured devices."""
    return [device.id for device in site.devices()]
