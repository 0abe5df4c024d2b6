"""The pruners that come with nmbench, one short file each; entry points in `nmbench.pruners`."""
