"""The `darts` command."""

from darts.cli.app import run_command

__all__ = ["run_command"]
