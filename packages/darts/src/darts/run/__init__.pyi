"""A run: from a pipeline to tasks, from a task to a record, in one process or many."""

from .cancel import CancellationToken as CancellationToken
from .cancel import RunInterrupted as RunInterrupted
from .cancel import raising_on_signals as raising_on_signals
from .codes import code_of_failures as code_of_failures
from .codes import exit_code as exit_code
from .fetching import plan as plan
from .loop import run as run
from .planning import Plan as Plan
from .prepare import prepare_run as prepare_run
from .progress import heard as heard
from .progress import warnings_once as warnings_once
from .records import RunRecords as RunRecords
from .resume import Decision as Decision
from .shift_test import shift_test as shift_test
