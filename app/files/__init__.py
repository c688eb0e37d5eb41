"""Files that are written atomically, Markdown text, and the folder of the data."""
