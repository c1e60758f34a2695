"""What the measures of an evaluation are, in plain Python, slow and obvious."""

import itertools
import math
from collections import Counter
from fractions import Fraction


def maj_at_k(sizes, right, silent, k):
    """Every draw of k answers is made, and its vote counted."""
    votes = [a for a, size in enumerate(sizes) for _ in range(size)] + [None] * silent
    total, draws = Fraction(0), 0
    for draw in itertools.combinations(votes, k):
        draws += 1
        count = Counter(vote for vote in draw if vote is not None)
        if count:
            winners = [a for a in count if count[a] == max(count.values())]
            total += sum(Fraction(right[a]) for a in winners) / len(winners)
    return float(total / draws)


def expected_distinct(kinds, draws):
    """The mean number of different ones over all sequences of draws from equally likely kinds."""
    sequences = list(itertools.product(range(kinds), repeat=draws))
    return sum(len(set(sequence)) for sequence in sequences) / len(sequences)


def vendi(similarity):
    """exp of the entropy of the eigenvalues of K / n, by Jacobi's rotations."""
    n = len(similarity)
    matrix = [[value / n for value in row] for row in similarity]
    for _ in range(100):
        p, q = max(
            ((i, j) for i in range(n) for j in range(i)),
            key=lambda at: abs(matrix[at[0]][at[1]]),
            default=(0, 0),
        )
        if p == q or abs(matrix[p][q]) < 1e-15:
            break
        angle = 0.5 * math.atan2(2 * matrix[p][q], matrix[q][q] - matrix[p][p])
        c, s = math.cos(angle), math.sin(angle)
        for k in range(n):
            matrix[k][p], matrix[k][q] = (
                c * matrix[k][p] - s * matrix[k][q],
                s * matrix[k][p] + c * matrix[k][q],
            )
        for k in range(n):
            matrix[p][k], matrix[q][k] = (
                c * matrix[p][k] - s * matrix[q][k],
                s * matrix[p][k] + c * matrix[q][k],
            )
    values = [matrix[i][i] for i in range(n)]
    return math.exp(-sum(value * math.log(value) for value in values if value > 1e-15))
