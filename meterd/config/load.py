"""Loads meterd.yaml: finds the file, parses and validates it, and reports all problems at once."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
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
from meterd.errors import ConfigError, Problem

PATH_VARIABLE = "METERD_CONFIG"
DEFAULT_PATHS = (Path("meterd.yaml"), Path("/etc/meterd/meterd.yaml"))


def find(environ: Mapping[str, str], explicit: Path | None = None) -> Path:
    """The file to load: `explicit`, else $METERD_CONFIG, else the first of DEFAULT_PATHS there.

    Raises ConfigError that lists all of these where there is none.
    """
    if explicit is not None:
        return explicit
    if named := environ.get(PATH_VARIABLE):
        return Path(named)
    for file in DEFAULT_PATHS:
        if _exists(file):
            return file
    tried = (
        f"${PATH_VARIABLE} (not set), {', '.join(str(file.absolute()) for file in DEFAULT_PATHS)}"
    )
    raise ConfigError(
        f"no configuration file; looked at {tried}; hint: name one with -c FILE, "
        "or start without any: meterd demo"
    )


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """Settings, with the position of each in the file."""

    settings: Settings
    file: str
    root: Keys

    def place(self, *path: str) -> FilePosition:
        """The position of a key's value, or of a section's key; of an absent key, its section's.

        `path` is the path of keys, as in place("devices", "main", "unit").
        """
        spot = locate(self.root, path)
        return spot.key_place if isinstance(spot.node, Keys) else spot.node.place

    @contextmanager
    def placed_errors(self) -> Iterator[None]:
        """Gives a ConfigError that names its keys the position that they have in the file."""
        try:
            yield
        except ConfigError as error:
            if error.problems or not error.path:
                raise
            place = self.place(*error.path)
            code = Code.VALUE.value
            problem = Problem(self.file, place.line, place.column, code, str(error))
            raise ConfigError([problem]) from error


def load(
    path: Path,
    *,
    options_of: OptionsOf,
    driver_names: Collection[str],
    environ: Mapping[str, str],
) -> Settings:
    """The settings of the file. Raises ConfigError with all problems of the file."""
    loaded = load_with_positions(
        path, options_of=options_of, driver_names=driver_names, environ=environ
    )
    return loaded.settings


def load_with_positions(
    path: Path,
    *,
    options_of: OptionsOf,
    driver_names: Collection[str],
    environ: Mapping[str, str],
) -> LoadedConfig:
    """As `load()`, with the positions of keys and values."""
    problems = Problems(str(path))
    return parse_with_positions(
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
    """As `load()`, for a text; `name` is the file's name in problems.

    Relative paths in it (`*_file:`, a driver's own) start at `folder`, which validators of a
    driver's Options get as `info.context["folder"]`.
    """
    loaded = parse_with_positions(
        text,
        name,
        options_of=options_of,
        driver_names=driver_names,
        environ=environ,
        folder=folder,
    )
    return loaded.settings


def parse_with_positions(
    text: str,
    name: str,
    *,
    options_of: OptionsOf,
    driver_names: Collection[str],
    environ: Mapping[str, str],
    folder: Path = Path(),
) -> LoadedConfig:
    """As `parse()`, with the positions of keys and values."""
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
    return LoadedConfig(settings, name, filled)


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # It may exist (a folder without permission): reading it reports the reason.
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
        # by_name off: a rule's `for` is named `for_` in Python only.
        return Settings.model_validate(data, context=context, by_alias=True, by_name=False)
    except ValidationError as error:
        explain(error, root, problems)
    return None
