-- The DuckDB form of the contract: tables in the schema `store`, public views in `main`.
--
-- The public views are stable; scripts rely on their names, columns, order and types. The tables are the receiver's own.
-- A message is stored once, whatever the number of steps that saw it. A history is an ordered list of messages; the
-- state of a step is a prefix of one, so the steps of an append-only episode share a single list and the file grows with
-- the number of turns, not with its square. Revisions are never changed: a newer one is added and the older is listed in
-- `store.hidden_revisions`.
-- Times are UTC. Statements end with a semicolon at the end of a line.

CREATE SCHEMA IF NOT EXISTS store;

CREATE TABLE store.migrations (
  version INTEGER NOT NULL,
  name VARCHAR NOT NULL,
  applied_at TIMESTAMP_NS NOT NULL
);
COMMENT ON TABLE store.migrations IS 'The versions of this schema that were applied; the highest is the version of the file.';
COMMENT ON COLUMN store.migrations.version IS 'Schema version, counted from 1.';
COMMENT ON COLUMN store.migrations.name IS 'What the version brought.';
COMMENT ON COLUMN store.migrations.applied_at IS 'When it was applied to this file.';

CREATE TABLE store.progress (
  log_id VARCHAR,
  committed_position BIGINT NOT NULL,
  num_batches BIGINT NOT NULL,
  updated_at TIMESTAMP_NS NOT NULL
);
COMMENT ON TABLE store.progress IS 'One row: how far the ingest log has been turned into rows, changed in the transaction that writes them.';
COMMENT ON COLUMN store.progress.log_id IS 'Identity of the ingest log that positions refer to.';
COMMENT ON COLUMN store.progress.committed_position IS 'Byte offset in the ingest log below which everything is in this file.';
COMMENT ON COLUMN store.progress.num_batches IS 'Batches written since the file was made.';
COMMENT ON COLUMN store.progress.updated_at IS 'When the last batch was written.';

CREATE TABLE store.messages (
  message_id BIGINT NOT NULL,
  message_hash UUID NOT NULL,
  role VARCHAR NOT NULL,
  chat VARCHAR NOT NULL,
  tool_status VARCHAR,
  record BLOB
);
COMMENT ON TABLE store.messages IS 'Every distinct message, once.';
COMMENT ON COLUMN store.messages.message_id IS 'Number in this file, in order of arrival; neighbours in an episode are neighbours here.';
COMMENT ON COLUMN store.messages.message_hash IS 'Exact content hash; equal messages are one row.';
COMMENT ON COLUMN store.messages.role IS 'system, developer, user, assistant or tool.';
COMMENT ON COLUMN store.messages.chat IS 'The message in OpenAI chat form, as JSON text.';
COMMENT ON COLUMN store.messages.tool_status IS 'Of a tool message: ok, error or unknown; the chat form has no place for it.';
COMMENT ON COLUMN store.messages.record IS 'The protobuf form, where the chat form does not tell everything (several text parts, signatures); else NULL.';

CREATE TABLE store.histories (
  history_id BIGINT NOT NULL,
  message_ids BIGINT[] NOT NULL
);
COMMENT ON TABLE store.histories IS 'Ordered lists of messages; a step''s state is the beginning of one.';
COMMENT ON COLUMN store.histories.history_id IS 'Number in this file.';
COMMENT ON COLUMN store.histories.message_ids IS 'Messages in order, system prompt first.';

CREATE TABLE store.tool_sets (
  tools_id BIGINT NOT NULL,
  tools_hash UUID NOT NULL,
  chat VARCHAR NOT NULL,
  record BLOB
);
COMMENT ON TABLE store.tool_sets IS 'Every distinct list of tool definitions, once.';
COMMENT ON COLUMN store.tool_sets.tools_id IS 'Number in this file.';
COMMENT ON COLUMN store.tool_sets.tools_hash IS 'Exact content hash; equal lists are one row.';
COMMENT ON COLUMN store.tool_sets.chat IS 'The definitions in OpenAI chat form, as a JSON list.';
COMMENT ON COLUMN store.tool_sets.record IS 'The protobuf form, where the chat form does not keep every byte; else NULL.';

CREATE TABLE store.blobs (
  sha256 VARCHAR NOT NULL,
  mime_type VARCHAR,
  num_bytes BIGINT NOT NULL,
  data BLOB NOT NULL
);
COMMENT ON TABLE store.blobs IS 'Bytes of images, sounds and files, once each.';
COMMENT ON COLUMN store.blobs.sha256 IS 'Hex digest of the bytes; media parts refer to it.';
COMMENT ON COLUMN store.blobs.mime_type IS 'Media type as carried with the first occurrence.';
COMMENT ON COLUMN store.blobs.num_bytes IS 'Length of the data.';
COMMENT ON COLUMN store.blobs.data IS 'The bytes.';

CREATE TABLE store.episodes (
  episode_number BIGINT NOT NULL,
  episode_id VARCHAR NOT NULL,
  revision INTEGER NOT NULL,
  conversation_id VARCHAR,
  user_id VARCHAR,
  agent_name VARCHAR,
  service_name VARCHAR,
  model VARCHAR,
  dialect VARCHAR NOT NULL,
  started_at TIMESTAMP_NS,
  ended_at TIMESTAMP_NS,
  status VARCHAR NOT NULL,
  end_reason VARCHAR NOT NULL,
  parent_episode_id VARCHAR,
  parent_call_id VARCHAR,
  quality_flags VARCHAR[] NOT NULL,
  num_steps INTEGER NOT NULL,
  num_tool_calls INTEGER NOT NULL,
  input_tokens BIGINT,
  output_tokens BIGINT,
  content_hash UUID NOT NULL,
  written_at TIMESTAMP_NS NOT NULL
);
COMMENT ON TABLE store.episodes IS 'Every revision of every episode; the view `episodes` shows the newest of each.';
COMMENT ON COLUMN store.episodes.episode_number IS 'Number of this revision in this file, in the order of writing: a cursor for readers.';
COMMENT ON COLUMN store.episodes.episode_id IS 'Derived from the first model call''s trace and span id.';
COMMENT ON COLUMN store.episodes.revision IS 'Counted from 1; one more each time the derived content changes.';
COMMENT ON COLUMN store.episodes.conversation_id IS 'Session or thread the episode belongs to.';
COMMENT ON COLUMN store.episodes.user_id IS 'User, as the sender names them.';
COMMENT ON COLUMN store.episodes.agent_name IS 'Agent, as the sender names it.';
COMMENT ON COLUMN store.episodes.service_name IS 'Service the spans came from.';
COMMENT ON COLUMN store.episodes.model IS 'Model asked for in most steps.';
COMMENT ON COLUMN store.episodes.dialect IS 'Telemetry convention of most steps.';
COMMENT ON COLUMN store.episodes.started_at IS 'Start of the first model call, UTC.';
COMMENT ON COLUMN store.episodes.ended_at IS 'End of the last model call, UTC.';
COMMENT ON COLUMN store.episodes.status IS 'ok, error or incomplete.';
COMMENT ON COLUMN store.episodes.end_reason IS 'Why the receiver considered it finished: root_ended, end_marker, idle_timeout, imported, limit.';
COMMENT ON COLUMN store.episodes.parent_episode_id IS 'Episode whose tool call started this sub-agent.';
COMMENT ON COLUMN store.episodes.parent_call_id IS 'That tool call.';
COMMENT ON COLUMN store.episodes.quality_flags IS 'Why the episode as a whole is not fully trustworthy, sorted.';
COMMENT ON COLUMN store.episodes.num_steps IS 'Model calls.';
COMMENT ON COLUMN store.episodes.num_tool_calls IS 'Tool calls of all actions.';
COMMENT ON COLUMN store.episodes.input_tokens IS 'Sum over the steps that report it; NULL when none does.';
COMMENT ON COLUMN store.episodes.output_tokens IS 'Sum over the steps that report it; NULL when none does.';
COMMENT ON COLUMN store.episodes.content_hash IS 'Hash of all content but end_reason; equal content writes no new revision.';
COMMENT ON COLUMN store.episodes.written_at IS 'When this revision was written.';

CREATE TABLE store.hidden_revisions (
  episode_id VARCHAR NOT NULL,
  revision INTEGER NOT NULL,
  reason VARCHAR NOT NULL,
  hidden_at TIMESTAMP_NS NOT NULL
);
COMMENT ON TABLE store.hidden_revisions IS 'Revisions the views leave out: replaced by a newer one, or no longer derived.';
COMMENT ON COLUMN store.hidden_revisions.episode_id IS 'Episode.';
COMMENT ON COLUMN store.hidden_revisions.revision IS 'Its revision.';
COMMENT ON COLUMN store.hidden_revisions.reason IS 'superseded: a newer revision exists; retired: the traces no longer give this episode.';
COMMENT ON COLUMN store.hidden_revisions.hidden_at IS 'When.';

CREATE TABLE store.steps (
  episode_id VARCHAR NOT NULL,
  revision INTEGER NOT NULL,
  step_index INTEGER NOT NULL,
  conversation_id VARCHAR,
  agent_name VARCHAR,
  history_id BIGINT NOT NULL,
  num_messages INTEGER NOT NULL,
  tools_id BIGINT,
  action_id BIGINT,
  observation_ids BIGINT[] NOT NULL,
  shown_from INTEGER NOT NULL,
  shown_ids BIGINT[] NOT NULL,
  finish_reason VARCHAR,
  model VARCHAR,
  response_model VARCHAR,
  response_id VARCHAR,
  input_tokens BIGINT,
  output_tokens BIGINT,
  cache_read_tokens BIGINT,
  cache_write_tokens BIGINT,
  reasoning_tokens BIGINT,
  dialect VARCHAR NOT NULL,
  trace_id VARCHAR NOT NULL,
  span_id VARCHAR NOT NULL,
  merged_span_ids VARCHAR[] NOT NULL,
  started_at TIMESTAMP_NS,
  ended_at TIMESTAMP_NS,
  error VARCHAR,
  quality_flags VARCHAR[] NOT NULL,
  trainable BOOLEAN NOT NULL
);
COMMENT ON TABLE store.steps IS 'Every step of every revision; the view `decision_points` shows those of the newest.';
COMMENT ON COLUMN store.steps.episode_id IS 'Episode.';
COMMENT ON COLUMN store.steps.revision IS 'Its revision.';
COMMENT ON COLUMN store.steps.step_index IS '0-based position in the episode.';
COMMENT ON COLUMN store.steps.conversation_id IS 'Of the episode; repeated here so that filters reach the rows.';
COMMENT ON COLUMN store.steps.agent_name IS 'Of the episode; repeated here so that filters reach the rows.';
COMMENT ON COLUMN store.steps.history_id IS 'List whose beginning is the state.';
COMMENT ON COLUMN store.steps.num_messages IS 'Messages of that list the model was shown.';
COMMENT ON COLUMN store.steps.tools_id IS 'Tools the model could call; NULL when the payload does not say.';
COMMENT ON COLUMN store.steps.action_id IS 'The assistant message; NULL when it is not carried.';
COMMENT ON COLUMN store.steps.observation_ids IS 'Tool messages that answer the action''s calls, in the order of the calls.';
COMMENT ON COLUMN store.steps.shown_from IS 'Position in the transcript of the first message below.';
COMMENT ON COLUMN store.steps.shown_ids IS 'Messages that appear in the episode for the first time here: new in the state, the action, the observations.';
COMMENT ON COLUMN store.steps.finish_reason IS 'stop, length, tool_calls, content_filter, or as carried.';
COMMENT ON COLUMN store.steps.model IS 'Model asked for.';
COMMENT ON COLUMN store.steps.response_model IS 'Model that answered.';
COMMENT ON COLUMN store.steps.response_id IS 'The provider''s id of the answer.';
COMMENT ON COLUMN store.steps.input_tokens IS 'Tokens of the prompt, cached ones included.';
COMMENT ON COLUMN store.steps.output_tokens IS 'Tokens of the answer, reasoning included.';
COMMENT ON COLUMN store.steps.cache_read_tokens IS 'Prompt tokens read from a cache.';
COMMENT ON COLUMN store.steps.cache_write_tokens IS 'Prompt tokens written to a cache.';
COMMENT ON COLUMN store.steps.reasoning_tokens IS 'Answer tokens spent on reasoning.';
COMMENT ON COLUMN store.steps.dialect IS 'Telemetry convention of the span.';
COMMENT ON COLUMN store.steps.trace_id IS 'Trace of the span, 32 hex digits.';
COMMENT ON COLUMN store.steps.span_id IS 'Span that reported the call, 16 hex digits.';
COMMENT ON COLUMN store.steps.merged_span_ids IS 'Other spans that reported the same call.';
COMMENT ON COLUMN store.steps.started_at IS 'Start of the call, UTC.';
COMMENT ON COLUMN store.steps.ended_at IS 'End of the call, UTC.';
COMMENT ON COLUMN store.steps.error IS 'What failed, in the sender''s words.';
COMMENT ON COLUMN store.steps.quality_flags IS 'Why the step is not fully trustworthy, sorted.';
COMMENT ON COLUMN store.steps.trainable IS 'Whether a policy may be asked again here: the state is there, complete and unambiguous.';

CREATE TABLE store.tool_calls (
  episode_id VARCHAR NOT NULL,
  revision INTEGER NOT NULL,
  step_index INTEGER NOT NULL,
  call_index INTEGER NOT NULL,
  call_id VARCHAR NOT NULL,
  name VARCHAR NOT NULL,
  arguments VARCHAR NOT NULL,
  result_id BIGINT,
  status VARCHAR NOT NULL
);
COMMENT ON TABLE store.tool_calls IS 'The tool calls of every action, with what came of them.';
COMMENT ON COLUMN store.tool_calls.episode_id IS 'Episode.';
COMMENT ON COLUMN store.tool_calls.revision IS 'Its revision.';
COMMENT ON COLUMN store.tool_calls.step_index IS 'Step whose action made the call.';
COMMENT ON COLUMN store.tool_calls.call_index IS '0-based position among the action''s calls.';
COMMENT ON COLUMN store.tool_calls.call_id IS 'Id the result refers to.';
COMMENT ON COLUMN store.tool_calls.name IS 'Tool.';
COMMENT ON COLUMN store.tool_calls.arguments IS 'Arguments as the model wrote them; models err, so this may be no JSON.';
COMMENT ON COLUMN store.tool_calls.result_id IS 'Tool message that answers the call; NULL when none was carried.';
COMMENT ON COLUMN store.tool_calls.status IS 'ok, error, unknown (a result that does not say) or missing (no result).';

CREATE TABLE store.feedback (
  feedback_id VARCHAR NOT NULL,
  name VARCHAR NOT NULL,
  score DOUBLE,
  label VARCHAR,
  comment VARCHAR,
  source VARCHAR,
  trace_id VARCHAR,
  span_id VARCHAR,
  response_id VARCHAR,
  conversation_id VARCHAR,
  received_at TIMESTAMP_NS
);
COMMENT ON TABLE store.feedback IS 'Judgements as they came; the view `feedback` finds what they judge.';
COMMENT ON COLUMN store.feedback.feedback_id IS 'Derived from the carrier, so a resend is the same row.';
COMMENT ON COLUMN store.feedback.name IS 'What was judged, such as correctness.';
COMMENT ON COLUMN store.feedback.score IS 'Number, in the judge''s own scale.';
COMMENT ON COLUMN store.feedback.label IS 'Word, such as correct or thumbs_down.';
COMMENT ON COLUMN store.feedback.comment IS 'Explanation.';
COMMENT ON COLUMN store.feedback.source IS 'Who judged: human, llm, code, or as carried.';
COMMENT ON COLUMN store.feedback.trace_id IS 'Trace that is judged.';
COMMENT ON COLUMN store.feedback.span_id IS 'Span of that trace that is judged.';
COMMENT ON COLUMN store.feedback.response_id IS 'Answer that is judged.';
COMMENT ON COLUMN store.feedback.conversation_id IS 'Conversation that is judged.';
COMMENT ON COLUMN store.feedback.received_at IS 'When the receiver got it, UTC.';

CREATE TABLE store.spans (
  trace_id VARCHAR NOT NULL,
  span_id VARCHAR NOT NULL,
  parent_span_id VARCHAR,
  name VARCHAR NOT NULL,
  kind VARCHAR NOT NULL,
  dialect VARCHAR,
  service_name VARCHAR,
  scope VARCHAR,
  started_at TIMESTAMP_NS,
  ended_at TIMESTAMP_NS,
  error VARCHAR,
  received_at TIMESTAMP_NS,
  log_position BIGINT NOT NULL
);
COMMENT ON TABLE store.spans IS 'One light row per span, first received wins; the span itself is in the ingest log.';
COMMENT ON COLUMN store.spans.trace_id IS '32 hex digits.';
COMMENT ON COLUMN store.spans.span_id IS '16 hex digits.';
COMMENT ON COLUMN store.spans.parent_span_id IS 'Parent span; NULL for a root.';
COMMENT ON COLUMN store.spans.name IS 'Span name.';
COMMENT ON COLUMN store.spans.kind IS 'What it was read as: model_call, tool, agent, feedback or other.';
COMMENT ON COLUMN store.spans.dialect IS 'Telemetry convention; NULL for a span of no known one.';
COMMENT ON COLUMN store.spans.service_name IS 'Service it came from.';
COMMENT ON COLUMN store.spans.scope IS 'Instrumentation scope and version.';
COMMENT ON COLUMN store.spans.started_at IS 'Start, UTC.';
COMMENT ON COLUMN store.spans.ended_at IS 'End, UTC.';
COMMENT ON COLUMN store.spans.error IS 'What failed, in the sender''s words.';
COMMENT ON COLUMN store.spans.received_at IS 'When the receiver got it, UTC.';
COMMENT ON COLUMN store.spans.log_position IS 'Ingest log entry that holds it.';

CREATE TABLE store.log_sources (
  trace_id VARCHAR NOT NULL,
  log_position BIGINT NOT NULL
);
COMMENT ON TABLE store.log_sources IS 'Ingest log entries with log records of a trace, to derive it again.';
COMMENT ON COLUMN store.log_sources.trace_id IS 'Trace the records belong to; of records that name only the answer they tell of, answer- and a hash of it.';
COMMENT ON COLUMN store.log_sources.log_position IS 'Entry that holds at least one of them.';

CREATE TABLE store.call_links (
  trace_id VARCHAR NOT NULL,
  span_id VARCHAR NOT NULL,
  service_name VARCHAR,
  before_hash VARCHAR,
  after_hash VARCHAR,
  conversation_id VARCHAR,
  started_at TIMESTAMP_NS
);
COMMENT ON TABLE store.call_links IS 'How model calls continue each other across traces, as far as their messages tell.';
COMMENT ON COLUMN store.call_links.trace_id IS 'Trace of the call; of log records that name only their answer, as in log_sources.';
COMMENT ON COLUMN store.call_links.span_id IS 'Span of the call; empty for such records.';
COMMENT ON COLUMN store.call_links.service_name IS 'Service it came from; calls of different services are never linked.';
COMMENT ON COLUMN store.call_links.before_hash IS 'Hash of the history the call continues.';
COMMENT ON COLUMN store.call_links.after_hash IS 'Hash of the history after its answer.';
COMMENT ON COLUMN store.call_links.conversation_id IS 'Conversation, where carried.';
COMMENT ON COLUMN store.call_links.started_at IS 'Start of the call, UTC.';

CREATE TABLE store.problems (
  log_position BIGINT,
  trace_id VARCHAR,
  reason VARCHAR NOT NULL,
  num_records BIGINT NOT NULL,
  received_at TIMESTAMP_NS
);
COMMENT ON TABLE store.problems IS 'What could not be turned into rows, and why.';
COMMENT ON COLUMN store.problems.log_position IS 'Ingest log entry that holds it, if it is in the log.';
COMMENT ON COLUMN store.problems.trace_id IS 'Trace it belongs to, if known.';
COMMENT ON COLUMN store.problems.reason IS 'Why, without content.';
COMMENT ON COLUMN store.problems.num_records IS 'Spans or log records concerned.';
COMMENT ON COLUMN store.problems.received_at IS 'When the receiver got it, UTC.';
