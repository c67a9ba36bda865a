"""Driver packages that only some stores need, and the extras of meterd that install them."""

import sys
from dataclasses import dataclass
from importlib import import_module

from meterd.errors import StoreCode, StoreError


@dataclass(frozen=True, slots=True)
class DriverPackage:
    """The package that talks to one kind of server; `extra` is its name in pyproject.toml."""

    module: str
    package: str
    extra: str


# By the scheme of store.url, as SQLAlchemy calls the backend.
DRIVERS = {
    "postgresql": DriverPackage("psycopg", "psycopg", "postgres"),
    "mariadb": DriverPackage("pymysql", "PyMySQL", "mariadb"),
}


class MissingDriverError(StoreError):
    """The driver of a server cannot be imported; `todo` is the command that installs it."""

    def __init__(self, what: str, todo: str) -> None:
        super().__init__(f"{what}; install it: {todo}", code=StoreCode.UNAVAILABLE)
        self.what = what
        self.todo = todo


def install_command(extra: str) -> str:
    """What installs an extra into the environment that this meterd runs in."""
    return f"{sys.executable or 'python3'} -m pip install 'meterd[{extra}]'"


def need_driver(backend: str) -> None:
    """Imports the driver of a backend. Raises MissingDriverError; a file needs none."""
    driver = DRIVERS.get(backend)
    if driver is None:
        return
    try:
        import_module(driver.module)
    except ImportError as error:
        what = f"store.url is {backend}://, and its driver {driver.package} cannot be imported"
        # It may be there, and lack a library: psycopg without its binary part and without libpq.
        if not isinstance(error, ModuleNotFoundError) or error.name != driver.module:
            what += f" ({' '.join(str(error).split())})"
        raise MissingDriverError(what, install_command(driver.extra)) from error
