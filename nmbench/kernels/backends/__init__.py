"""The ways to multiply with a compressed weight, each behind `nmbench.kernels.backend.Backend`."""
