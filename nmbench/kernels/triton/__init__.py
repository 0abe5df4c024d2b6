"""Triton kernels for any N:M: the compressed weight is read, expanded in registers, multiplied on the tensor cores.

matmul, split_k        linear layers, and those with few rows      conv     convolution as an implicit product
compress, decompress   a weight to its compressed form, and back   expand   the tile of a weight that all products read
tuning                 which tiles are tried, and which is kept    ops      the products as operators of torch

tools/compile_check.py compiles every kernel for a GPU that need not be there.
"""
