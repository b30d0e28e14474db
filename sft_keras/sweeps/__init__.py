"""Many trainings on one feature cache: sweeps, seeds, folds, backbones."""
