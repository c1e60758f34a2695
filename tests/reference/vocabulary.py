"""Slow twins of the divergences over the vocabulary and of MiniLLM's return: probabilities in plain
Python floats, one outcome at a time, from the papers' equations (GKD 2306.13649 Eq. 1, DistiLLM
2402.03898, MiniLLM 2306.08543)."""

import math

Row = list[float]


def softmax(logits: Row, temperature: float = 1.0) -> Row:
    highest = max(logits)
    weights = [math.exp((z - highest) / temperature) for z in logits]
    return [w / math.fsum(weights) for w in weights]


def kl(p: Row, q: Row) -> float:
    """KL(p ‖ q); 0 log 0 is 0."""
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0.0)


def mix(p: Row, q: Row, weight: float) -> Row:
    return [weight * a + (1.0 - weight) * b for a, b in zip(p, q, strict=True)]


def divergence(p: Row, q: Row, kind: str, weight: float) -> float:
    """p is the teacher, q the student."""
    if kind == "forward_kl" or (kind == "jsd" and weight == 0.0):
        return kl(p, q)
    if kind == "reverse_kl" or (kind == "jsd" and weight == 1.0):
        return kl(q, p)
    if kind == "jsd":
        m = mix(p, q, weight)
        return weight * kl(p, m) + (1.0 - weight) * kl(q, m)
    if kind == "skewed_kl":
        return kl(p, mix(p, q, weight))
    return kl(q, mix(q, p, weight))


def top_and_tail(p: Row, q: Row, k: int) -> tuple[Row, Row]:
    """The k likeliest of p one by one, and the sum of the others."""
    top = sorted(range(len(p)), key=lambda i: -p[i])[:k]
    rest = [i for i in range(len(p)) if i not in top]
    return tuple([x[i] for i in top] + [math.fsum(x[i] for i in rest)] for x in (p, q))  # type: ignore[return-value]


def of_logits(
    teacher: Row, student: Row, kind: str, weight: float, k: int | None, temperature: float = 1.0
) -> float:
    p, q = softmax(teacher, temperature), softmax(student, temperature)
    if k is not None and k < len(p):
        p, q = top_and_tail(p, q, k)
    return divergence(p, q, kind, weight)


def future_return(rewards: Row, mask: Row, gamma: float, normalised: bool) -> Row:
    """MiniLLM's R of each token: what comes after it, term by term."""
    out = []
    for t in range(len(rewards)):
        later = [u for u in range(t + 1, len(rewards)) if mask[u] and mask[t]]
        weights = [gamma ** (u - t - 1) for u in later]
        total = math.fsum(w * rewards[u] for w, u in zip(weights, later, strict=True))
        scale = math.fsum(weights) if normalised else 1.0
        out.append(total / scale if later and scale > 0.0 else 0.0)
    return out
