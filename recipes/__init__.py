"""Built-in recipes, one per file; `python -m sft_keras.run --list` lists them."""
