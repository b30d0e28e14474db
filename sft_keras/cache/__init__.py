"""What frozen blocks give for each example, computed once: in memory, or on disk between runs.

A boundary's outputs are found again by two hashes and nothing else. The collection is named by the
hash of all that computes them: the weights below the boundary, the graph, the scaling of the input,
dtypes and library versions. A row in it is named by the hash of what goes in: the very pixels or
tokens. So rows are shared between runs, splits, folds and seeds, whatever the data is called and
wherever it lies, and a row of other weights or of another image cannot be found by mistake.
"""
