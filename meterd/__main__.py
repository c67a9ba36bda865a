"""`python -m meterd` is the `meterd` command."""

from meterd.cli.main import main

main()
