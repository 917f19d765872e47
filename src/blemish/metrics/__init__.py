"""Predictions and truths in, numbers out.

Every metric is a pure function of arrays. Those that have an interval take `weights`: how often each
image counts, (n,) for the data as they are, or (n, r) for r resamples at once, which is how a thousand
bootstrap resamples cost little more than one.
"""
