"""One table of cases for every loss test, and plain reference formulas written as in the paper."""

import torch

SHAPES = [(1, 2), (7, 3), (64, 10), (5, 1000)]
AMOUNTS = [(1.0, 0.0), (1.0, 1.5), (0.0, 1.0), (0.3, 0.7)]


def batch(shape, seed=0, dtype=torch.float64, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)
    labels = torch.randint(shape[1], (shape[0],), generator=generator)
    return logits.requires_grad_(), labels


def eq4(log_pi, a, y, r1, r2):
    """One sample and one action of Eq. 4, from Eq. 3's reward."""
    return -(r1 if a == y else -r2) * log_pi[a]


def eq12(log_pi, a, y, r1, r2):
    """One sample and one action of Eq. 12, as Eq. 13 shows its intent."""
    if a == y:
        return -r1 * log_pi[a]
    others = [log_pi[i] for i in range(len(log_pi)) if i != a]
    return -r2 / (len(log_pi) - 1) * sum(others)


def expectation(formula, logits, labels, r1, r2):
    """Exact expectation over actions, pi held constant, sample by sample."""
    values = []
    for q, y in zip(logits, labels.tolist(), strict=True):
        log_pi = q.log_softmax(0)
        pi = log_pi.detach().exp()
        values.append(sum(pi[a] * formula(log_pi, a, y, r1, r2) for a in range(len(q))))
    return torch.stack(values)


def greedy(formula, logits, labels, r1, r2):
    values = []
    for q, y in zip(logits, labels.tolist(), strict=True):
        values.append(formula(q.log_softmax(0), int(q.argmax()), y, r1, r2))
    return torch.stack(values)


def gradient(loss, logits):
    return torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0]
