"""The `gemcut` command: one file per sub-command."""

from gemcut.cli.app import app, main

__all__ = ["app", "main"]
