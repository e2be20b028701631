from . import connection as connection
from . import executor as executor
from . import launch as launch
from . import remote as remote
from . import slurm as slurm
