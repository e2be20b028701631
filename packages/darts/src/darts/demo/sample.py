"""What of `darts_demo.sample` is to be had from `darts.demo` as well; import it from `darts_demo`."""

from darts_demo.sample import *  # noqa: F403
