"""A page to try one run's exported model."""
