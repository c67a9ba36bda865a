"""An alert rule as PromQL: what it would be in Prometheus, to be looked at and run.

{quantity: voltage.l1, device: main, above: 253}
meterd_voltage_volts{device="main", phase="l1"} > 253
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from meterd.alerts.rule import Rule
from meterd.api.promapi import names
from meterd.daemon import self_monitoring
from meterd.model.quantity import Kind, Quantity, describe, is_known

if TYPE_CHECKING:
    from meterd.daemon.site import Site

# What meterd watches of itself is no device's: it has metrics of other names.
_OWN: Mapping[str, str] = {
    self_monitoring.WRITABLE: "meterd_store_writable",
    "x.store.queued": "meterd_store_queued_samples",
    "x.store.dropped": "meterd_store_dropped_samples_total",
    "x.store.spooled": "meterd_store_spooled_samples",
    "x.store.set_aside": "meterd_store_files_set_aside_total",
}


def query(site: "Site", rule: Rule) -> str:
    """The rule's condition as PromQL, without its hold and clearing."""
    return f"{_selector(site, rule)} {_condition(rule)}"


def _condition(rule: Rule) -> str:
    pairs = (("==", rule.equals), (">", rule.above), ("<", rule.below))
    ((sign, limit),) = [(sign, limit) for sign, limit in pairs if limit is not None]
    return f"{sign} {repr(float(limit)).removesuffix('.0')}"


def _selector(site: "Site", rule: Rule) -> str:
    if rule.device == (self_monitoring.DEVICE,) and rule.quantity in _OWN:
        return _OWN[rule.quantity]
    quantity = quantity_of(rule.quantity, _unit(site, rule.quantity))
    labels = names.series_labels(quantity, "", {})
    matchers = [f'{name}="{value}"' for name, value in labels.items() if name != "device"]
    if not quantity.phase and is_known(f"{quantity.name}.l1"):
        # Without it, the total's name picks the phases as well.
        matchers.append('phase=""')
    if rule.device:
        is_one = len(rule.device) == 1
        matchers.append(f'device{"=" if is_one else "=~"}"{"|".join(rule.device)}"')
    inside = ", ".join(sorted(matchers))
    return names.metric_name(quantity) + (f"{{{inside}}}" if inside else "")


def _unit(site: "Site", quantity: str) -> str:
    """The unit in which a user's own quantity is polled; 1 while nobody has polled it."""
    for state in site.latest.states.values():
        for poll in (one.poll for one in state.parts):
            column = poll.layout.index.get(quantity)
            if column is not None:
                return poll.layout.units[column]
    return "1"


def quantity_of(name: str, unit: str) -> Quantity:
    return describe(name, unit) or Quantity(name, unit, Kind.GAUGE, "")
