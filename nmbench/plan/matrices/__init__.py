"""The matrices that ship with the package: `nmbench run quick` finds quick.toml here."""
