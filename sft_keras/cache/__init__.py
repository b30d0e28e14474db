"""Feature cache: the outputs of frozen blocks, computed once and kept in memory or on disk.

Cached features are addressed by two hashes. A *collection* holds the rows of one boundary; its key
is the hash of everything that computes them: the weights below the boundary, the graph, the input
scaling, dtypes and library versions. A *row* holds the features of one example; its name is the
hash of the model's input, i.e. the exact pixels or tokens. Rows are therefore shared between runs,
splits, folds and seeds, regardless of what the data is called and where it is stored, and a row
computed with other weights or for another image is never returned by mistake.
"""
