"""Training of one stage after the other: freezing, steps, early stopping, audit."""
