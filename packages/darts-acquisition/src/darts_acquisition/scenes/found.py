"""What both sources do with the names of scenes that a search found."""

from collections.abc import Iterable, Sequence

from darts_acquisition.errors import SceneNotFoundError


def check_all_found(scene_ids: Sequence[str], found: Iterable[str]) -> None:
    """Check that every scene was found.

    Args:
        scene_ids: Names asked for, as the source writes them.
        found: Names found.

    Raises:
        SceneNotFoundError: If one was not.
    """
    known = set(found)
    missing = [name for name in scene_ids if name not in known]
    if missing:
        raise SceneNotFoundError(
            f"{len(missing)} of {len(scene_ids)} scenes are not in the catalogue: {', '.join(missing[:5])}"
            f"{' …' if len(missing) > 5 else ''}. They may have been processed again and renamed; search by tile."
        )
