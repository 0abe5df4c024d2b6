"""A document (nmbench.document.model) as files. Every format shows the same cells.

markdown    README.md: GitHub renders it whole, beside its folder `figures`
html        report.html: one file with everything in it, tables sortable, opened from disk
csv         results.csv, the whole frame; tables/*.csv, one a table, in full precision; notes.csv, the words
latex       report.tex, everything; tables/*.tex, one a table, for a paper
"""
