"""Reward specifications: weights, gates, python checks, the cache, and what a wrong file is told."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.unit.trainer.factories import call, calls, make_answer, make_point, says, write
from trainer.errors import RewardSpecError
from trainer.rewards.spec import load_reward_model

DOCS = Path(__file__).parents[4] / "docs"

WEIGHTED = """
name = "test"
[[criteria]]
name = "valid"
check = "tool_calls_valid"
weight = 3
[[criteria]]
name = "done"
check = "finished"
weight = 1
[[gates]]
criterion = "valid"
threshold = 0.9
cap = 0.1
"""


def python_spec(folder: Path, source: str, *, weight: float = 1, gate: str = "") -> Path:
    """A specification with one python check beside it and `finished`."""
    write(folder / "checks.py", source)
    return write(
        folder / "rewards.toml",
        f'[[criteria]]\nname = "own"\ncheck = "python:checks:judge"\nweight = {weight}\n'
        f'[[criteria]]\nname = "done"\ncheck = "finished"\n{gate}',
    )


def score(spec: Path, message, **given):
    """The reward of one answer."""
    return load_reward_model(spec).score_group([make_answer(message, **given)])[0]


def test_the_reward_is_the_weighted_mean(tmp_path):
    """(3 x 1 + 1 x 0) / 4, the gate open."""
    spec = write(tmp_path / "r.toml", WEIGHTED)
    reward = score(spec, calls(call("search", '{"query": "a"}')), finish_reason="length")
    assert (0.75, ()) == (reward.value, reward.failed_gates)
    assert [("valid", 1.0), ("done", 0.0)] == [(item.name, item.value) for item in reward.criteria]


def test_a_failed_gate_caps_the_reward(tmp_path):
    """(3 x 0.5 + 1 x 1) / 4 = 0.625, capped at 0.1 because 0.5 < 0.9."""
    spec = write(tmp_path / "r.toml", WEIGHTED)
    reward = score(spec, calls(call("search", '{"query": "a"}'), call("no", "{}", call_id="c2")))
    assert (0.1, ("valid",)) == (reward.value, reward.failed_gates)


def test_a_score_at_the_threshold_passes_the_gate(tmp_path):
    """The gate fails below 0.5, not at 0.5: (3 x 0.5 + 1 x 1) / 4 = 0.625."""
    spec = write(tmp_path / "r.toml", WEIGHTED.replace("threshold = 0.9", "threshold = 0.5"))
    reward = score(spec, calls(call("search", '{"query": "a"}'), call("no", "{}", call_id="c2")))
    assert (0.625, ()) == (reward.value, reward.failed_gates)


def test_a_cap_never_lifts_a_lower_reward(tmp_path):
    """Both criteria 0: the reward is 0, not the cap."""
    spec = write(tmp_path / "r.toml", WEIGHTED)
    assert 0.0 == score(spec, calls(call("no", "{}")), finish_reason="length").value


def test_an_unscored_criterion_leaves_sum_and_weights(tmp_path):
    """An answer without calls is judged on the other criterion alone, and its gate stands open."""
    spec = write(tmp_path / "r.toml", WEIGHTED)
    reward = score(spec, says("a plan"))
    assert (1.0, ()) == (reward.value, reward.failed_gates)
    assert reward.criteria[0].value is None


def test_nothing_scored_is_unscored_and_not_zero(tmp_path):
    """`None`, with a reason."""
    spec = write(tmp_path / "r.toml", '[[criteria]]\nname = "valid"\ncheck = "tool_calls_valid"\n')
    reward = score(spec, says("a plan"))
    assert reward.value is None
    assert "no weighted criterion could be scored" == reward.metadata["reason"]


@pytest.mark.parametrize(
    ("returned", "expected"),
    [("0.25", 0.25), ("True", 1.0), ("0", 0.0), ("(0.5, 'half')", 0.5), ("None", None)],
)
def test_a_python_check_returns_a_number_a_bool_none_or_a_pair(tmp_path, returned, expected):
    """Every documented form of a result."""
    spec = python_spec(tmp_path, f"def judge(answer):\n    return {returned}\n")
    criterion = score(spec, says("x")).criteria[0]
    assert (expected, False) == (criterion.value, criterion.broken)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise KeyError('the secret ' + answer.message.text)", "the check raised KeyError at checks.py:2"),
        ("return 1.5", "the check returned 1.5, not [0, 1]"),
        ("return float('nan')", "the check returned nan, not [0, 1]"),
        ("return 'good'", "the check returned a str, not [0, 1]"),
    ],
)
def test_a_check_that_breaks_leaves_its_criterion_unscored_and_is_counted(tmp_path, caplog, body, reason):
    """The others still score; the reason and the log quote no user data."""
    model = load_reward_model(python_spec(tmp_path, f"def judge(answer):\n    {body}\n"))
    with caplog.at_level(logging.WARNING):
        rewards = model.score_group([make_answer(says("Ann's diary")), make_answer(says("Bob's diary"))])
    assert [1.0, 1.0] == [reward.value for reward in rewards]
    assert (None, reason, True) == (rewards[0].criteria[0].value, rewards[0].criteria[0].reason, True)
    assert {f"own: {reason}": 2} == dict(model.broken)
    assert 1 == len(caplog.records)
    assert "diary" not in caplog.text


def test_a_broken_check_behind_a_gate_leaves_the_answer_unscored(tmp_path):
    """Nobody knows whether the answer is correct, so it earns nothing and loses nothing."""
    gate = '[[gates]]\ncriterion = "own"\ncap = 0.1\n'
    reward = score(python_spec(tmp_path, "def judge(answer):\n    raise ValueError\n", gate=gate), says("x"))
    assert reward.value is None
    assert "the check behind a gate failed: own" == reward.metadata["reason"]


def test_two_specifications_may_each_have_a_checks_module(tmp_path):
    """Modules beside specifications do not shadow each other."""
    for name, value in (("a", 0.25), ("b", 0.75)):
        (tmp_path / name).mkdir()
        python_spec(tmp_path / name, f"def judge(answer):\n    return {value}\n")
    rewards = [score(tmp_path / name / "rewards.toml", says("x")).criteria[0].value for name in "ab"]
    assert [0.25, 0.75] == rewards


def test_parameters_reach_the_check_and_wrong_ones_are_refused(tmp_path):
    """A misspelt parameter fails when the file is loaded, with the valid names."""
    good = python_spec(tmp_path, "def judge(answer, limit):\n    return limit / 10\n")
    good.write_text(good.read_text().replace("weight = 1", "parameters = { limit = 4 }", 1))
    assert 0.4 == score(good, says("x")).criteria[0].value
    good.write_text(good.read_text().replace("limit", "limt"))
    with pytest.raises(RewardSpecError, match=r"criterion 'own': parameters: .*takes limit"):
        load_reward_model(good)


def test_equal_answers_are_scored_once_and_another_finish_reason_is_another_answer(tmp_path):
    """The cache is keyed by state, answer and specification."""
    source = "seen = []\ndef judge(answer):\n    seen.append(1)\n    return 1 / len(seen)\n"
    model = load_reward_model(python_spec(tmp_path, source))
    same = make_answer(says("x"))
    other_end, other_state = (
        make_answer(says("x"), finish_reason="length"),
        make_answer(says("x"), point=make_point("e2:0")),
    )
    rewards = model.score_group([same, same, other_end, other_state])
    assert [1.0, 1.0, 0.5, pytest.approx(1 / 3)] == [reward.criteria[0].value for reward in rewards]
    assert (1, 3) == (model.cache.hits, model.cache.misses)


def test_a_cache_of_no_entries_remembers_nothing(tmp_path):
    """`cache_entries_max = 0` scores every answer."""
    source = "seen = []\ndef judge(answer):\n    seen.append(1)\n    return 1 / len(seen)\n"
    model = load_reward_model(python_spec(tmp_path, source), cache_entries_max=0)
    same = make_answer(says("x"))
    assert [1.0, 0.5] == [reward.criteria[0].value for reward in model.score_group([same, same])]


def test_other_code_is_another_specification(tmp_path):
    """The hash covers the source of python checks, so that records say what scored them."""
    first = load_reward_model(python_spec(tmp_path, "def judge(answer):\n    return 1\n")).spec_hash
    again = load_reward_model(tmp_path / "rewards.toml").spec_hash
    other = load_reward_model(python_spec(tmp_path, "def judge(answer):\n    return 0\n")).spec_hash
    assert first == again
    assert first != other


def test_code_a_check_imports_from_its_folder_counts_too(tmp_path):
    """A changed helper is another specification, also when only a constant comes from it."""
    name = f"helper_{tmp_path.name.replace('-', '_')}"
    hashes = []
    for value in (1, 1, 0):
        write(tmp_path / f"{name}.py", f"LIMIT = {value}\n")
        source = f"from {name} import LIMIT\ndef judge(answer):\n    return LIMIT\n"
        hashes.append(load_reward_model(python_spec(tmp_path, source)).spec_hash)
    assert hashes[0] == hashes[1]
    assert hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[criteria]]\nname = "a"\ncheck = "finised"\n', "unknown check 'finised'; did you mean 'finished'?"),
        ('[[criteria]]\nname = "a"\ncheck = "finished"\nweigth = 1\n', "did you mean criteria.weight?"),
        ('[[criteria]]\nname = "a"\ncheck = "finished"\n[[gates]]\ncriterion = "b"\ncap = 0\n', "valid are a"),
        ('[[criteria]]\nname = "a"\ncheck = "finished"\n[[gates]]\ncriterion = "a"\ncap = 2\n', "gates.0.cap"),
        ('[[criteria]]\nname = "a"\ncheck = "finished"\n' * 2, "'a' stands twice"),
        ('[[criteria]]\nname = "a"\ncheck = "python:nowhere:f"\n', "no module 'nowhere'"),
        ('[[criteria]]\nname = "a"\ncheck = "python:json:lods"\n', "json has no function 'lods'; it has"),
        ('[[criteria]]\nname = "a"\ncheck = "python:json"\n', "write python:module:function"),
        ('name = "empty"\n', "criteria: Field required"),
        ("[[criteria\n", "not valid TOML"),
    ],
)
def test_a_wrong_specification_names_file_key_and_what_is_valid(tmp_path, text, told):
    """Each mistake fails at load time."""
    spec = write(tmp_path / "rewards.toml", text)
    with pytest.raises(RewardSpecError) as error:
        load_reward_model(spec)
    assert told in str(error.value)
    assert str(spec) in str(error.value)


def test_a_missing_specification_is_named(tmp_path):
    """The remedy is in the message."""
    with pytest.raises(RewardSpecError, match=r"not found; set reward\.spec"):
        load_reward_model(tmp_path / "no.toml")


def test_the_documented_example_loads():
    """The example specification of the docs is valid and its gate works."""
    reward = score(DOCS / "example-rewards.toml", calls(call("cook", "{}")))
    assert (0.1, ("tool_calls",)) == (reward.value, reward.failed_gates)
