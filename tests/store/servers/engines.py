"""One database server each of PostgreSQL, MariaDB and a Galera cluster, as tests use them."""

import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pymysql

from tests.ports import free_port

from .programs import PASSWORD, QUOTED, Server, find, own_folder, run

USER = "meterd"
NODES = 3


class Engine(Protocol):
    """A server, or several, on which every test has databases of its own."""

    kind: str
    servers: Sequence[Server]

    def urls(self, name: str) -> list[str]:
        """The nodes' URLs of a database; it is made when it is not there."""

    def ask(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """As the administrator."""

    def await_up(self) -> None:
        """Until every node answers."""


def database_of(path: Path) -> str:
    """The name of the database that stands for a file."""
    return "m" + hashlib.sha256(str(path).encode()).hexdigest()[:20]


class Sqlite:
    """The embedded one, as those that are compared with it."""

    kind = "sqlite"
    servers: Sequence[Server] = ()

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def urls(self, name: str) -> list[str]:
        return [f"sqlite:///{self._folder}/{name}.db"]

    def ask(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self._folder / f"{database}.db")
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.commit()
            connection.close()

    def await_up(self) -> None:
        """It is a file."""


class Postgres:
    """PostgreSQL. It does not wait for the disk: a killed server loses nothing by that."""

    kind = "postgresql"

    def __init__(self, folder: Path) -> None:
        data = folder / "data"
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        cluster = ["-D", str(data), "-U", "postgres", "-A", "scram-sha-256", "--no-sync"]
        run([find("initdb"), *cluster, f"--pwfile={secret}", "-E", "UTF8", "--no-locale"])
        port = free_port()
        places = ["-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder)]
        quick = ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=60"]
        self.server = Server(folder, [find("postgres"), *quick, *places], port)
        self.servers: Sequence[Server] = [self.server]
        self._made: set[str] = set()
        self.server.start()
        self.await_up()
        self.ask(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")

    def urls(self, name: str) -> list[str]:
        if name not in self._made:
            self._made.add(name)
            self.ask(f"CREATE DATABASE {name} OWNER {USER}")
        return [f"postgresql://{USER}:{QUOTED}@127.0.0.1:{self.server.port}/{name}"]

    def ask(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        with self._connect(database or "postgres") as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def await_up(self) -> None:
        _until(lambda: self.ask("SELECT 1"), psycopg.OperationalError)

    def _connect(self, database: str) -> "psycopg.Connection[Any]":
        return psycopg.connect(
            host="127.0.0.1",
            port=self.server.port,
            user="postgres",
            password=PASSWORD,
            dbname=database,
            autocommit=True,
        )


class Maria:
    """MariaDB, or with more than one node a Galera cluster."""

    def __init__(self, folder: Path, nodes: int = 1) -> None:
        self.kind = "mariadb" if nodes == 1 else "galera"
        self._made: set[str] = set()
        ports = [(free_port(), free_port(), free_port(), free_port()) for _ in range(nodes)]
        self._ports = ports
        self.servers: Sequence[Server] = [
            _mariadb(folder / str(number), ports, number) for number in range(nodes)
        ]
        for number, server in enumerate(self.servers):
            server.launch(*(["--wsrep-new-cluster"] if nodes > 1 and number == 0 else []))
            # One after another: each is given the data of those before it.
            self._await_node(server)
        self.ask(f"CREATE USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")

    def urls(self, name: str) -> list[str]:
        if name not in self._made:
            self._made.add(name)
            # As Debian's servers make it when nothing else is said, and worse.
            self.ask(f"CREATE DATABASE {name} CHARACTER SET latin1")
            self.ask(f"GRANT ALL ON {name}.* TO '{USER}'@'127.0.0.1'")
        return [
            f"mariadb://{USER}:{QUOTED}@127.0.0.1:{server.port}/{name}" for server in self.servers
        ]

    def ask(
        self, statement: str, database: str | None = None, node: int = 0
    ) -> list[tuple[Any, ...]]:
        connection = self._connect(self.servers[node], database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def await_up(self) -> None:
        for server in self.servers:
            self._await_node(server)

    def _await_node(self, server: Server) -> None:
        server.await_up()

        def answer() -> None:
            connection = self._connect(server, None)
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT count(*) FROM mysql.global_priv")
            finally:
                connection.close()

        _until(answer, pymysql.err.Error)

    def _connect(self, server: Server, database: str | None) -> "pymysql.Connection[Any]":
        return pymysql.connect(
            host="127.0.0.1",
            port=server.port,
            user="root",
            database=database,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=5,
        )


def _until(answer: Any, errors: type[Exception]) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            answer()
        except errors:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def _mariadb(folder: Path, ports: Sequence[tuple[int, ...]], number: int) -> Server:
    folder.mkdir()
    if os.getuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
    data, port = folder / "data", ports[number][0]
    install = ["--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"]
    run([find("mariadb-install-db"), *install, "--skip-test-db", "--skip-name-resolve"])
    options = [
        "--no-defaults",
        f"--datadir={data}",
        f"--port={port}",
        "--bind-address=127.0.0.1",
        f"--socket={folder}/socket",
        f"--pid-file={folder}/pid",
        "--skip-name-resolve",
        # What a commit wrote outlives the process; the disk is not waited for.
        "--innodb-flush-log-at-trx-commit=2",
        "--innodb-buffer-pool-size=64M",
        "--innodb-log-file-size=32M",
    ]
    if len(ports) > 1:
        options += _galera(folder, ports, number)
    return Server(folder, [find("mariadbd"), *options], port)


def _galera(folder: Path, ports: Sequence[tuple[int, ...]], number: int) -> list[str]:
    (_, group, incremental, full) = ports[number]
    others = ",".join(f"127.0.0.1:{one[1]}" for at, one in enumerate(ports) if at != number)
    provider = [
        f"gmcast.listen_addr=tcp://127.0.0.1:{group}",
        f"ist.recv_addr=127.0.0.1:{incremental}",
        "gcache.size=32M",
        "evs.keepalive_period=PT0.3S",
        "evs.suspect_timeout=PT2S",
        "evs.inactive_timeout=PT4S",
        "evs.inactive_check_period=PT0.5S",
        "pc.recovery=true",
    ]
    return [
        "--wsrep-on=ON",
        f"--wsrep-provider={_provider()}",
        f"--wsrep-provider-options={';'.join(provider)}",
        "--wsrep-cluster-name=meterd",
        f"--wsrep-cluster-address=gcomm://{others}",
        "--wsrep-node-address=127.0.0.1",
        f"--wsrep-node-incoming-address=127.0.0.1:{ports[number][0]}",
        f"--wsrep-node-name=node{number}",
        "--wsrep-sst-method=rsync",
        f"--wsrep-sst-receive-address=127.0.0.1:{full}",
        "--binlog-format=ROW",
        "--innodb-autoinc-lock-mode=2",
    ]


def _provider() -> str:
    (found, *_) = Path("/usr/lib").glob("**/libgalera_smm.so")
    return str(found)


@contextmanager
def postgres() -> Iterator[Postgres]:
    with own_folder() as folder:
        engine = Postgres(folder)
        try:
            yield engine
        finally:
            _end(engine)


@contextmanager
def maria(nodes: int = 1) -> Iterator[Maria]:
    with own_folder() as folder:
        engine = Maria(folder, nodes)
        try:
            yield engine
        finally:
            _end(engine)


def _end(engine: Engine) -> None:
    for server in engine.servers:
        with suppress(OSError):
            server.kill()
