"""Cells as the page shows and corrects them, over HTTP."""

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

CELLS = "/api/images/discs.png/cells/default"


def correct(client, **edit):
    answer = client.post(f"{CELLS}/corrections", json=edit)
    assert answer.status_code == 200, answer.text
    return answer.json()


def table(client):
    return client.get(CELLS).json()


@pytest.fixture
def stored(root):
    return np.asarray(zarr.open_array(root / "fewcell/results/discs.png/default/discs_label.zarr/0")[:]).astype(
        np.int32
    )


def test_the_table_has_every_cell(client, stored):
    facts = table(client)
    assert facts["columns"]["id"] == list(range(1, stored.max() + 1))
    assert stored.max() > 60
    assert facts["diameter_px"] == 22
    assert np.bincount(stored.ravel())[1:].tolist() == facts["columns"]["area_px"]


@pytest.mark.parametrize("step", [1, 2, 4])
def test_tiles_are_the_labels(client, stored, tile, step):
    thin = stored[::step, ::step]
    for row in range(-(-thin.shape[0] // 512)):
        for column in range(-(-thin.shape[1] // 512)):
            part = thin[512 * row : 512 * row + 512, 512 * column : 512 * column + 512]
            assert np.array_equal(tile(client, step, row, column), part)


@pytest.mark.parametrize("place", ["1/2/0", "1/0/2", "3/0/0", "0/0/0", "4096/0/0", "1/-1/0", "1/0/x"])
def test_tiles_that_are_not_there(client, place):
    for path in (CELLS, "/api/images/discs.png"):
        assert client.get(f"{path}/tiles/{place}").status_code == 404


def test_a_click_measures_a_cell(client, stored):
    y, x = np.argwhere(stored == 5)[0]
    cell = client.get(f"{CELLS}/at/{y}/{x}").json()["cell"]
    assert cell["id"] == 5
    assert cell["area_px"] == (stored == 5).sum()
    assert cell["area_um2"] is None
    assert [value > 100 for name, value in cell.items() if name.startswith("mean_")] == [True]
    y, x = np.argwhere(stored == 0)[0]
    assert client.get(f"{CELLS}/at/{y}/{x}").json()["cell"] is None
    assert client.get(f"{CELLS}/at/99999/0").json()["cell"] is None


def test_delete(client, stored, tile):
    assert correct(client, kind="delete", cells=[5])["removed"] == [5]
    assert 5 not in table(client)["columns"]["id"]
    for step in (1, 2):
        expected = np.where(stored == 5, 0, stored)[::step, ::step][:512, :512]
        assert np.array_equal(tile(client, step, 0, 0), expected)
    assert client.post(f"{CELLS}/corrections", json={"kind": "delete", "cells": [5]}).status_code == 404


def test_merge_gives_one_new_cell_with_the_area_of_both(client, stored):
    change = correct(client, kind="merge", cells=[3, 4])
    assert change["removed"] == [3, 4]
    (row,) = change["added"]
    assert row["id"] == stored.max() + 1
    assert row["area_px"] == np.isin(stored, [3, 4]).sum()
    y, x = np.argwhere(np.isin(stored, [3, 4])).mean(axis=0)
    assert (row["y"], row["x"]) == pytest.approx((y, x))


def test_split_by_a_line(client, stored):
    inside = np.argwhere(stored == 7)
    (y0, x0), (y1, x1) = inside.min(axis=0).tolist(), inside.max(axis=0).tolist()
    middle = (x0 + x1) / 2
    change = correct(client, kind="split", points=[[y0 - 3, middle], [y1 + 3, middle]])
    assert change["removed"] == [7]
    assert sum(row["area_px"] for row in change["added"]) == len(inside)
    assert len(change["added"]) == 2


def test_draw_in_a_free_place(client, stored):
    y, x = next(
        (y, x)
        for y, x in np.argwhere(stored == 0).tolist()
        if not stored[y : y + 8, x : x + 8].any() and y < 600 and x < 500
    )
    change = correct(client, kind="draw", points=[[y, x], [y, x + 7], [y + 7, x + 7], [y + 7, x]])
    assert change["added"][0]["area_px"] == 64
    assert change["added"][0]["score"] == 1
    (cell,) = change["added"]
    assert client.get(f"{CELLS}/at/{y + 3}/{x + 3}").json()["cell"] == cell


def test_cells_that_lie_far_apart_are_not_found_right_at_once(client, monkeypatch):
    """What lies between them would be a crop to learn from: on a slide, more than fits into memory."""
    monkeypatch.setattr("fewcell.web.cells.MOST_EDITED_PX", 20_000)
    facts = table(client)["columns"]
    ends = [facts["id"][0], facts["id"][-1]]
    answer = client.post(f"{CELLS}/corrections", json={"kind": "confirm", "cells": ends})
    assert answer.status_code == 422
    assert "smaller part" in answer.json()["error"]
    for cell in ends:
        correct(client, kind="confirm", cells=[cell])


def test_undo_brings_back_what_was_there(client, stored, tile):
    before = table(client)
    correct(client, kind="delete", cells=[5])
    correct(client, kind="merge", cells=[3, 4])
    for kind in ("merge", "delete"):
        assert client.delete(f"{CELLS}/corrections").json()["kind"] == kind
    assert table(client) == before
    assert np.array_equal(tile(client, 1, 0, 0), stored[:512, :512])
    assert client.delete(f"{CELLS}/corrections").status_code == 409


def test_corrections_are_there_when_the_page_is_opened_again(root, client, open_page, tile):
    correct(client, kind="delete", cells=[5])
    correct(client, kind="confirm", cells=[6])
    correct(client, kind="region", points=[[0, 0], [99.2, 120]])
    with open_page(root) as again:
        assert table(again) == table(client)
        assert table(again)["regions"] == [[0, 0, 100, 121]]
        assert table(again)["confirmed"] == [6]
        assert np.array_equal(tile(again, 1, 0, 0), tile(client, 1, 0, 0))


@pytest.mark.parametrize(
    "edit",
    [
        {"kind": "explode"},
        {"kind": "delete"},
        {"kind": "delete", "cells": [0]},
        {"kind": "delete", "cells": [10**6]},
        {"kind": "delete", "cells": ["1; DROP"]},
        {"kind": "merge", "cells": [1]},
        {"kind": "split", "points": []},
        {"kind": "split", "points": [[0, 0], [0, 5]]},
        {"kind": "draw", "points": [[0, 0]]},
        {"kind": "draw", "points": [[1e300, 0], [0, 0]]},
        {"kind": "region", "points": [[5, 5], [6, 6]]},
        {"kind": "delete", "cells": [1], "more": 1},
        [],
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(client, root, edit):
    answer = client.post(f"{CELLS}/corrections", json=edit)
    assert answer.status_code in (404, 422), answer.text
    assert answer.json()["error"]
    assert not (root / "fewcell/results/discs.png/default/corrections.jsonl").exists()


def again(client, wait_for, **settings):
    answer = client.post("/api/images/discs.png/segment", json={"model": "default", **settings})
    assert client.post("/api/images/discs.png/segment", json={"model": "default"}).status_code == 409
    return wait_for(client, answer.json()["number"])


def test_an_image_segmented_again_keeps_the_corrections_of_before(client, root, wait_for):
    correct(client, kind="delete", cells=[5])
    correct(client, kind="region", points=[[100, 100], [300, 300]])
    known, crops = client.get("/api/teaching").json(), sorted(lessons(root))
    assert again(client, wait_for, diameter_px=30)["state"] == "done"
    assert table(client)["diameter_px"] == 30
    assert table(client)["n_corrections"] == 0
    (earlier,) = (root / "fewcell/earlier").iterdir()
    assert (earlier / "corrections.jsonl").exists()
    assert list((root / "fewcell/segmenting").rglob("*.*")) == [root / "fewcell/segmenting/discs.png"]
    assert client.get("/api/teaching").json() == known, "what was learned from the earlier cells stays"
    correct(client, kind="region", points=[[500, 400], [600, 500]])
    assert {content for _, content in crops} < {content for _, content in lessons(root)}


def test_an_image_segmented_again_in_the_same_way_keeps_what_can_be_learned(client, root, wait_for):
    correct(client, kind="region", points=[[100, 100], [300, 300]])
    (before,) = lessons(root)
    assert again(client, wait_for, diameter_px=22)["state"] == "done"
    correct(client, kind="delete", cells=[5])
    assert before[1] in [content for _, content in lessons(root)]


def lessons(root):
    return [(path.name, path.read_bytes()) for path in (root / "fewcell/corrections/labels").iterdir()]


def test_cells_stay_while_they_are_sought_again_in_vain(client, root, wait_for):
    correct(client, kind="delete", cells=[5])
    before = table(client)
    (root / "discs.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    begun = client.post("/api/images/discs.png/segment", json={"model": "default"}).json()
    job = wait_for(client, begun["number"])
    assert job["state"] == "failed"
    assert job["error"]
    assert table(client) == before
    assert not (root / "fewcell/earlier").exists()


def test_a_correction_of_cells_that_were_replaced_is_refused(client, root, wait_for):
    made = table(client)["made"]
    assert correct(client, kind="delete", cells=[5], made=made)["removed"] == [5]
    assert again(client, wait_for, diameter_px=30)["state"] == "done"
    for answer in (
        client.post(f"{CELLS}/corrections", json={"kind": "delete", "cells": [6], "made": made}),
        client.delete(f"{CELLS}/corrections", params={"made": made}),
    ):
        assert answer.status_code == 409
        assert "segmented again" in answer.json()["error"]
    assert not (root / "fewcell/results/discs.png/default/corrections.jsonl").exists()
    assert correct(client, kind="delete", cells=[6], made=table(client)["made"])["removed"] == [6]


def test_an_image_without_cells_takes_drawn_ones(client, root, wait_for):
    Image.fromarray(np.full((200, 200), 90, np.uint8)).save(root / "blank.png")
    job = client.post("/api/images/blank.png/segment", json={"model": "default"}).json()
    assert wait_for(client, job["number"])["state"] == "done"
    path = "/api/images/blank.png/cells/default"
    facts = client.get(path).json()
    assert facts["columns"]["id"] == []
    assert facts["diameter_source"] == "not known"
    body = {"kind": "draw", "points": [[50, 50], [50, 69], [69, 69], [69, 50]]}
    assert client.post(f"{path}/corrections", json=body).json()["added"][0]["area_px"] == 400
    assert client.get(path).json()["columns"]["id"] == [1]
    for kind in ("csv", "geojson", "rois", "tiff", "zarr", "overlay"):
        assert client.get(f"{path}/files/{kind}").status_code == 200


def test_of_a_stack_the_middle_plane_is_shown_and_segmented(client, root, wait_for):
    plane = np.asarray(Image.open(root / "discs.png"))
    stack = np.zeros((2, 5, *plane.shape), np.uint8)
    stack[1, 2] = plane
    tifffile.imwrite(root / "stack.tif", stack, metadata={"axes": "TZYX"}, ome=True, photometric="minisblack")
    assert client.get("/api/images/stack.tif").json()["plane"] == "t = 1, z = 2"
    answer = client.post("/api/images/stack.tif/segment", json={"model": "default", "diameter_px": 22})
    assert wait_for(client, answer.json()["number"])["state"] == "done"
    there = client.get("/api/images/stack.tif/cells/default").json()
    assert there["columns"]["id"] == table(client)["columns"]["id"]
