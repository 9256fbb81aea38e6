def test_x(disc_dataset, tiny_recipe, tmp_path):
    from fewcell.data.dataset import open_dataset
    from fewcell.training.fit import fit
    from fewcell.segmenter import read_model

    bad = 0
    for steps in (1, 2, 3, 4, 5, 8, 12):
        try:
            f = fit(tiny_recipe(steps=steps), open_dataset(disc_dataset), tmp_path / str(steps))
            print(steps, read_model(f).held_out, read_model(f).min_score)
        except BaseException as e:
            import traceback

            traceback.print_exc()
            bad += 1
    assert not bad
