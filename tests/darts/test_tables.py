"""Tables on the console: what they hold is printed as it is."""

import pytest

from darts.cli.tables import print_table


def test_tables_print_brackets_as_they_are_and_break_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([("results[1]", "[red]a" + 300 * "b"), ("c", 5)], "what", "value")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["what", "value"], ["results[1]", "[red]a" + 300 * "b"], ["c", "5"]]
    assert [line.rstrip() for line in lines] == lines
