"""A document (nmbench.document.model) as files. Every format shows the same cells.

markdown    README.md: GitHub renders it whole, beside its folder `figures`
html        report.html: one file with everything in it, tables sortable, opened from disk
csv         tables/*.csv, one a table, in full precision
latex       tables/*.tex, one a table, for a paper
"""
