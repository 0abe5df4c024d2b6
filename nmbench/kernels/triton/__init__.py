"""Triton kernels for any N:M: the compressed weight is read, expanded in registers, multiplied on the tensor cores.

matmul, split_k   linear layers, and those with few rows      conv     convolution as an implicit product
ops               the operators of torch                      backend  what nmbench.kernels.backend asks for
compile_check     every kernel compiled for a GPU that need not be there
"""
