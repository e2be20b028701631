"""The session of a run: what computes probabilities, opened once in each process."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import darts_segmentation
from darts.errors import ConfigurationError
from darts.run.planning import RunContext
from darts.run.task import Pipeline
from darts_utils import ParameterError, usable_cpus

if TYPE_CHECKING:
    import xarray as xr

    from darts_segmentation import EnsembleV1


class Session(Protocol):
    """What computes probabilities, opened once per process."""

    @property
    def device(self) -> str:
        """Device that it computes on."""

    @property
    def precision(self) -> str:
        """Number format that it computes in."""

    def segment(self, tile: "xr.Dataset") -> "xr.Dataset":
        """Return the tile with ``probabilities``, as :meth:`darts_segmentation.EnsembleV1.segment_tile` does.

        Also with the layers of the members and of the classes that the context of the run names.
        """


OpenSession: TypeAlias = Callable[[Pipeline, RunContext], Session]
"""Opens a session in the process that calls it; can be pickled."""


@dataclass(frozen=True)
class NetworkSession:
    """An ensemble of networks on a device.

    Attributes:
        ensemble: The networks.
        pipeline: Says how they are run.
        precision: Number format that they compute in.
        keep_members: Whether the results of each member are asked for.
        keep_classes: Whether the probabilities of other classes than thaw slumps are asked for.
    """

    ensemble: "EnsembleV1"
    pipeline: Pipeline
    precision: str
    keep_members: bool
    keep_classes: bool = False

    @property
    def device(self) -> str:
        """See :attr:`Session.device`."""
        return str(self.ensemble.device)

    def segment(self, tile: "xr.Dataset") -> "xr.Dataset":
        """See :meth:`Session.segment`."""
        with self.ensemble.threads(self.pipeline.threads or usable_cpus()):
            return self.ensemble.segment_tile(
                tile,
                patch_size=self.pipeline.patch_size,
                overlap=self.pipeline.overlap,
                batch_size=self.pipeline.batch_size,
                reflection=self.pipeline.reflection,
                keep_inputs=self.keep_members,
                precision=self.precision,  # type: ignore[arg-type]
                tta=self.pipeline.tta,
                keep_classes=self.keep_classes,
            )


def open_session(pipeline: Pipeline, context: RunContext) -> Session:
    """Load the networks of a run.

    Raises:
        ConfigurationError: If a network cannot take patches of the size, or compute in the precision, asked for.
        ModelFileError: If a model is damaged.
        DeviceError: If a GPU was asked for and does not work.
    """
    if context.ensemble is not None:
        ensemble = darts_segmentation.EnsembleV1.from_file(context.ensemble, context.device, engine=pipeline.engine)
    else:
        ensemble = darts_segmentation.EnsembleV1(context.models, context.device, engine=pipeline.engine)
    try:
        ensemble.check_patch_size(pipeline.patch_size)
        precision = ensemble.number_format(pipeline.precision)
    except ParameterError as error:
        raise ConfigurationError(str(error)) from error
    return NetworkSession(ensemble, pipeline, precision, bool(context.subsets), bool(context.classes))
