"""Sources of labelled images: folders, tables, arrays, tensorflow-datasets."""
