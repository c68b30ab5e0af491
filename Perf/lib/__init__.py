"""What the programs of Perf share.

process.py  running other programs, waiting, saying what goes on
machine.py  the machine's description, hugepages
plot.py     SVG: bars and lines
"""
