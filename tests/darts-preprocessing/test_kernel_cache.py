"""Where the install code of the kernels is kept: processes of a user who may write little, and hostile folders."""

import json
import os
import stat
import tempfile
from pathlib import Path

import pytest

from darts_preprocessing.backends import kernel_cache
from support.locked_install import IS_ROOT, NAMELESS, NOBODY, locked_install

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs users as Unix has them")

# Computes NDVI twice; prints how much numba compiled meanwhile, and where the kernel is kept.
SCRIPT = """
import json
import numpy as np, xarray as xr
from numba.core import event
import darts_preprocessing as dp
ds = xr.Dataset({n: (("y", "x"), np.full((2, 2), v, "f4")) for n, v in (("nir", 0.75), ("red", 0.25))})
with event.install_recorder("numba:compile") as recorder:
    for _ in range(2):
        assert (dp.calculate_ndvi(ds).ndvi == 0.5).all()
from darts_preprocessing.features.ndvi import ndvi_rows
print(json.dumps([dp.__file__, len(recorder.buffer) // 2, ndvi_rows.compile().stats.cache_path]))
"""


@pytest.fixture
def install():
    with locked_install() as install:
        yield install


def run(install, **environment):
    """Return how many kernels were compiled, where they are kept, and what stands in the error stream."""
    printed, said = install.run(SCRIPT, **environment)
    loaded, compiled, kept = json.loads(printed)
    assert Path(loaded).is_relative_to(install.site)
    return compiled, kept and Path(kept), said


@pytest.mark.slow
def test_where_nothing_can_be_written_a_private_temporary_folder_keeps_the_kernels(install):
    """Without a home folder where the user can be one that has none, then with one that cannot be written."""
    compiled, kept, said = run(install, **({} if IS_ROOT else {"HOME": "/proc"}))
    (folder,) = install.temporary.iterdir()
    assert compiled == 1
    assert kept.parent == folder
    assert stat.S_IMODE(folder.lstat().st_mode) == 0o700
    assert len(list(kept.glob("*.nbc"))) == 1
    assert said.count("\n") == 1
    assert f"kept in {folder}" in said
    assert "NUMBA_CACHE_DIR" in said
    assert run(install, HOME="/proc") == (0, kept, "")


@pytest.mark.skipif(not IS_ROOT, reason="needs root, who can be a user that has no entry in the list of users")
@pytest.mark.slow
def test_a_user_without_a_home_leaves_nothing_in_the_current_folder(install):
    _, kept, said = run(install, user=NAMELESS)
    assert kept.parent == install.temporary / f"darts-kernels-{NAMELESS}"
    assert f"kept in {kept.parent}" in said
    assert list(install.current.iterdir()) == []


@pytest.mark.slow
def test_places_are_taken_in_their_order(install):
    """What the user says, else beside the package, else in the home folder, else among temporary files."""
    home, chosen = {"HOME": install.home}, install.home / "chosen"
    chosen.mkdir()
    chosen.chmod(0o777)
    compiled, kept, said = run(install, **home)
    assert (compiled, said) == (1, "")
    assert kept.is_relative_to(install.home)
    install.unlock()
    beside = install.site / "darts_preprocessing" / "features" / "__pycache__"
    assert run(install, **home) == (1, beside, "")
    compiled, kept, said = run(install, NUMBA_CACHE_DIR=chosen, **home)
    assert (compiled, kept.parent, said) == (1, chosen, "")
    assert list(install.temporary.iterdir()) == []


@pytest.mark.slow
def test_a_hostile_folder_is_not_used_and_a_warning_says_so_once(install):
    user = NOBODY if IS_ROOT else os.geteuid()
    hostile = install.temporary / f"darts-kernels-{user}"
    hostile.mkdir()
    hostile.chmod(0o777)
    compiled, kept, said = run(install, HOME="/no")
    assert (compiled, kept) == (1, None)
    assert said.count("KernelCacheWarning") == 1
    assert "NUMBA_CACHE_DIR" in said
    assert f"{hostile} " in said
    assert list(hostile.iterdir()) == []


@pytest.mark.slow
def test_a_damaged_cache_is_passed_over_with_a_warning(install):
    home = {"HOME": install.home}
    _, kept, _ = run(install, **home)
    for file in kept.iterdir():
        file.write_bytes(b"")
    compiled, kept, said = run(install, **home)
    assert (compiled, kept) == (1, None)
    assert said.count("KernelCacheWarning") == 1
    assert "EOFError" in said


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, of this process."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kernel_cache.private_folder.cache_clear()
    yield tmp_path
    kernel_cache.private_folder.cache_clear()


def test_only_the_process_that_makes_the_folder_says_where_it_is(temporary, caplog):
    for _ in range(2):
        folder = kernel_cache.private_folder()
        kernel_cache.private_folder.cache_clear()
    assert folder == temporary / f"darts-kernels-{os.geteuid()}"
    assert stat.S_IMODE(folder.lstat().st_mode) == 0o700
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(folder) in caplog.text


def _symlink(folder):
    target = folder.with_name("target")
    target.mkdir(mode=0o700)
    folder.symlink_to(target)


def _with_mode(mode):
    def make(folder):
        folder.mkdir()
        folder.chmod(mode)

    return make


def _foreign(folder):
    if not IS_ROOT:
        pytest.skip("needs root, who can give a folder away")
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)


HOSTILE = {
    "symlink": (_symlink, "is no folder"),
    "dangling symlink": (lambda folder: folder.symlink_to(folder.with_name("absent")), "is no folder"),
    "file": (lambda folder: folder.write_text(""), "is no folder"),
    "others may write": (_with_mode(0o707), "can be written by other users"),
    "group may write": (_with_mode(0o770), "can be written by other users"),
    "another owner": (_foreign, "belongs to another user"),
}


@pytest.mark.parametrize(("make", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_a_folder_that_others_may_have_prepared_is_refused(temporary, make, reason):
    make(temporary / f"darts-kernels-{os.geteuid()}")
    with pytest.raises(OSError, match=reason):
        kernel_cache.private_folder()


def test_a_place_where_others_may_exchange_folders_is_refused(temporary, monkeypatch):
    shared = temporary / "shared"
    inner = shared / "inner"
    inner.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(inner))
    shared.chmod(0o777)
    with pytest.raises(OSError, match="shared belongs to another user or can be written by one"):
        kernel_cache.private_folder()
    assert list(inner.iterdir()) == []
    shared.chmod(0o1777)  # as /tmp
    assert kernel_cache.private_folder().parent == inner


def test_the_cache_of_other_code_stays_where_it_was(temporary, monkeypatch):
    """numba's setting holds for the whole process, so it is put back at once."""
    import numba

    def refuse(function, **options):
        if options.get("cache") and numba.config.CACHE_DIR == "":
            raise RuntimeError("cannot cache function 'f': no locator available")
        return numba.config.CACHE_DIR

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(numba, "njit", lambda **options: lambda function: refuse(function, **options))
    used = kernel_cache.declare(lambda: None, {})
    assert used == str(temporary / f"darts-kernels-{os.geteuid()}")
    assert numba.config.CACHE_DIR == ""
