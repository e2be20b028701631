"""What a pickle would import is found without running it, and only names of plain data are let through."""

import io
import pickle
import pickletools
import subprocess
from collections import OrderedDict, defaultdict, deque

import pytest

from darts_segmentation import (
    BrokenModelError,
)
from darts_segmentation.pickles import scan_pickle
from darts_segmentation.plain import ALLOWED_NAMES, is_plain
from support.pickles import Call, Fill


@pytest.mark.parametrize("protocol", range(6))
def test_scanning_finds_what_the_interpreter_would_import(protocol):
    value = [OrderedDict(a=1), {1, 2}, Call(len, "a"), Call(eval, "1"), Call(subprocess.list2cmdline, ["a"]), b"a"]
    content = pickle.dumps(value, protocol=protocol)
    found = scan_pickle(content)

    class Listing(pickle.Unpickler):
        def find_class(self, module, name):
            found = super().find_class(module, name)
            imported.add(f"{found.__module__}.{found.__qualname__}")
            return found

    imported = set()
    Listing(io.BytesIO(content)).load()
    assert found.names == imported
    assert found.protocol == (protocol if protocol >= 2 else 0)
    assert pickletools.optimize(content)  # the scanner's reader agrees that it is a pickle


def test_what_is_imported_as_it_is_makes_data_only():
    assert len(ALLOWED_NAMES) < 40
    harmless = {"_codecs.encode", "builtins.bytearray", "builtins.complex", "builtins.set"}
    for name in ALLOWED_NAMES - harmless:
        assert name.split(".")[0] in ("collections", "torch")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "os.system",
            "posix.system",
            "nt.system",
            "builtins.eval",
            "builtins.exec",
            "builtins.compile",
            "builtins.open",
        ),
        *(
            "subprocess.Popen",
            "subprocess.run",
            "sys.exit",
            "importlib.import_module",
            "runpy.run_path",
            "shutil.rmtree",
        ),
        *(
            "ctypes.CDLL",
            "types.CodeType",
            "types.FunctionType",
            "pickle.Unpickler",
            "functools.reduce",
            "operator.call",
        ),
        *("torch.load", "torch.hub.load", "torch.Tensor", "torch.UntypedStorage", "torch.storage.UntypedStorage"),
        *("torch.nn.parameter.Buffer", "torch.utils.cpp_extension.load", "torch.jit.ScriptModule", "numpy.load"),
        *("numpy.testing._private.utils.runstring", "my.module.run", "Popen", "?"),
    ],
)
def test_code_is_not_plain(name):
    assert name not in ALLOWED_NAMES
    assert not is_plain(name)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_scanning_tells_lists_from_dicts(protocol):
    value = [deque([1]), deque([1, 2]), defaultdict(list, a=1), defaultdict(list, a=1, b=2), Fill(OrderedDict, (), {})]
    found = scan_pickle(pickle.dumps(value, protocol=protocol))
    assert found.containers["collections.deque"] == "list"
    assert found.containers["collections.defaultdict"] == "dict"
    assert set(found.containers) <= {"collections.deque", "collections.defaultdict", "collections.OrderedDict"}
    for empty in (deque(), defaultdict(list), Fill(deque, ([1],), None)):
        assert not scan_pickle(pickle.dumps(empty, protocol=protocol)).containers


def test_scanning_follows_duplicates_and_memos():
    duplicated = b"\x80\x02ccollections\ndeque\nq\x00)R2K\x01a0h\x00)R(K\x01K\x02e."
    assert dict(scan_pickle(duplicated).containers) == {"collections.deque": "list"}
    for broken in (b"\x80\x02e.", b"\x80\x02h\x05.", b"\x80\x020.", b"\x80\x02ccollections\ndeque\nR."):
        with pytest.raises(BrokenModelError, match="damaged or ends early"):
            scan_pickle(broken)
