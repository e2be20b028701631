"""Choose images by name: two fields that PlanetScope has, and any source of one's own may have."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import BeforeValidator

from darts.errors import ConfigurationError, IgnoredOptionWarning
from darts.pipelines.options import AbsolutePath, option
from darts.pipelines.scene_lists import read_scene_list
from darts.pipelines.sequential_v2.fields import as_list
from darts.run import checks


@dataclass
class ImageSelection:
    """Fields that name the images to process, for pipelines that find more; a base class before that of the pipeline.

    Examples:
        >>> from darts.pipelines.sequential_v2 import _BasePipeline
        >>> class LandsatPipeline(ImageSelection, _BasePipeline): ...
    """

    _image_lists: ClassVar[tuple[str, ...]] = ("image_ids", "image_list")

    image_ids: Annotated[list[str] | None, BeforeValidator(as_list)] = option(
        None, help="Names of the scenes (or orthotile scenes) to process; default all."
    )
    image_list: AbsolutePath | None = option(
        None, help="File with names of scenes, JSON or one per line, as for image_ids."
    )

    def select_images(self, found: Sequence[str]) -> list[str]:
        """Keep what was asked for.

        Args:
            found: Names of the images that there are.

        Returns:
            Those that `image_ids` or the file `image_list` name, in their order; all where neither is given.

        Raises:
            ConfigurationError: If one asked for does not exist (the message suggests the nearest), or the file cannot
                be read or names none.

        Warns:
            IgnoredOptionWarning: If both are given; `image_ids` counts.
        """
        return checks.select(self._names(), found)

    def _names(self) -> list[str] | None:
        if self.image_ids is not None and not self.image_ids:
            raise ConfigurationError("image_ids is empty; name at least one scene, or leave it out for all.")
        if self.image_list is None:
            return self.image_ids
        if self.image_ids is not None:
            message = "image_ids says which scenes to process; image_list is ignored."
            warnings.warn(message, IgnoredOptionWarning, stacklevel=3)
            return self.image_ids
        names = read_scene_list(self.image_list, "--image-list")
        if not names:
            raise ConfigurationError(f"{self.image_list} names no scene; correct --image-list.")
        return names
