"""A retriever over HTTP, in the dialects of ReSearch, Search-R1 and R1-Searcher."""
