"""Statistics of an audit: lower bounds and p-values that hold for finitely many scores.

In: scores of canaries that took part and of canaries that did not, and a claim.
Out: a `Result`: a lower bound of epsilon or mu, or a p-value of the claim.
Read first: `answers.py`.
"""
