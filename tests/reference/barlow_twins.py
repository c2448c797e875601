"""Barlow Twins written out sum by sum, from the paper's equation 1."""

import math

Rows = list[list[float]]


def barlow_twins_by_hand(z_a: Rows, z_b: Rows, eps: float = 1e-5) -> dict[str, float]:
    rows, dim = len(z_a), len(z_a[0])

    def standardised(z: Rows, j: int) -> list[float]:
        column = [row[j] for row in z]
        mean = sum(column) / rows
        variance = sum((x - mean) ** 2 for x in column) / rows
        return [(x - mean) / math.sqrt(variance + eps) for x in column]

    invariance, redundancy = 0.0, 0.0
    for j in range(dim):
        for k in range(dim):
            a, b = standardised(z_a, j), standardised(z_b, k)
            correlation = sum(x * y for x, y in zip(a, b, strict=True)) / rows
            if j == k:
                invariance += (1 - correlation) ** 2
            else:
                redundancy += correlation**2
    return {"invariance": invariance, "redundancy": redundancy}
