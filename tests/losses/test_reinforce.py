"""Baselines, several draws, clipped ratios, entropy and the critic, against closed forms."""

import itertools
import math

import pytest
import torch

from robustpolicy import PolicyLoss, TwoStageLoss, UserError, policy_loss
from robustpolicy.losses import (
    Rollout,
    policy_entropy,
    rollout,
    rollout_loss,
    sample_actions,
    value_loss,
)
from tests.losses.cases import AMOUNTS, SHAPES, batch, gradient


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def taken_with(actions, rewards, advantages, logits):
    """A rollout of chosen actions, shape (K, B)."""
    log_pi = logits.detach().log_softmax(1).gather(1, actions.T).T
    return Rollout(actions, rewards, advantages, log_pi)


def table_of(labels, classes, r1, r2):
    table = torch.full((len(labels), classes), -r2, dtype=torch.float64)
    return table.scatter_(1, labels[:, None], r1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("r1", "r2"), AMOUNTS)
def test_without_options_it_is_eq4(shape, r1, r2):
    logits, labels = batch(shape)
    taken = rollout(logits, labels, reward=r1, penalty=r2, generator=generator(3))
    ours = rollout_loss(logits, taken)
    eq4 = policy_loss(
        logits, labels, reward=r1, penalty=r2, actions="sampled", generator=generator(3)
    )
    torch.testing.assert_close(ours, eq4)
    torch.testing.assert_close(gradient(ours, logits), gradient(eq4, logits))
    torch.testing.assert_close(taken.advantages, taken.rewards, rtol=0, atol=0)


def expected_gradient(logits, labels, r1, r2):
    return gradient(policy_loss(logits, labels, reward=r1, penalty=r2, actions="expected"), logits)


@pytest.mark.parametrize("baseline", [0.0, -3.7, "state"])
@pytest.mark.parametrize(("r1", "r2"), AMOUNTS)
def test_a_baseline_leaves_the_expected_gradient_unchanged(baseline, r1, r2):
    """Exactly: every action once, weighted with its probability."""
    logits, labels = batch((6, 5))
    value = torch.randn(6, generator=generator()).double() if baseline == "state" else baseline
    table, pi = table_of(labels, 5, r1, r2), logits.detach().softmax(1)
    total = torch.zeros_like(logits)
    for a in range(5):
        actions = torch.full((1, 6), a)
        taken = taken_with(actions, table[:, a][None], (table[:, a] - value)[None], logits)
        total += pi[:, a, None] * gradient(rollout_loss(logits, taken), logits)
    torch.testing.assert_close(total, expected_gradient(logits, labels, r1, r2))


@pytest.mark.parametrize(
    ("baseline", "draws", "size"),
    [("mean", 1, 3), ("mean", 2, 2), ("group", 2, 2), ("group", 3, 1)],
)
def test_leave_one_out_is_unbiased_exactly(baseline, draws, size, monkeypatch):
    """Every joint outcome of the K B draws, weighted with its probability."""
    logits, labels = batch((size, 3), scale=1.0)
    log_pi, total = logits.detach().log_softmax(1), torch.zeros_like(logits)
    for outcome in itertools.product(range(3), repeat=draws * size):
        actions = torch.tensor(outcome).view(draws, size)
        monkeypatch.setattr("robustpolicy.losses.reinforce.sample_actions", lambda *_, a=actions: a)
        taken = rollout(logits, labels, penalty=1.5, draws=draws, baseline=baseline)
        assert torch.equal(taken.actions, actions)
        weight = log_pi.gather(1, actions.T).sum().exp()
        total += weight * gradient(rollout_loss(logits, taken), logits)
    torch.testing.assert_close(total, expected_gradient(logits, labels, 1.0, 1.5))


@pytest.mark.parametrize(("baseline", "draws"), [("none", 4), ("mean", 1), ("mean", 4),
                                                 ("group", 4), ("value", 1)])  # fmt: skip
def test_the_mean_of_many_draws_converges(baseline, draws):
    logits, labels = batch((6, 5), scale=1.0)
    values = torch.linspace(-1, 1, 6, dtype=torch.float64)
    samples = []
    for seed in range(3000):
        taken = rollout(
            logits, labels, penalty=1.5, draws=draws, generator=generator(seed),
            baseline=values if baseline == "value" else baseline,
        )  # fmt: skip
        samples.append(gradient(rollout_loss(logits, taken), logits))
    samples = torch.stack(samples)
    error = samples.std(0) / math.sqrt(len(samples))
    exact = expected_gradient(logits, labels, 1.0, 1.5)
    assert ((samples.mean(0) - exact).abs() <= 4 * error + 1e-12).all()


@pytest.mark.parametrize("p", [0.05, 0.5, 0.95])
@pytest.mark.parametrize(("r1", "r2"), AMOUNTS)
def test_variance_of_two_classes_is_in_closed_form(p, r1, r2):
    """A baseline b gives p (1 - p) ((1 - p) (r1 - b)^2 + p (r2 + b)^2), less the mean squared.

    The expected reward is not the best one: (1 - p) r1 - p r2 is (docs/rl.md).
    """
    draws = 100_000
    logits = torch.tensor([[math.log(p / (1 - p)), 0.0]], dtype=torch.float64)
    logits = logits.repeat(draws, 1).requires_grad_()
    labels = torch.zeros(draws, dtype=torch.int64)
    critic, best = p * r1 - (1 - p) * r2, (1 - p) * r1 - p * r2
    closed = {}
    for b in (0.0, critic, best):
        values = torch.full((draws,), b, dtype=torch.float64)
        taken = rollout(logits, labels, reward=r1, penalty=r2, baseline=values,
                        generator=generator())  # fmt: skip
        squares = gradient(rollout_loss(logits, taken), logits)[:, 0].square()
        closed[b] = p * (1 - p) * ((1 - p) * (r1 - b) ** 2 + p * (r2 + b) ** 2)
        assert abs(squares.mean() - closed[b]) <= 4 * squares.std() / math.sqrt(draws) + 1e-12
    assert closed[best] <= min(closed.values()) + 1e-12


def test_baselines_are_the_averages_of_the_others():
    logits, labels = batch((4, 3), scale=1.0)
    taken = rollout(logits, labels, penalty=0.5, draws=3, baseline="group", generator=generator())
    mean = rollout(logits, labels, penalty=0.5, draws=3, baseline="mean", generator=generator())
    r = taken.rewards
    assert torch.equal(r, torch.where(taken.actions == labels, 1.0, -0.5))
    for k, b in itertools.product(range(3), range(4)):
        own = [r[j, b] for j in range(3) if j != k]
        torch.testing.assert_close(taken.advantages[k, b], r[k, b] - sum(own) / 2)
        rest = [r[j, i] for j in range(3) for i in range(4) if (j, i) != (k, b)]
        torch.testing.assert_close(mean.advantages[k, b], r[k, b] - sum(rest) / 11)


def test_a_group_that_agrees_teaches_nothing():
    logits, labels = batch((20, 4))
    with torch.no_grad():
        logits[torch.arange(20), (labels + torch.arange(20) % 2) % 4] += 1e3  # half right, for sure
    taken = rollout(logits, labels, draws=4, baseline="group", generator=generator())
    assert {1.0, -1.0} == set(taken.rewards.unique().tolist())
    assert gradient(rollout_loss(logits, taken), logits).abs().max() == 0


def test_a_single_action_has_no_mean_to_compare_with():
    logits, labels = batch((1, 4))
    taken = rollout(logits, labels, baseline="mean", generator=generator())
    assert torch.equal(taken.advantages, taken.rewards)


class TestClip:
    def case(self, advantage, moved):
        """Two classes; the action is the first, whose probability has moved since it was taken."""
        old = torch.zeros(1, 2, dtype=torch.float64)
        taken = taken_with(torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1).double(),
                           torch.full((1, 1), advantage).double(), old)  # fmt: skip
        logits = torch.tensor([[moved, 0.0]], dtype=torch.float64, requires_grad=True)
        loss = rollout_loss(logits, taken, clip=0.2)
        return loss, gradient(loss, logits), 2 * logits.softmax(1)[0, 0]

    @pytest.mark.parametrize("clip", [0.1, 0.2, math.inf])
    @pytest.mark.parametrize("baseline", ["none", "mean", "group"])
    def test_on_the_first_pass_it_is_the_unclipped_gradient(self, baseline, clip):
        logits, labels = batch((64, 10))
        taken = rollout(logits, labels, draws=3, baseline=baseline, generator=generator())
        clipped = rollout_loss(logits, taken, clip=clip)
        torch.testing.assert_close(
            gradient(clipped, logits), gradient(rollout_loss(logits, taken), logits)
        )
        torch.testing.assert_close(clipped, -taken.advantages.mean(0))  # every ratio is 1

    @pytest.mark.parametrize(
        ("advantage", "moved", "learns"),
        [
            (1.0, 1.0, False),  # good, and already more likely: enough
            (1.0, -1.0, True),  # good, yet less likely: still to be mended
            (-1.0, 1.0, True),  # bad, yet more likely: still to be mended
            (-1.0, -1.0, False),  # bad, and already less likely: enough
            (1.0, 0.1, True),
            (-1.0, -0.1, True),  # inside the bound
        ],
    )
    def test_zero_gradient_in_the_right_direction_only(self, advantage, moved, learns):
        loss, slope, ratio = self.case(advantage, moved)
        if learns:
            torch.testing.assert_close(loss, -(ratio * advantage)[None])
            assert slope[0, 0].sign() == -advantage
        else:
            assert slope.abs().max() == 0
            bound = 1.2 if moved > 0 else 0.8
            torch.testing.assert_close(loss, torch.tensor([-bound * advantage]).double())

    def test_without_a_bound_it_is_importance_weighting(self):
        logits, labels = batch((7, 3))
        taken = rollout(logits + torch.randn(7, 3, generator=generator()), labels, draws=2,
                        generator=generator())  # fmt: skip
        ratio = (logits.log_softmax(1).gather(1, taken.actions.T).T - taken.log_pi).exp()
        torch.testing.assert_close(
            rollout_loss(logits, taken, clip=math.inf), -(ratio * taken.rewards).mean(0)
        )


def test_entropy_and_its_gradient():
    logits, _ = batch((20, 5))
    pi = logits.detach().softmax(1)
    exact = -(pi * pi.log()).sum(1)
    ours = policy_entropy(logits)
    torch.testing.assert_close(ours, exact)
    torch.testing.assert_close(gradient(ours, logits), -pi * (pi.log() + exact[:, None]))
    masked = torch.tensor([[0.0, 0.0, -math.inf]], requires_grad=True)
    torch.testing.assert_close(policy_entropy(masked), torch.tensor([math.log(2)]))
    assert torch.isfinite(gradient(policy_entropy(masked), masked)).all()


def test_the_critic_learns_the_mean_reward():
    logits, labels = batch((5, 3))
    taken = rollout(logits, labels, penalty=0.5, draws=4, generator=generator())
    values = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    loss = value_loss(values, taken)
    torch.testing.assert_close(loss, 0.5 * taken.rewards.square().mean(0))
    torch.testing.assert_close(gradient(loss, values), -taken.rewards.mean(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1.0, 1e2, 1e4])
@pytest.mark.parametrize("baseline", ["none", "mean", "group", "value"])
def test_huge_logits_stay_finite(baseline, size, dtype):
    signs = torch.randint(0, 3, (200, 10), generator=generator()) - 1
    old = (size * signs).to(dtype)
    logits = old.flip(0).clone().requires_grad_()  # another policy: ratios over- and underflow
    labels = torch.randint(10, (200,), generator=generator())
    values = torch.full((200,), 1e4, dtype=dtype) if baseline == "value" else baseline
    taken = rollout(old, labels, draws=4, baseline=values, generator=generator())
    for clip in (0.0, 0.2, math.inf):
        loss = rollout_loss(logits, taken, clip=clip) - policy_entropy(logits)
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss).all()
        assert torch.isfinite(gradient(loss, logits)).all()


@pytest.mark.parametrize("baseline", ["none", "mean", "group"])
def test_amounts_per_class_and_tables_say_the_same(baseline):
    logits, labels = batch((64, 10))
    penalty = torch.linspace(0, 2, 10, dtype=torch.float64)
    table = (-penalty[labels])[:, None].repeat(1, 10).scatter(1, labels[:, None], 0.7)
    options = {"draws": 3, "baseline": baseline}
    by_class = rollout(
        logits, labels, reward=0.7, penalty=penalty, generator=generator(), **options
    )
    by_table = rollout(logits, None, rewards=table, generator=generator(), **options)
    for name in ("actions", "rewards", "advantages", "log_pi"):
        torch.testing.assert_close(getattr(by_class, name), getattr(by_table, name))


def test_several_draws_are_draws_of_the_policy():
    logits = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]], dtype=torch.float64)
    drawn = sample_actions(logits, generator(), 100_000)
    assert drawn.shape == (100_000, 2)
    pi = logits.softmax(1)
    for b in range(2):
        share = torch.bincount(drawn[:, b], minlength=3) / 100_000
        assert ((share - pi[b]).abs() <= 4 * (pi[b] * (1 - pi[b]) / 100_000).sqrt()).all()
    agree = (drawn[:, 0] == drawn[:, 1]).double().mean()  # independent of each other
    assert abs(agree - (pi[0] * pi[1]).sum()) < 4 * 0.5 / math.sqrt(100_000)


class TestModules:
    LOGITS, LABELS = batch((16, 10))

    def loss(self, **options):
        return PolicyLoss(1.5, actions="sampled", generator=generator(7), **options)

    def test_it_is_the_function(self):
        ours = self.loss(draws=4, baseline="group", reduction="none")(self.LOGITS, self.LABELS)
        taken = rollout(
            self.LOGITS, self.LABELS, penalty=1.5, draws=4, baseline="group", generator=generator(7)
        )
        torch.testing.assert_close(ours, rollout_loss(self.LOGITS, taken))

    @pytest.mark.parametrize("actions", ["greedy", "sampled", "expected"])
    @pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
    def test_entropy_goes_with_every_action(self, actions, reduction):
        losses = [
            PolicyLoss(actions=actions, entropy=c, reduction=reduction, generator=generator())(
                self.LOGITS, self.LABELS
            )
            for c in (0.0, 0.3)
        ]
        bonus = getattr(policy_entropy(self.LOGITS), reduction, lambda: policy_entropy(self.LOGITS))
        torch.testing.assert_close(losses[1], losses[0] - 0.3 * bonus())

    def test_begin_keeps_the_actions_until_the_next(self):
        loss = self.loss(clip=0.2, passes=3)
        loss.begin()
        first = gradient(loss(self.LOGITS, self.LABELS), self.LOGITS)
        torch.testing.assert_close(gradient(loss(self.LOGITS, self.LABELS), self.LOGITS), first)
        loss.begin()
        assert not torch.equal(gradient(loss(self.LOGITS, self.LABELS), self.LOGITS), first)
        plain = self.loss()
        values = {plain(self.LOGITS, self.LABELS).item() for _ in range(5)}
        assert len(values) == 5  # without begin() every call acts anew
        plain.begin()
        assert plain(self.LOGITS, self.LABELS) == plain(self.LOGITS, self.LABELS)
        with pytest.raises(UserError, match="taken on 16 samples, these logits are of 15"):
            plain(self.LOGITS[:15], self.LABELS[:15])

    def test_a_critic(self):
        values = torch.linspace(-1, 1, 16, dtype=torch.float64, requires_grad=True)
        loss = self.loss(baseline="value", value_weight=0.3)
        given = loss(self.LOGITS, self.LABELS, values=values)
        taken = rollout(self.LOGITS, self.LABELS, penalty=1.5, baseline=values,
                        generator=generator(7))  # fmt: skip
        exact = (rollout_loss(self.LOGITS, taken) + 0.3 * value_loss(values, taken)).mean()
        torch.testing.assert_close(given, exact)
        critic = gradient(0.3 * value_loss(values, taken).mean(), values)
        torch.testing.assert_close(gradient(given, values), critic)  # none through the advantage

    def test_a_reward_table_without_labels(self):
        table = torch.randn(16, 10, dtype=torch.float64)
        loss = self.loss(baseline="mean", reward_fn=lambda x, y: table)
        assert torch.isfinite(loss(self.LOGITS, None))

    def test_the_options_are_those_of_stage_2(self):
        loss = TwoStageLoss(actions="sampled", draws=4, baseline="group", passes=2, clip=0.1)
        assert loss.passes == 1
        loss.begin()
        assert loss(self.LOGITS, self.LABELS) != loss(self.LOGITS, self.LABELS)  # Eq. 12, anew
        loss.observe(0.9)
        assert loss.passes == 2
        assert loss(self.LOGITS, self.LABELS) == loss(self.LOGITS, self.LABELS)
        assert list(loss.state_dict()) == ["_extra_state"]

    def test_an_empty_batch_has_no_loss(self):
        for options in ({"baseline": "mean"}, {"draws": 2, "baseline": "group"}, {"entropy": 1.0}):
            assert self.loss(**options)(self.LOGITS[:0], self.LABELS[:0]) == 0


C, Y = TestModules.LOGITS, TestModules.LABELS
REFUSED = [
    (lambda: rollout(C, Y, draws=0), "draws is 0"),
    (lambda: rollout(C, Y, draws=1.5), "draws is 1.5"),
    (lambda: rollout(C, Y, baseline="best"), "none, mean, group, value"),
    (lambda: rollout(C, Y, baseline="group"), "at least 2 draws"),
    (lambda: rollout(C, Y, baseline="value"), "needs a critic's values"),
    (lambda: rollout(C, Y, baseline=torch.zeros(16, 1)), r"values have shape \(16, 1\)"),
    (lambda: rollout(C, Y.float()), "labels are torch.float32"),
    (lambda: rollout(C, None), "labels is None"),
    (lambda: rollout(C, Y + 9, validate=True), "outside"),
    (lambda: PolicyLoss(draws=2), "draws needs sampled actions, not greedy"),
    (lambda: PolicyLoss(actions="expected", baseline="mean"), "baseline needs sampled actions"),
    (lambda: PolicyLoss(clip=0.2), "clip needs sampled actions"),
    (lambda: PolicyLoss(passes=2), "passes needs sampled actions"),
    (lambda: PolicyLoss(actions="sampled", passes=0), "passes is 0"),
    (lambda: PolicyLoss(actions="sampled", clip=-0.1), "clip is -0.1"),
    (lambda: PolicyLoss(actions="sampled", clip=math.nan), "clip is nan"),
    (lambda: PolicyLoss(entropy=-1.0), "entropy is -1"),
    (lambda: PolicyLoss(entropy=math.inf), "entropy is inf"),
    (lambda: PolicyLoss(actions="sampled", value_weight=-1.0), "value_weight is -1"),
    (lambda: PolicyLoss(actions="sampled", baseline="value")(C, Y), "values is None"),
    (lambda: TwoStageLoss(draws=2), "draws needs sampled actions"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(UserError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
