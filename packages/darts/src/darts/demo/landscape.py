"""What of `darts_demo.landscape` is to be had from `darts.demo` as well; import it from `darts_demo`."""

from darts_demo.landscape import *  # noqa: F403
