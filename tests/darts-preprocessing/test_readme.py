"""The example of the package's README runs and prints what it says."""

import re
from pathlib import Path

README = Path(__file__).parents[2] / "packages" / "darts-preprocessing" / "README.md"


def test_example(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, str(README), "exec"), {})
    assert capsys.readouterr().out.split() == code.strip().rpartition("# ")[2].split()
