"""The driver's own keys of a device, validated by the driver's options model."""

from collections.abc import Callable
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError

from meterd.config.crosscheck import entries_at, text_at
from meterd.config.explain import Spot, explain, unknown_key
from meterd.config.problems import Problems
from meterd.config.yaml_tree import Keys, plain
from meterd.errors import ConfigError
from meterd.model.driver import DEVICE_KEYS

OptionsOf: TypeAlias = Callable[[str], type[BaseModel] | None]
"""From a driver's name to its options model; None where there is no such driver."""


def split_devices(
    root: Keys, data: dict[str, Any], options_of: OptionsOf, problems: Problems, context: Any
) -> None:
    """Replace each device in `data` by its common keys and an `options` model of the others."""
    for name, entry in entries_at(root, "devices").items():
        if isinstance(node := entry.node, Keys):
            options = _options(root, name, node, options_of, problems, context)
            values = data["devices"][name]
            common = {key: values[key] for key in node.entries if key in DEVICE_KEYS}
            data["devices"][name] = common | {"options": options}


def _options(
    root: Keys, name: str, node: Keys, options_of: OptionsOf, problems: Problems, context: Any
) -> BaseModel | None:
    """The validated options; None where there is no driver, or after a problem."""
    driver = text_at(node, "driver")
    if driver is None:
        return None
    path = ("devices", name)
    try:
        model = options_of(str(driver.value))
        if model is None:
            return None
        keys = [field.alias or key for key, field in model.model_fields.items()]
        options = _option_values(model, keys, node, path, problems)
        return model.model_validate(options, context=context)
    except ValidationError as error:
        explain(error, root, problems, path, _section_keys(model) if model else ())
    except ConfigError as error:
        # The driver cannot be imported, or a file that its options name (a map) is invalid.
        problems.adopt(error, driver.place, ".".join(path))
    return None


def _section_keys(model: type[BaseModel]) -> list[str]:
    """The keys of the model's nested sections, for hints; unknown keys of its own are already
    reported by `_option_values()`.
    """
    types = (field.annotation for field in model.model_fields.values())
    sections = (kind for kind in types if isinstance(kind, type) and issubclass(kind, BaseModel))
    return [key for section in sections for key in section.model_fields]


def _option_values(
    model: type[BaseModel],
    keys: list[str],
    node: Keys,
    path: tuple[str, ...],
    problems: Problems,
) -> dict[str, Any]:
    """The driver's keys and values. An unknown key is a problem unless `extra` is "allow"."""
    takes_any = model.model_config.get("extra") == "allow"
    options: dict[str, Any] = {}
    for key, entry in node.entries.items():
        if key in DEVICE_KEYS:
            continue
        if takes_any or key in keys:
            options[key] = plain(entry.node)
            continue
        spot = Spot((*path, key), entry.place, entry.node)
        unknown_key(problems, spot, [*keys, *DEVICE_KEYS])
    return options
