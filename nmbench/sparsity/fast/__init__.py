"""Equal results, sooner: the passes of the N:M core in C, in Triton, and inside graphs of torch.compile."""
