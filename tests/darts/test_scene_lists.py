"""Lists of scenes as people's systems write them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts.errors import ConfigurationError
from darts.pipelines.scene_lists import read_scene_list, write_scene_list

SCENES = ["20210821_210019_08_2405", "S2A_MSIL2A_20210821T210021_N0500_R100_T08WMA_20230201T010203", "Süd 1"]
BOM = b"\xef\xbb\xbf"


def read(folder: Path, content: bytes) -> list[str]:
    (folder / "scenes").write_bytes(content)
    return read_scene_list(folder / "scenes", "--image-list")


@pytest.mark.parametrize("mark", [b"", BOM])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_scene_list_as_json_and_as_lines_with_any_mark_and_line_end(tmp_path, mark, end):
    lines = ["# scenes of July", "", f"  {SCENES[0]}  ", SCENES[1], f"{SCENES[2]} # south", SCENES[0], ""]
    assert read(tmp_path, mark + end.join(lines).encode()) == SCENES
    assert read(tmp_path, mark + end.join(lines).rstrip().encode()) == SCENES
    as_json = json.dumps([*SCENES, SCENES[1]], indent=1, ensure_ascii=False).replace("\n", end)
    assert read(tmp_path, mark + as_json.encode()) == SCENES


@pytest.mark.parametrize("mark", [b"", BOM])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("after", ["", " ", "\n"])
def test_scene_list_may_have_a_comma_after_the_last_name(tmp_path, mark, end, after):
    text = "[" + ",\n".join(json.dumps(name) for name in SCENES) + f",{after}]\n"
    assert read(tmp_path, mark + text.replace("\n", end).encode()) == SCENES
    assert read(tmp_path, b'["a,]", "b", ]') == ["a,]", "b"]
    assert read(tmp_path, b'["a,]"]') == ["a,]"]


@given(st.lists(st.text(st.characters(categories=["L", "N"], include_characters="_-. "), min_size=1).map(str.strip)))
def test_scene_list_reads_what_was_written(tmp_path_factory, names):
    names = [name for name in names if name]
    path = tmp_path_factory.mktemp("list") / "new" / "scenes.json"
    write_scene_list(path, names)
    assert read_scene_list(path, "--scene-id-file") == list(dict.fromkeys(names))


@pytest.mark.parametrize("content", [b"", BOM, b"\n\r\n", b"# nothing yet\n", b"[]"])
def test_scene_list_without_a_name_is_empty(tmp_path, content):
    assert read(tmp_path, content) == []


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b'["a", "b"', "is none at line 1, column 10 "),
        (b'["a",, "b"]', "is none at line 1, column 6 "),
        (b'{"scenes": ["a"]}', "is no list of scenes but an object"),
        (b'"a"', "is no list of scenes but a single name"),
        (b'["a", 3]', r"entry 2 is 3;"),
        (b'["a", " "]', r'entry 2 is " ";'),
        (b"a\nb, c\n", r"line 2 is 'b, c';"),
        (b"a\r\n\r\n'b'\r\n", "line 3 is "),
    ],
)
def test_scene_list_that_is_none_says_what_was_found_and_expected(tmp_path, content, found):
    with pytest.raises(ConfigurationError, match=rf"scenes .*{found}.*expected one name per line, or JSON such as"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\nb\n".encode("utf-16"), "is UTF-16"),
        ("a\nb\n".encode("utf-16-le"), "is UTF-16"),
        ("a\r\nSüd\r\n".encode("latin-1"), "line 2 holds the byte 0xFC"),
    ],
)
def test_scene_list_in_another_encoding_says_how_to_save_it(tmp_path, content, message):
    with pytest.raises(ConfigurationError, match=rf"{message}.* Save it with the encoding UTF-8\. See --image-list\."):
        read(tmp_path, content)


def test_scene_list_that_is_absent_or_a_folder_names_the_option(tmp_path):
    with pytest.raises(ConfigurationError, match=r"There is no file .*absent; correct --image-list"):
        read_scene_list(tmp_path / "absent", "--image-list")
    with pytest.raises(ConfigurationError, match=r"cannot be read: .*See --image-list"):
        read_scene_list(tmp_path, "--image-list")
