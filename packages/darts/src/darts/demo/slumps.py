"""What `darts_demo.slumps` holds, where it was before; to be removed after one release."""

from darts_demo.slumps import Slump as Slump
