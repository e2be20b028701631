"""How large the blocks of ground are that intervals come from."""

from darts_evaluation.counts import BlockCounts
from darts_evaluation.intervals import FEWEST_BLOCKS
from darts_evaluation.neighbours import Neighbours, influence

_MOST_DOUBLINGS = 4


def enlarge(counts: BlockCounts, factor: int = 1, *, fixed: bool = False) -> tuple[int, bool]:
    """Double blocks as long as neighbours resemble one another in what they add to the F1 of pixels.

    Args:
        counts: What was counted, by the smallest blocks.
        factor: By how much these are enlarged at least.
        fixed: Whether that is the last word.

    Returns:
        By how much blocks are to be enlarged, such that 20 that hold something remain, and whether neighbours still
        resembled one another in the blocks as they were at first.
    """
    resembled = False
    for _ in range(_MOST_DOUBLINGS):
        filled = counts.merged(factor).non_empty()
        hits, alarms, misses = (filled.sums[name] for name in ("hit", "alarm", "miss"))
        if not Neighbours.of(filled.keys).resemble(influence(2 * hits, 2 * hits + alarms + misses)):
            break
        resembled = True
        if fixed or len(counts.merged(2 * factor).non_empty().keys) < FEWEST_BLOCKS:
            break
        factor *= 2
    return factor, resembled
