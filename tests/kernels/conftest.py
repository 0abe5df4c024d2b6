"""The compiled passes of nmbench.sparsity are loaded once, from the user's cache: a cache of a test's own is empty."""

from nmbench.sparsity.fast import native

native.library()
