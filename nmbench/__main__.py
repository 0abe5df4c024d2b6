"""`python -m nmbench` is the `nmbench` command."""

from nmbench.cli import main

main()
