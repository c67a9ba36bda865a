"""From meterd.yaml to Settings: finds the file, reads it, and tells all that is wrong with it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from meterd.config.codes import Code
from meterd.config.crosscheck import crosscheck
from meterd.config.driver_keys import OptionsOf, split_devices
from meterd.config.explain import explain, locate
from meterd.config.file_reading import check_printable, read
from meterd.config.interpolation import Interpolation
from meterd.config.problems import START, FilePosition, Problems
from meterd.config.settings import Settings
from meterd.config.yaml_tree import Items, Keys, compose, plain
from meterd.errors import ConfigError

VARIABLE = "METERD_CONFIG"
PLACES = (Path("meterd.yaml"), Path("/etc/meterd/meterd.yaml"))


def find(environ: Mapping[str, str], explicit: Path | None = None) -> Path:
    """The file to load: the one named, else $METERD_CONFIG, else the first place that has one.

    Raises ConfigError that names all places where none is found.
    """
    if explicit is not None:
        return explicit
    if named := environ.get(VARIABLE):
        return Path(named)
    for place in PLACES:
        if _exists(place):
            return place
    looked = f"${VARIABLE} (not set), {', '.join(str(place.absolute()) for place in PLACES)}"
    raise ConfigError(
        f"no configuration file; looked at {looked}; hint: name one with -c FILE, "
        "or start without any: meterd demo"
    )


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where in their file each of them stands."""

    settings: Settings
    file: str
    root: Keys

    def place(self, *path: str) -> FilePosition:
        """Of the value of a key, or of the key of a section; of what is not there, the section's.

        `path` leads there, as in place("devices", "main", "unit").
        """
        spot = locate(self.root, path)
        return spot.key_place if isinstance(spot.node, Keys) else spot.node.place


def load(
    path: Path,
    *,
    options_of: OptionsOf,
    driver_names: Collection[str],
    environ: Mapping[str, str],
) -> Settings:
    """The settings that the file holds. Raises ConfigError with every problem of the file."""
    found = load_placed(path, options_of=options_of, driver_names=driver_names, environ=environ)
    return found.settings


def load_placed(
    path: Path,
    *,
    options_of: OptionsOf,
    driver_names: Collection[str],
    environ: Mapping[str, str],
) -> Loaded:
    """As `load()`, and it can be asked where something stands."""
    problems = Problems(str(path))
    return parse_placed(
        read(path, problems),
        str(path),
        options_of=options_of,
        driver_names=driver_names,
        environ=environ,
        folder=path.parent,
    )


def parse(
    text: str,
    name: str,
    *,
    options_of: OptionsOf,
    driver_names: Collection[str],
    environ: Mapping[str, str],
    folder: Path = Path(),
) -> Settings:
    """As `load()`, for a text; `name` stands for the file in problems.

    Files that it names (`*_file:`, a driver's own) are looked for in `folder`; drivers find
    it as `info.context["folder"]` in the validators of their Options.
    """
    found = parse_placed(
        text,
        name,
        options_of=options_of,
        driver_names=driver_names,
        environ=environ,
        folder=folder,
    )
    return found.settings


def parse_placed(
    text: str,
    name: str,
    *,
    options_of: OptionsOf,
    driver_names: Collection[str],
    environ: Mapping[str, str],
    folder: Path = Path(),
) -> Loaded:
    """As `parse()`, and it can be asked where something stands."""
    problems = Problems(name)
    check_printable(text, problems)
    root = _mapping(text, problems)
    filled = Interpolation(environ, folder, problems).fill(root)
    crosscheck(filled, driver_names, problems)
    data = plain(filled)
    context = {"folder": folder}
    split_devices(filled, data, options_of, problems, context)
    settings = _settings(data, filled, problems, context)
    if problems or settings is None:
        raise problems.error()
    return Loaded(settings, name, filled)


def _exists(place: Path) -> bool:
    try:
        place.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # It may well be there: reading it will say why it cannot be had.
    return True


def _mapping(text: str, problems: Problems) -> Keys:
    root = compose(text, problems)
    if isinstance(root, Keys):
        return root
    hint = "the least is `devices:` with one device; see config/meterd.yaml"
    if root is None:
        problems.add(Code.EMPTY, START, "the file is empty", hint)
    elif isinstance(root, Items):
        what = "the file is a list, and a configuration is a mapping of keys and values"
        problems.add(Code.SHAPE, root.place, what, "begin with `devices:`, without a dash")
    else:
        what = "the file is a single value, and a configuration is a mapping of keys and values"
        problems.add(Code.SHAPE, root.place, what, hint)
    raise problems.error()


def _settings(
    data: dict[str, Any], root: Keys, problems: Problems, context: dict[str, Any]
) -> Settings | None:
    try:
        # by_name off: a rule's `for` is `for_` in code only.
        return Settings.model_validate(data, context=context, by_alias=True, by_name=False)
    except ValidationError as error:
        explain(error, root, problems)
    return None
