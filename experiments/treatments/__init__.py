"""A refiner that was trained alone with the boxes of any detector, beside what detectors do by themselves."""
