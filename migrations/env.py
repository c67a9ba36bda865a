"""Where alembic enters: runs on the connection and in the transaction that meterd hands it."""

from typing import Any

from alembic import context
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateTable


@compiles(CreateTable, "mariadb")
def _on_mariadb(element: CreateTable, compiler: Any, **options: Any) -> str:
    """MariaDB changes tables outside of transactions, so a step may have to be done again.

    Names that differ in case only, or in a space at their end, are different in meterd.
    """
    element.if_not_exists = True
    text = str(compiler.visit_create_table(element, **options)).rstrip()
    return f"{text} ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"


context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
