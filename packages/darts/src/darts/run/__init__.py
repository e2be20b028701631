"""A run: from a pipeline to tasks, from a task to a record, in one process or many."""

from darts.run.cancel import CancellationToken, RunInterrupted
from darts.run.codes import exit_code
from darts.run.loop import plan, run
from darts.run.planning import Plan
from darts.run.resume import Decision

__all__ = ["CancellationToken", "Decision", "Plan", "RunInterrupted", "exit_code", "plan", "run"]
