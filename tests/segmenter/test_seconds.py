"""The table of how long images took: lines are added, the last of a stem counts, other tables are refused."""

import pytest

from fewcell.errors import ReadError, WriteError
from fewcell.segmenter import SECONDS_FILE, Took, read_seconds, record_seconds


def test_the_last_line_of_a_stem_counts(tmp_path) -> None:
    record_seconds(tmp_path, "a", Took(10, 20, 1.5))
    record_seconds(tmp_path, 'b,"c', Took(3, 4, 0.25))
    record_seconds(tmp_path, "a", Took(10, 20, 0.1234))
    assert read_seconds(tmp_path) == {"a": Took(10, 20, 0.123), 'b,"c': Took(3, 4, 0.25)}
    assert (tmp_path / SECONDS_FILE).read_text().splitlines()[0] == "stem,height_px,width_px,seconds"


def test_a_head_that_two_processes_wrote_does_no_harm(tmp_path) -> None:
    record_seconds(tmp_path, "a", Took(10, 20, 1.5))
    text = (tmp_path / SECONDS_FILE).read_text()
    (tmp_path / SECONDS_FILE).write_text(text.splitlines()[0] + "\n" + text)
    assert read_seconds(tmp_path) == {"a": Took(10, 20, 1.5)}


@pytest.mark.parametrize("text", ["name,time\na,1\n", "stem,height_px,width_px,seconds\na,1,2,fast\n", "\xff"])
def test_a_table_of_another_kind_is_refused(tmp_path, text: str) -> None:
    (tmp_path / SECONDS_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(ReadError, match=r"is not as `fewcell segment` writes it"):
        read_seconds(tmp_path)


def test_no_table_is_said(tmp_path) -> None:
    with pytest.raises(ReadError, match=r"has no seconds\.csv that can be read"):
        read_seconds(tmp_path)
    with pytest.raises(WriteError, match=r"seconds\.csv: cannot be written"):
        record_seconds(tmp_path / "nowhere", "a", Took(1, 1, 1.0))


def test_a_name_in_another_encoding_is_kept(tmp_path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    record_seconds(tmp_path, name, Took(3, 4, 1.5))
    assert read_seconds(tmp_path) == {name: Took(3, 4, 1.5)}
