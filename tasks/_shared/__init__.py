"""What several of the built-in tasks need; no part of the contract, and not for other plugins.

settings    a task's settings as a type       folders     checks of a user's data, the embedded data's folder
loading     data in a reproducible order      fabric      Lightning Fabric, epochs that are resumed
affine      maps of the image plane           drawing     digits and photographs
"""
