"""Where alembic enters: runs on the connection and in the transaction that meterd hands it."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
