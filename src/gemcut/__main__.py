"""`python -m gemcut` is the `gemcut` command."""

from gemcut.cli import main

main()
