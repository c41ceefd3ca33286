"""The small language of custom KPIs: grammar, checks, and what it compiles to.

Text becomes a tree (`parsing`), the tree is checked against the fields of a stream (`checking`)
and becomes typed (`tree`); from there it is SQL for the cells (`compiling`) and, on its own
way, plain Python for `metrics.verify`.
"""
