"""The entry point of the `darts` command.

It lies outside the package `darts`, because a time-series library installs a package of that name too: whichever came
last overwrites the other, and this module is what is left to say so.
"""

import gc
import sys
from importlib.metadata import PackageNotFoundError, distribution

_OTHER_DISTRIBUTIONS = ("darts", "u8darts", "u8darts-all", "u8darts-notorch")


def main() -> None:
    """Run the `darts` command, or say which other library is in its way."""
    for name in _OTHER_DISTRIBUTIONS:
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        sys.exit(
            f"The time-series library {name} {found.version} is installed in this environment, and it uses the module "
            "name 'darts' too. Install darts-nextgen into an environment of its own: one of the two is broken here."
        )
    from darts.cli import run_command
    from darts.startup import pause_collection

    pause_collection()
    try:
        run_command()
    finally:
        # The process ends; a search through all that was imported would find nothing that matters. But triton, which
        # training brings with torch's compiler, lists on the terminal what of its own was not found.
        (gc.unfreeze if "triton" in sys.modules else gc.freeze)()
