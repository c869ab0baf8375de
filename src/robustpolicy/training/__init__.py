"""Training: recipes, run folders, the loop. Nothing is imported before it is used, so that the
recipes can be read without torch.
"""

from robustpolicy.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Interrupted": "signals",
        "Monitor": "monitor",
        "RECIPES": "recipes",
        "Recipe": "recipe",
        "RewardModel": "reward_model",
        "Run": "run",
        "get_recipe": "recipes",
        "load_recipe": "recipe",
        "train": "trainer",
        "train_fused": "fused",
    },
)
