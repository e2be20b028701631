"""What of `darts_demo.auxiliary` is to be had from `darts.demo` as well; import it from `darts_demo`."""

from darts_demo.auxiliary import *  # noqa: F403
