"""IoU-Net for any detector: a refiner trained alone (`train-refiner`), and applied to boxes in a file (`refine`)."""
