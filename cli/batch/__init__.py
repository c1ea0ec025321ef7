"""`darkroom batch`: files of requests, whose results are collected in a folder."""
