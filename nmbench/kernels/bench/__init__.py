"""`nmbench kernels`: sparse backends against the best dense product, on this machine.

suites       which shapes, as data                   options    what a run is asked for
operands     random weights and inputs               dense      the dense products that count as the baseline
roofline     measured bandwidth, rates and floor     candidates what can be timed for one shape, checked before
cell         one shape, one dtype, side by side      run        the grid, within a time budget
schema       the types of a record                   record     what is written, and where
summary      geometric means, targets, refusals      page       the same as markdown
figure       break-even
"""
