"""What the agent tells its model: the system prompt with the user's wishes, after Mealworm's per-user prompts."""

from __future__ import annotations

from examples.mealworm.domain import Profile, Request
from spanloop.records import Message, Role, TextPart

RULES = (
    "You are mealworm, a meal planning agent.\n",
    "First look at the historical meals.\n",
    "Search once for each kind of dish the user wants.\n",
    "Use only recipes a search returned, never a listing page.\n",
    "Never use a historical meal or an ingredient the user must not have.\n",
    "Write one file with the exact number of dishes, then name them in your answer.\n",
    "Call one tool at a time, without narration.\n",
)

FISH_LINE = "Fish dishes: "
CHICKEN_LINE = "Chicken dishes: "
DIET_LINE = "Diet: "
DISLIKES_LINE = "Dislikes: "
LOVES_LINE = "Loves: "


def system_prompt(profile: Profile) -> str:
    """The rules of the agent and the wishes of one user."""
    wishes = (
        f"{FISH_LINE}{profile.num_fish}",
        f"{CHICKEN_LINE}{profile.num_chicken}",
        f"{DIET_LINE}{profile.diet}",
        f"{DISLIKES_LINE}{', '.join(profile.dislikes)}",
        f"{LOVES_LINE}{profile.loves}",
    )
    return "".join(RULES) + "\n".join(wishes)


def opening(request: Request) -> tuple[Message, ...]:
    """The messages an episode starts from."""
    return (
        Message(role=Role.SYSTEM, parts=(TextPart(text=system_prompt(request.profile)),)),
        Message(role=Role.USER, parts=(TextPart(text=request.text),)),
    )
