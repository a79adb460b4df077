"""From differences between paired runs to a verdict: statistics.py computes, verdict.py decides.

crossing.py tells where a difference changes its sign.
"""
