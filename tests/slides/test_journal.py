"""What of a slide is done: lines that a kill cut short do not count."""

from pathlib import Path

from fewcell.slides.journal import Journal


def test_a_line_that_a_kill_cut_short_does_not_count_and_is_cut_off(tmp_path: Path) -> None:
    path, other = tmp_path / "journal.txt", tmp_path / "journal-1-of-2.txt"
    path.write_bytes(b"tile 3\ntile 1")  # of tile 12
    other.write_bytes(b"tile 7\ntil")
    with Journal(path, [other]) as journal:
        assert (journal.done, journal.own) == ({"tile 3", "tile 7"}, {"tile 3"})
        journal.finish("tile 2")
        assert "tile 2" in journal.done & journal.own
    assert path.read_bytes() == b"tile 3\ntile 2\n"
    assert other.read_bytes() == b"tile 7\ntil"
