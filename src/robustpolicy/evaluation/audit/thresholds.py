"""Every threshold of the audit, each with its source. Shares are of all samples, in [0, 1]."""

from __future__ import annotations

#: A claim is refuted where the upper bound of the worst case lies this far below it. From PGD-40 to
#: the worst case, honest LeNet5 fall by 3.0 to 3.9 points (results/audit): a smaller margin would
#: come near to accusing them.
MARGIN = 0.05
#: Robust accuracy may rise by this much where it should not, and count as noise: under one standard
#: error of a share of 1,000 samples, which is 1.6 points at most.
NOISE = 0.01
#: Black-box attacks must gain more than this, and significantly, to speak of masking.
GAIN = 0.01
#: Level of McNemar's test of that gain (McNemar 1947).
SIGNIFICANCE = 0.01
#: Share of attacked samples that need a non-zero gradient (Carlini et al. 2019, section 5).
GRADIENT_SHARE = 0.99
#: Two passes over one batch may differ by this share of the logits' norm: rounding alone.
OUTPUT_TOLERANCE = 1e-4
#: So may an input in two batches; there a half-precision model rounds more.
BATCH_TOLERANCE = 1e-3
#: An unbounded attack must reach this success (Athalye et al. 2018: "should reach 100 %").
UNBOUNDED_SUCCESS = 1.0
#: A directional derivative and its finite difference agree within this, relative to the larger.
DERIVATIVE_TOLERANCE = 0.05
#: Share of samples on which they must agree: some meet a kink.
SLOPE_SHARE = 0.9
#: An indicator of attack failure is raised where it holds for more than this share of samples
#: (Pintor et al. 2022 raise it on single samples; a share is steadier over a test set).
INDICATOR = 0.1
#: Relative growth of the loss over the last tenth of the steps that is still "not converged"
#: (Pintor et al. 2022 use 1 %).
UNFINISHED = 0.01
#: Relative change of the margin under tiny noise that is "unstable" (Pintor et al. 2022: 10 %).
UNSTABLE = 0.1
#: Success that an attack must reach on binarised problems (Zimmermann et al. 2022 ask for
#: "near-perfect"; they call a test below 95 % failed).
BINARISED_SUCCESS = 0.95
#: Robust accuracy may spread this far over seeds of one attack: more than five restarts together
#: gain on any of our honest models (results/audit).
SEED_SPREAD = 0.02
