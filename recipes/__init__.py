"""One file for each result that is claimed; `python -m sft_keras.run --list` lists them."""
