"""The keys of a device that belong to its driver, checked by the driver's own model."""

from collections.abc import Callable
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError

from meterd.config.crosscheck import names_in, text_of
from meterd.config.explain import Spot, explain, unknown_key
from meterd.config.problems import Problems
from meterd.config.settings import DEVICE_KEYS
from meterd.config.yaml_tree import Keys, plain
from meterd.errors import ConfigError

OptionsOf: TypeAlias = Callable[[str], type[BaseModel] | None]
"""A driver's name to the model of its own keys; None where there is no such driver."""


def split_devices(
    root: Keys, data: dict[str, Any], options_of: OptionsOf, problems: Problems, context: Any
) -> None:
    """In `data`, leave each device its common keys, and put the driver's model in `options`."""
    for name, entry in names_in(root, "devices").items():
        if isinstance(node := entry.node, Keys):
            options = _options(root, name, node, options_of, problems, context)
            whole = data["devices"][name]
            common = {key: whole[key] for key in node.entries if key in DEVICE_KEYS}
            data["devices"][name] = common | {"options": options}


def _options(
    root: Keys, name: str, node: Keys, options_of: OptionsOf, problems: Problems, context: Any
) -> BaseModel | None:
    """The model's instance; None where there is no driver, or after a problem."""
    driver = text_of(node, "driver")
    if driver is None:
        return None
    path = ("devices", name)
    try:
        model = options_of(str(driver.value))
        if model is None:
            return None
        known = [field.alias or key for key, field in model.model_fields.items()]
        _check_common(str(driver.value), model, known)
        own = _own(model, known, node, path, problems)
        return model.model_validate(own, context=context)
    except ValidationError as error:
        explain(error, root, problems, path, _nested(model) if model else ())
    except ConfigError as error:
        # A driver that cannot be loaded, or a file of the user's that the driver read.
        problems.adopt(error, driver.place, ".".join(path))
    return None


def _check_common(driver: str, model: type[BaseModel], known: list[str]) -> None:
    """Raises ConfigError, for the driver's author, where a key would never reach the driver."""
    if common := sorted(DEVICE_KEYS.intersection(known)):
        who = f"driver {driver!r}: its Options ({model.__module__}.{model.__qualname__})"
        raise ConfigError(
            f"{who} have {', '.join(common)}, which every device has: rename it there"
        )


def _nested(model: type[BaseModel]) -> list[str]:
    """The keys of its sections: those of its own that are unknown are found before."""
    kinds = (field.annotation for field in model.model_fields.values())
    sections = (k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel))
    return [key for section in sections for key in section.model_fields]


def _own(
    model: type[BaseModel],
    known: list[str],
    node: Keys,
    path: tuple[str, ...],
    problems: Problems,
) -> dict[str, Any]:
    """The driver's keys; those it does not know are problems, whatever the model's `extra`."""
    takes_any = model.model_config.get("extra") == "allow"
    own: dict[str, Any] = {}
    for key, entry in node.entries.items():
        if key in DEVICE_KEYS:
            continue
        if takes_any or key in known:
            own[key] = plain(entry.node)
            continue
        spot = Spot((*path, key), entry.place, entry.node)
        unknown_key(problems, spot, [*known, *DEVICE_KEYS])
    return own
