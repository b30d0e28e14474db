"""Sources of labelled texts: tables, lists, tensorflow-datasets."""
