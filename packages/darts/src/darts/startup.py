"""Spare the start-up of a command the search for cyclic garbage, of which imports leave hardly any."""

import gc

_paused: list[bool] = []


def pause_collection() -> None:
    """Stop collecting until :func:`resume_collection`; for a process of one's own, never for a host's."""
    if gc.isenabled():
        gc.disable()
        _paused.append(True)


def resume_collection() -> None:
    """Collect again, where :func:`pause_collection` stopped it, and leave alone what is there by now."""
    if _paused:
        _paused.clear()
        gc.freeze()
        gc.enable()
