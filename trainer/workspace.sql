-- The trainer's own database: every stage's records, joined by ids from gradient step down to the recorded span.
-- gradient step (updates) ← groups ← rollouts ← rewards ← criterion_scores, and groups ← decision_points ← span.

CREATE TABLE IF NOT EXISTS workspace_info (key VARCHAR PRIMARY KEY, value VARCHAR NOT NULL);
COMMENT ON TABLE workspace_info IS 'Facts of the file itself';
COMMENT ON COLUMN workspace_info.key IS 'schema_version, or another fact';
COMMENT ON COLUMN workspace_info.value IS 'Its value, as text';

CREATE TABLE IF NOT EXISTS pulls (
  pull_id VARCHAR PRIMARY KEY, source VARCHAR NOT NULL, pulled_at TIMESTAMP NOT NULL, filters JSON,
  episodes_new BIGINT NOT NULL, episodes_revised BIGINT NOT NULL, episodes_unchanged BIGINT NOT NULL,
  points_added BIGINT NOT NULL, points_refused BIGINT NOT NULL);
COMMENT ON TABLE pulls IS 'Each reading of a source';
COMMENT ON COLUMN pulls.pull_id IS 'Key';
COMMENT ON COLUMN pulls.source IS 'File the episodes were read from';
COMMENT ON COLUMN pulls.pulled_at IS 'When, UTC';
COMMENT ON COLUMN pulls.filters IS 'Which episodes were asked for';
COMMENT ON COLUMN pulls.episodes_new IS 'Episodes the workspace did not have';
COMMENT ON COLUMN pulls.episodes_revised IS 'Episodes of which the source had a newer revision';
COMMENT ON COLUMN pulls.episodes_unchanged IS 'Episodes already here in this revision';
COMMENT ON COLUMN pulls.points_added IS 'Decision points written';
COMMENT ON COLUMN pulls.points_refused IS 'Decision points whose messages could not be read';

CREATE TABLE IF NOT EXISTS episodes (
  episode_id VARCHAR PRIMARY KEY, revision INTEGER NOT NULL, conversation_id VARCHAR, agent_name VARCHAR,
  dialect VARCHAR, status VARCHAR, pull_id VARCHAR NOT NULL);
COMMENT ON TABLE episodes IS 'The newest pulled revision of each episode';
COMMENT ON COLUMN episodes.episode_id IS 'As in the source';
COMMENT ON COLUMN episodes.revision IS 'As in the source; a late span makes a new one';
COMMENT ON COLUMN episodes.conversation_id IS 'Session or thread; what pools are split by';
COMMENT ON COLUMN episodes.agent_name IS 'The agent';
COMMENT ON COLUMN episodes.dialect IS 'Convention its spans follow';
COMMENT ON COLUMN episodes.status IS 'How it ended: ok, error, incomplete';
COMMENT ON COLUMN episodes.pull_id IS 'The pull that brought this revision';

CREATE TABLE IF NOT EXISTS decision_points (
  point_id VARCHAR NOT NULL, revision INTEGER NOT NULL, episode_id VARCHAR NOT NULL, step_index INTEGER NOT NULL,
  conversation_id VARCHAR, agent_name VARCHAR, model VARCHAR, dialect VARCHAR, messages JSON, tools JSON, action JSON,
  finish_reason VARCHAR, trainable BOOLEAN NOT NULL, quality_flags VARCHAR[] NOT NULL, trace_id VARCHAR,
  span_id VARCHAR, started_at BIGINT, state_hash VARCHAR NOT NULL, num_chars BIGINT NOT NULL, pull_id VARCHAR NOT NULL,
  PRIMARY KEY (point_id, revision));
COMMENT ON TABLE decision_points IS 'Steps a policy can be asked again at, every pulled revision; the view current_points has the newest';
COMMENT ON COLUMN decision_points.point_id IS '<episode_id>:<step_index>';
COMMENT ON COLUMN decision_points.revision IS 'Revision of the episode it was read from';
COMMENT ON COLUMN decision_points.episode_id IS 'Its episode';
COMMENT ON COLUMN decision_points.step_index IS '0-based position in the episode';
COMMENT ON COLUMN decision_points.conversation_id IS 'Its conversation, when known';
COMMENT ON COLUMN decision_points.agent_name IS 'The agent';
COMMENT ON COLUMN decision_points.model IS 'The model that acted when it was recorded';
COMMENT ON COLUMN decision_points.dialect IS 'Convention of the span';
COMMENT ON COLUMN decision_points.messages IS 'The state, in OpenAI chat form';
COMMENT ON COLUMN decision_points.tools IS 'Tools the model could call, in OpenAI chat form';
COMMENT ON COLUMN decision_points.action IS 'What the recorded policy answered, in OpenAI chat form';
COMMENT ON COLUMN decision_points.finish_reason IS 'Why the recorded answer ended';
COMMENT ON COLUMN decision_points.trainable IS 'Whether the state is complete and unambiguous';
COMMENT ON COLUMN decision_points.quality_flags IS 'Why it is not fully trustworthy';
COMMENT ON COLUMN decision_points.trace_id IS 'Trace of the span that reported the call';
COMMENT ON COLUMN decision_points.span_id IS 'The span that reported the call';
COMMENT ON COLUMN decision_points.started_at IS 'Nanoseconds since the epoch, UTC';
COMMENT ON COLUMN decision_points.state_hash IS 'Equal for equal prompts';
COMMENT ON COLUMN decision_points.num_chars IS 'Length of messages and tools as JSON';
COMMENT ON COLUMN decision_points.pull_id IS 'The pull that brought it';

CREATE TABLE IF NOT EXISTS runs (
  run_id VARCHAR PRIMARY KEY, created_at TIMESTAMP NOT NULL, control VARCHAR, seed BIGINT NOT NULL,
  config JSON NOT NULL, base VARCHAR NOT NULL, reward_name VARCHAR NOT NULL, spec_hash VARCHAR NOT NULL,
  reward_spec JSON NOT NULL, max_steps INTEGER NOT NULL, left_out JSON NOT NULL);
COMMENT ON TABLE runs IS 'Training runs; the view run_status adds how far each came';
COMMENT ON COLUMN runs.run_id IS 'Key, in the order of creation';
COMMENT ON COLUMN runs.created_at IS 'When, UTC';
COMMENT ON COLUMN runs.control IS 'shuffled: rewards were permuted, so that nothing can be learned; such a run is never promoted';
COMMENT ON COLUMN runs.seed IS 'train.seed';
COMMENT ON COLUMN runs.config IS 'The resolved configuration';
COMMENT ON COLUMN runs.base IS 'Directory of the base policy';
COMMENT ON COLUMN runs.reward_name IS 'Name in the reward specification';
COMMENT ON COLUMN runs.spec_hash IS 'Hash of the reward specification and its python checks';
COMMENT ON COLUMN runs.reward_spec IS 'The reward specification';
COMMENT ON COLUMN runs.max_steps IS 'Steps planned';
COMMENT ON COLUMN runs.left_out IS 'Candidate points left out, counted by reason';

CREATE TABLE IF NOT EXISTS run_events (run_id VARCHAR NOT NULL, happened_at TIMESTAMP NOT NULL, event VARCHAR NOT NULL, detail VARCHAR);
COMMENT ON TABLE run_events IS 'What happened to a run: started, resumed, interrupted, failed, finished';
COMMENT ON COLUMN run_events.run_id IS 'The run';
COMMENT ON COLUMN run_events.happened_at IS 'When, UTC';
COMMENT ON COLUMN run_events.event IS 'started, resumed, interrupted, failed or finished';
COMMENT ON COLUMN run_events.detail IS 'What more there is to say';

CREATE TABLE IF NOT EXISTS run_points (
  run_id VARCHAR NOT NULL, point_id VARCHAR NOT NULL, revision INTEGER NOT NULL, state_hash VARCHAR NOT NULL,
  pool VARCHAR NOT NULL, multiplicity INTEGER NOT NULL);
COMMENT ON TABLE run_points IS 'How a run split its points';
COMMENT ON COLUMN run_points.run_id IS 'The run';
COMMENT ON COLUMN run_points.point_id IS 'The point that stands for its state';
COMMENT ON COLUMN run_points.revision IS 'Of the point';
COMMENT ON COLUMN run_points.state_hash IS 'The state';
COMMENT ON COLUMN run_points.pool IS 'train, validation or heldout';
COMMENT ON COLUMN run_points.multiplicity IS 'Recorded points with this state';

CREATE TABLE IF NOT EXISTS updates (
  run_id VARCHAR NOT NULL, step INTEGER NOT NULL, policy_version INTEGER NOT NULL, checkpoint_id VARCHAR NOT NULL,
  num_groups INTEGER NOT NULL, num_groups_trained INTEGER NOT NULL, reward_mean DOUBLE, metrics JSON NOT NULL,
  seconds DOUBLE NOT NULL, ended_at TIMESTAMP NOT NULL, PRIMARY KEY (run_id, step));
COMMENT ON TABLE updates IS 'Gradient steps';
COMMENT ON COLUMN updates.run_id IS 'The run';
COMMENT ON COLUMN updates.step IS '1-based';
COMMENT ON COLUMN updates.policy_version IS 'Version after the step; the step answered with the version before';
COMMENT ON COLUMN updates.checkpoint_id IS 'Where the policy was saved';
COMMENT ON COLUMN updates.num_groups IS 'Points answered';
COMMENT ON COLUMN updates.num_groups_trained IS 'Groups that had something to teach';
COMMENT ON COLUMN updates.reward_mean IS 'Mean reward of the scored answers, before the step';
COMMENT ON COLUMN updates.metrics IS 'What the engine measured: loss, gradient norm, clip fraction, …';
COMMENT ON COLUMN updates.seconds IS 'Duration of the whole step, seconds';
COMMENT ON COLUMN updates.ended_at IS 'When, UTC';

CREATE TABLE IF NOT EXISTS groups (
  group_id VARCHAR PRIMARY KEY, run_id VARCHAR NOT NULL, step INTEGER NOT NULL, point_id VARCHAR NOT NULL,
  revision INTEGER NOT NULL, num_rollouts INTEGER NOT NULL, num_scored INTEGER NOT NULL, reward_mean DOUBLE,
  reward_std DOUBLE, drop_reason VARCHAR, prompt_token_ids INTEGER[]);
COMMENT ON TABLE groups IS 'The answers to one point in one step';
COMMENT ON COLUMN groups.group_id IS 'Key';
COMMENT ON COLUMN groups.run_id IS 'The run';
COMMENT ON COLUMN groups.step IS 'The gradient step it went into, or would have';
COMMENT ON COLUMN groups.point_id IS 'The decision point';
COMMENT ON COLUMN groups.revision IS 'Of the decision point';
COMMENT ON COLUMN groups.num_rollouts IS 'Answers sampled';
COMMENT ON COLUMN groups.num_scored IS 'Answers with a reward';
COMMENT ON COLUMN groups.reward_mean IS 'Of the scored answers';
COMMENT ON COLUMN groups.reward_std IS 'Of the scored answers, over n';
COMMENT ON COLUMN groups.drop_reason IS 'Why it was not trained on; NULL: it was';
COMMENT ON COLUMN groups.prompt_token_ids IS 'The prompt as the policy saw it';

CREATE TABLE IF NOT EXISTS evaluations (
  evaluation_id VARCHAR PRIMARY KEY, run_id VARCHAR NOT NULL, pool VARCHAR NOT NULL, policy VARCHAR NOT NULL,
  policy_version INTEGER, temperature DOUBLE, num_samples INTEGER NOT NULL, num_points INTEGER NOT NULL,
  reward_mean DOUBLE, num_unscored INTEGER NOT NULL, spec_hash VARCHAR NOT NULL, evaluated_at TIMESTAMP NOT NULL);
COMMENT ON TABLE evaluations IS 'One policy asked at the points of one pool at one temperature';
COMMENT ON COLUMN evaluations.evaluation_id IS 'Key';
COMMENT ON COLUMN evaluations.run_id IS 'The run it belongs to';
COMMENT ON COLUMN evaluations.pool IS 'train, validation or heldout';
COMMENT ON COLUMN evaluations.policy IS 'recorded, base or tuned';
COMMENT ON COLUMN evaluations.policy_version IS 'Of the tuned policy; 0 is the base, NULL the recorded one';
COMMENT ON COLUMN evaluations.temperature IS 'Of sampling; 0 is greedy, NULL the recorded policy, whose temperature is unknown';
COMMENT ON COLUMN evaluations.num_samples IS 'Answers per point';
COMMENT ON COLUMN evaluations.num_points IS 'Points asked';
COMMENT ON COLUMN evaluations.reward_mean IS 'Mean over points of each point''s mean reward';
COMMENT ON COLUMN evaluations.num_unscored IS 'Answers without a reward, left out of every mean';
COMMENT ON COLUMN evaluations.spec_hash IS 'Reward specification';
COMMENT ON COLUMN evaluations.evaluated_at IS 'When, UTC';

CREATE TABLE IF NOT EXISTS rollouts (
  rollout_id VARCHAR PRIMARY KEY, run_id VARCHAR NOT NULL, group_id VARCHAR, evaluation_id VARCHAR,
  point_id VARCHAR NOT NULL, revision INTEGER NOT NULL, rollout_index INTEGER NOT NULL, policy_version INTEGER NOT NULL,
  temperature DOUBLE NOT NULL, token_ids INTEGER[] NOT NULL, logprobs FLOAT[] NOT NULL, message JSON NOT NULL,
  finish_reason VARCHAR NOT NULL);
COMMENT ON TABLE rollouts IS 'Sampled answers, token by token';
COMMENT ON COLUMN rollouts.rollout_id IS 'Key';
COMMENT ON COLUMN rollouts.run_id IS 'The run';
COMMENT ON COLUMN rollouts.group_id IS 'Its group, when it was sampled to train on';
COMMENT ON COLUMN rollouts.evaluation_id IS 'Its evaluation, when it was sampled to compare policies';
COMMENT ON COLUMN rollouts.point_id IS 'The decision point';
COMMENT ON COLUMN rollouts.revision IS 'Of the decision point';
COMMENT ON COLUMN rollouts.rollout_index IS '0-based position among the answers to this point';
COMMENT ON COLUMN rollouts.policy_version IS 'Of the policy that answered';
COMMENT ON COLUMN rollouts.temperature IS 'Of sampling';
COMMENT ON COLUMN rollouts.token_ids IS 'What was sampled and, in a group, trained';
COMMENT ON COLUMN rollouts.logprobs IS 'Of each token under the policy that sampled it';
COMMENT ON COLUMN rollouts.message IS 'The tokens parsed, in OpenAI chat form';
COMMENT ON COLUMN rollouts.finish_reason IS 'stop, tool_calls or length';

CREATE TABLE IF NOT EXISTS rewards (
  reward_id VARCHAR PRIMARY KEY, run_id VARCHAR NOT NULL, rollout_id VARCHAR, evaluation_id VARCHAR,
  point_id VARCHAR NOT NULL, revision INTEGER NOT NULL, value DOUBLE, trained_value DOUBLE,
  failed_gates VARCHAR[] NOT NULL, reason VARCHAR, spec_hash VARCHAR NOT NULL);
COMMENT ON TABLE rewards IS 'The reward of each answer, sampled or recorded';
COMMENT ON COLUMN rewards.reward_id IS 'Key';
COMMENT ON COLUMN rewards.run_id IS 'The run';
COMMENT ON COLUMN rewards.rollout_id IS 'The sampled answer; NULL: the recorded action of the point';
COMMENT ON COLUMN rewards.evaluation_id IS 'The evaluation, outside training';
COMMENT ON COLUMN rewards.point_id IS 'The decision point';
COMMENT ON COLUMN rewards.revision IS 'Of the decision point';
COMMENT ON COLUMN rewards.value IS 'In [0, 1]; NULL: unscored, never read as 0';
COMMENT ON COLUMN rewards.trained_value IS 'What the update used: equals value, except in a control run';
COMMENT ON COLUMN rewards.failed_gates IS 'Criteria whose gates capped the value';
COMMENT ON COLUMN rewards.reason IS 'Why it is unscored';
COMMENT ON COLUMN rewards.spec_hash IS 'Reward specification';

CREATE TABLE IF NOT EXISTS criterion_scores (
  reward_id VARCHAR NOT NULL, name VARCHAR NOT NULL, value DOUBLE, reason VARCHAR, broken BOOLEAN NOT NULL);
COMMENT ON TABLE criterion_scores IS 'What each criterion said of an answer';
COMMENT ON COLUMN criterion_scores.reward_id IS 'The reward it went into';
COMMENT ON COLUMN criterion_scores.name IS 'The criterion';
COMMENT ON COLUMN criterion_scores.value IS 'In [0, 1]; NULL: does not apply, or could not be scored';
COMMENT ON COLUMN criterion_scores.reason IS 'In words';
COMMENT ON COLUMN criterion_scores.broken IS 'The check itself failed';

CREATE TABLE IF NOT EXISTS checkpoints (
  checkpoint_id VARCHAR PRIMARY KEY, run_id VARCHAR NOT NULL, step INTEGER NOT NULL, policy_version INTEGER NOT NULL,
  path VARCHAR NOT NULL, saved_at TIMESTAMP NOT NULL);
COMMENT ON TABLE checkpoints IS 'Where policies were saved';
COMMENT ON COLUMN checkpoints.checkpoint_id IS '<run_id>:<step>';
COMMENT ON COLUMN checkpoints.run_id IS 'The run';
COMMENT ON COLUMN checkpoints.step IS 'The gradient step it was saved after';
COMMENT ON COLUMN checkpoints.policy_version IS 'Version of the policy in it';
COMMENT ON COLUMN checkpoints.path IS 'Directory; relative to the workspace when it lies inside';
COMMENT ON COLUMN checkpoints.saved_at IS 'When, UTC';

CREATE TABLE IF NOT EXISTS comparisons (
  comparison_id VARCHAR PRIMARY KEY, run_id VARCHAR NOT NULL, pool VARCHAR NOT NULL, baseline VARCHAR NOT NULL,
  candidate VARCHAR NOT NULL, temperature DOUBLE NOT NULL, aspect VARCHAR NOT NULL, step_index INTEGER,
  policy_version INTEGER NOT NULL, baseline_mean DOUBLE, candidate_mean DOUBLE, gain DOUBLE, gain_low DOUBLE,
  gain_high DOUBLE, relative_gain DOUBLE, relative_low DOUBLE, relative_high DOUBLE, num_points INTEGER NOT NULL,
  num_clusters INTEGER NOT NULL, num_unscored INTEGER NOT NULL, confidence DOUBLE NOT NULL,
  num_bootstrap INTEGER NOT NULL, compared_at TIMESTAMP NOT NULL);
COMMENT ON TABLE comparisons IS 'Paired comparisons of two policies, intervals clustered by conversation';
COMMENT ON COLUMN comparisons.comparison_id IS 'Key';
COMMENT ON COLUMN comparisons.run_id IS 'The run';
COMMENT ON COLUMN comparisons.pool IS 'The points compared on';
COMMENT ON COLUMN comparisons.baseline IS 'recorded or base';
COMMENT ON COLUMN comparisons.candidate IS 'base or tuned';
COMMENT ON COLUMN comparisons.temperature IS 'Of the sampled policies; 0 is greedy';
COMMENT ON COLUMN comparisons.aspect IS 'reward, or the name of a criterion';
COMMENT ON COLUMN comparisons.step_index IS 'Only points of this step index; NULL: all';
COMMENT ON COLUMN comparisons.policy_version IS 'Of the candidate';
COMMENT ON COLUMN comparisons.baseline_mean IS 'Over the compared points';
COMMENT ON COLUMN comparisons.candidate_mean IS 'Over the compared points';
COMMENT ON COLUMN comparisons.gain IS 'Candidate minus baseline';
COMMENT ON COLUMN comparisons.gain_low IS 'Lower bound of the interval; NULL with fewer than two conversations';
COMMENT ON COLUMN comparisons.gain_high IS 'Upper bound of the interval';
COMMENT ON COLUMN comparisons.relative_gain IS 'Gain over the baseline''s mean';
COMMENT ON COLUMN comparisons.relative_low IS 'Its lower bound';
COMMENT ON COLUMN comparisons.relative_high IS 'Its upper bound';
COMMENT ON COLUMN comparisons.num_points IS 'Points both policies have a score for';
COMMENT ON COLUMN comparisons.num_clusters IS 'Conversations they belong to';
COMMENT ON COLUMN comparisons.num_unscored IS 'Points left out because one side has no score';
COMMENT ON COLUMN comparisons.confidence IS 'Coverage of the intervals';
COMMENT ON COLUMN comparisons.num_bootstrap IS 'Resamplings behind them';
COMMENT ON COLUMN comparisons.compared_at IS 'When, UTC';

CREATE TABLE IF NOT EXISTS pool_openings (
  run_id VARCHAR NOT NULL, pool VARCHAR NOT NULL, num_points INTEGER NOT NULL, num_trained_before INTEGER NOT NULL,
  opened_at TIMESTAMP NOT NULL);
COMMENT ON TABLE pool_openings IS 'Each time a held-out pool was looked at: evidence wears out with every look';
COMMENT ON COLUMN pool_openings.run_id IS 'The run it was opened for';
COMMENT ON COLUMN pool_openings.pool IS 'The pool';
COMMENT ON COLUMN pool_openings.num_points IS 'Points evaluated';
COMMENT ON COLUMN pool_openings.num_trained_before IS 'Points left out because some run had trained on their state';
COMMENT ON COLUMN pool_openings.opened_at IS 'When, UTC';

CREATE TABLE IF NOT EXISTS promotions (
  decided_at TIMESTAMP NOT NULL, action VARCHAR NOT NULL, checkpoint_id VARCHAR, previous_checkpoint_id VARCHAR, reason VARCHAR NOT NULL);
COMMENT ON TABLE promotions IS 'Every change of the current policy, and every refusal';
COMMENT ON COLUMN promotions.decided_at IS 'When, UTC';
COMMENT ON COLUMN promotions.action IS 'promoted, refused or rolled_back';
COMMENT ON COLUMN promotions.checkpoint_id IS 'Current afterwards, or refused; NULL: the base again';
COMMENT ON COLUMN promotions.previous_checkpoint_id IS 'Current before';
COMMENT ON COLUMN promotions.reason IS 'The evidence, or what was missing';

CREATE OR REPLACE VIEW current_points AS
SELECT p.* FROM decision_points AS p JOIN episodes AS e ON e.episode_id = p.episode_id AND e.revision = p.revision;
COMMENT ON VIEW current_points IS 'Decision points of the newest pulled revision of each episode';

CREATE OR REPLACE VIEW run_status AS
SELECT r.run_id, r.created_at, r.control, r.max_steps, r.reward_name, r.base,
  (SELECT count(*) FROM updates AS u WHERE u.run_id = r.run_id) AS steps_done,
  (SELECT arg_max(e.event, e.happened_at) FROM run_events AS e WHERE e.run_id = r.run_id) AS last_event
FROM runs AS r;
COMMENT ON VIEW run_status IS 'Runs and how far each came';

CREATE OR REPLACE VIEW lineage AS
SELECT u.run_id, u.step, u.policy_version, u.checkpoint_id, g.group_id, g.drop_reason, o.rollout_id, o.rollout_index,
  w.reward_id, w.value AS reward, w.trained_value, c.name AS criterion, c.value AS criterion_score,
  c.reason AS criterion_reason, p.point_id, p.revision, p.step_index, p.episode_id, p.conversation_id, p.trace_id, p.span_id
FROM updates AS u
JOIN groups AS g ON g.run_id = u.run_id AND g.step = u.step
JOIN rollouts AS o ON o.group_id = g.group_id
JOIN rewards AS w ON w.rollout_id = o.rollout_id
LEFT JOIN criterion_scores AS c ON c.reward_id = w.reward_id
JOIN decision_points AS p ON p.point_id = g.point_id AND p.revision = g.revision;
COMMENT ON VIEW lineage IS 'Gradient step ← group ← rollout ← reward ← criterion ← decision point ← span: one row per criterion score';
