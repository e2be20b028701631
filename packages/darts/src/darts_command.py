"""The entry point of the `darts` command, outside the package `darts`, whose name a time-series library shares."""
