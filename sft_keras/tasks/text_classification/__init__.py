"""Text classification (one class or several labels per text) and text regression."""
