"""fewcell: few labels, every cell. Finds every cell in a microscopy image, of any modality, on a laptop."""
