"""The `darts` command: `app` is the tree of commands, and the module behind one of them loads when it is called."""

from . import cluster as cluster
from . import cubes as cubes
from . import datasets as datasets
from . import demo as demo
from . import environment as environment
from . import evaluation as evaluation
from . import exports as exports
from . import history as history
from . import logs as logs
from . import models as models
from . import quantisation as quantisation
from . import rounds as rounds
from . import training as training
from .app import run_command as run_command
