-- The public views: names, columns, their order and their types are stable. Applied again whenever a file is migrated.
-- All of them show the newest revisions only. Times are UTC timestamps.

CREATE OR REPLACE VIEW episodes AS
SELECT
  e.episode_id,
  e.revision,
  e.conversation_id,
  e.user_id,
  e.agent_name,
  e.service_name,
  e.model,
  e.dialect,
  CAST(e.started_at AS TIMESTAMP) AS started_at,
  CAST(e.ended_at AS TIMESTAMP) AS ended_at,
  e.status,
  e.end_reason,
  e.num_steps,
  e.num_tool_calls,
  e.input_tokens,
  e.output_tokens,
  e.quality_flags
FROM store.episodes AS e
WHERE NOT EXISTS (
  SELECT 1 FROM store.hidden_revisions AS h WHERE h.episode_id = e.episode_id AND h.revision = e.revision
);
COMMENT ON VIEW episodes IS 'One agent working on one request, newest revisions only.';
COMMENT ON COLUMN episodes.episode_id IS 'Derived from the first model call''s trace and span id.';
COMMENT ON COLUMN episodes.revision IS 'Counted from 1; one more each time late spans changed the content.';
COMMENT ON COLUMN episodes.conversation_id IS 'Session or thread the episode belongs to.';
COMMENT ON COLUMN episodes.user_id IS 'User, as the sender names them.';
COMMENT ON COLUMN episodes.agent_name IS 'Agent, as the sender names it.';
COMMENT ON COLUMN episodes.service_name IS 'Service the spans came from.';
COMMENT ON COLUMN episodes.model IS 'Model asked for in most steps.';
COMMENT ON COLUMN episodes.dialect IS 'Telemetry convention of most steps.';
COMMENT ON COLUMN episodes.started_at IS 'Start of the first model call, UTC.';
COMMENT ON COLUMN episodes.ended_at IS 'End of the last model call, UTC.';
COMMENT ON COLUMN episodes.status IS 'ok, error or incomplete.';
COMMENT ON COLUMN episodes.end_reason IS 'Why the receiver considered it finished: root_ended, end_marker, idle_timeout, imported, limit.';
COMMENT ON COLUMN episodes.num_steps IS 'Model calls.';
COMMENT ON COLUMN episodes.num_tool_calls IS 'Tool calls of all actions.';
COMMENT ON COLUMN episodes.input_tokens IS 'Sum over the steps that report it; NULL when none does.';
COMMENT ON COLUMN episodes.output_tokens IS 'Sum over the steps that report it; NULL when none does.';
COMMENT ON COLUMN episodes.quality_flags IS 'Why the episode as a whole is not fully trustworthy.';

-- Every column a filter may name is a grouping key, because DuckDB moves filters on grouping keys below the aggregation:
-- only the messages of the steps that survive are read and joined into JSON.
CREATE OR REPLACE VIEW decision_points AS
SELECT
  g.episode_id,
  g.step_index,
  g.conversation_id,
  g.agent_name,
  g.model,
  g.dialect,
  CAST(g.messages AS JSON) AS messages,
  CAST(t.chat AS JSON) AS tools,
  CAST(g.action AS JSON) AS action,
  g.finish_reason,
  g.trainable,
  g.quality_flags,
  g.trace_id,
  g.span_id,
  g.started_at
FROM (
  SELECT
    s.episode_id,
    s.step_index,
    s.conversation_id,
    s.agent_name,
    s.model,
    s.dialect,
    s.tools_id,
    s.finish_reason,
    s.trainable,
    s.quality_flags,
    s.trace_id,
    s.span_id,
    s.started_at,
    concat('[', array_to_string(list(m.chat ORDER BY s.position) FILTER (s.position <= s.num_messages), ','), ']')
      AS messages,
    any_value(m.chat) FILTER (s.position > s.num_messages) AS action
  FROM (
    SELECT
      p.episode_id,
      p.step_index,
      p.conversation_id,
      p.agent_name,
      coalesce(p.model, p.response_model) AS model,
      p.dialect,
      p.tools_id,
      p.finish_reason,
      p.trainable,
      p.quality_flags,
      p.trace_id,
      p.span_id,
      CAST(p.started_at AS TIMESTAMP) AS started_at,
      p.num_messages,
      unnest(list_append(l.message_ids[1 : p.num_messages], p.action_id)) AS message_id,
      generate_subscripts(list_append(l.message_ids[1 : p.num_messages], p.action_id), 1) AS position
    FROM store.steps AS p
    JOIN store.histories AS l ON l.history_id = p.history_id
    WHERE NOT EXISTS (
      SELECT 1 FROM store.hidden_revisions AS h WHERE h.episode_id = p.episode_id AND h.revision = p.revision
    )
  ) AS s
  LEFT JOIN store.messages AS m ON m.message_id = s.message_id
  GROUP BY
    s.episode_id, s.step_index, s.conversation_id, s.agent_name, s.model, s.dialect, s.tools_id, s.finish_reason,
    s.trainable, s.quality_flags, s.trace_id, s.span_id, s.started_at
) AS g
LEFT JOIN store.tool_sets AS t ON t.tools_id = g.tools_id;
COMMENT ON VIEW decision_points IS 'Every step of every episode; `trainable` says where a policy can be asked again.';
COMMENT ON COLUMN decision_points.episode_id IS 'Episode.';
COMMENT ON COLUMN decision_points.step_index IS '0-based position in the episode.';
COMMENT ON COLUMN decision_points.conversation_id IS 'Session or thread the episode belongs to.';
COMMENT ON COLUMN decision_points.agent_name IS 'Agent, as the sender names it.';
COMMENT ON COLUMN decision_points.model IS 'Model asked for, or else the one that answered.';
COMMENT ON COLUMN decision_points.dialect IS 'Telemetry convention of the span.';
COMMENT ON COLUMN decision_points.messages IS 'What the model was shown: a list in OpenAI chat form.';
COMMENT ON COLUMN decision_points.tools IS 'Tools it could call, in OpenAI chat form; NULL when the payload does not say.';
COMMENT ON COLUMN decision_points.action IS 'What it answered, in OpenAI chat form; NULL when it is not carried.';
COMMENT ON COLUMN decision_points.finish_reason IS 'stop, length, tool_calls, content_filter, or as carried.';
COMMENT ON COLUMN decision_points.trainable IS 'Whether the state is there, complete and unambiguous.';
COMMENT ON COLUMN decision_points.quality_flags IS 'Why the step is not fully trustworthy.';
COMMENT ON COLUMN decision_points.trace_id IS 'Trace of the span, 32 hex digits.';
COMMENT ON COLUMN decision_points.span_id IS 'Span that reported the call, 16 hex digits.';
COMMENT ON COLUMN decision_points.started_at IS 'Start of the call, UTC.';

CREATE OR REPLACE VIEW tool_calls AS
SELECT
  c.episode_id,
  c.step_index,
  c.call_index,
  c.call_id,
  c.name,
  CASE WHEN json_valid(c.arguments) THEN CAST(c.arguments AS JSON) ELSE to_json(c.arguments) END AS arguments,
  m.chat ->> '$.content' AS result,
  c.status
FROM store.tool_calls AS c
LEFT JOIN store.messages AS m ON m.message_id = c.result_id
WHERE NOT EXISTS (
  SELECT 1 FROM store.hidden_revisions AS h WHERE h.episode_id = c.episode_id AND h.revision = c.revision
);
COMMENT ON VIEW tool_calls IS 'The tool calls of every action, with what came of them.';
COMMENT ON COLUMN tool_calls.episode_id IS 'Episode.';
COMMENT ON COLUMN tool_calls.step_index IS 'Step whose action made the call.';
COMMENT ON COLUMN tool_calls.call_index IS '0-based position among the action''s calls.';
COMMENT ON COLUMN tool_calls.call_id IS 'Id the result refers to.';
COMMENT ON COLUMN tool_calls.name IS 'Tool.';
COMMENT ON COLUMN tool_calls.arguments IS 'Arguments; a JSON string with the raw text where the model wrote no JSON.';
COMMENT ON COLUMN tool_calls.result IS 'What the tool returned; NULL when it is not carried.';
COMMENT ON COLUMN tool_calls.status IS 'ok, error, unknown (a result that does not say) or missing (no result).';

-- A judgement of an answer or of a model call's span is of a step; of any other span, of the episode of the model calls
-- under it; of a trace, of its last top-level episode; of a conversation, of no single episode. What is not the policy's,
-- as a judge's own call beside what it judges, is judged only where nothing else is there.
CREATE OR REPLACE VIEW feedback AS
WITH RECURSIVE
  steps AS (
    SELECT s.episode_id, s.step_index, s.trace_id, s.span_id, s.merged_span_ids, s.response_id
    FROM store.steps AS s
    WHERE NOT EXISTS (
      SELECT 1 FROM store.hidden_revisions AS h WHERE h.episode_id = s.episode_id AND h.revision = s.revision
    )
  ),
  tops AS (
    SELECT
      e.episode_id, e.conversation_id, e.started_at,
      e.parent_episode_id IS NULL AND NOT list_contains(e.quality_flags, 'not_policy') AS is_top
    FROM store.episodes AS e
    WHERE NOT EXISTS (
      SELECT 1 FROM store.hidden_revisions AS h WHERE h.episode_id = e.episode_id AND h.revision = e.revision
    )
  ),
  subtrees AS (
    SELECT f.feedback_id, f.trace_id, f.span_id FROM store.feedback AS f WHERE f.span_id IS NOT NULL
    UNION
    SELECT u.feedback_id, p.trace_id, p.span_id
    FROM subtrees AS u JOIN store.spans AS p ON p.trace_id = u.trace_id AND p.parent_span_id = u.span_id
  ),
  candidates AS (
    SELECT f.feedback_id, 1 AS distance, s.episode_id, s.step_index
    FROM store.feedback AS f JOIN steps AS s ON s.response_id = f.response_id
    UNION ALL
    SELECT f.feedback_id, 2, s.episode_id, s.step_index
    FROM store.feedback AS f JOIN steps AS s ON s.trace_id = f.trace_id
    WHERE s.span_id = f.span_id OR list_contains(s.merged_span_ids, f.span_id)
    UNION ALL
    SELECT u.feedback_id, 3, s.episode_id, NULL
    FROM subtrees AS u JOIN steps AS s ON s.trace_id = u.trace_id AND s.span_id = u.span_id
    UNION ALL
    SELECT f.feedback_id, 4, s.episode_id, NULL
    FROM store.feedback AS f JOIN steps AS s ON s.trace_id = f.trace_id
  ),
  targets AS (
    SELECT c.feedback_id, c.episode_id, c.step_index, t.conversation_id
    FROM candidates AS c JOIN tops AS t ON t.episode_id = c.episode_id
    QUALIFY row_number() OVER (
      PARTITION BY c.feedback_id
      ORDER BY c.distance, t.is_top DESC, t.started_at DESC NULLS LAST, c.episode_id, c.step_index
    ) = 1
  )
SELECT
  f.feedback_id,
  t.episode_id,
  t.step_index,
  coalesce(f.conversation_id, t.conversation_id) AS conversation_id,
  f.name,
  f.score,
  f.label,
  f.comment,
  f.source,
  CAST(f.received_at AS TIMESTAMP) AS received_at
FROM store.feedback AS f
LEFT JOIN targets AS t ON t.feedback_id = f.feedback_id;
COMMENT ON VIEW feedback IS 'Judgements of steps, episodes and conversations, joined to what they judge when read.';
COMMENT ON COLUMN feedback.feedback_id IS 'Derived from the carrier, so a resend is the same row.';
COMMENT ON COLUMN feedback.episode_id IS 'Episode that is judged; NULL when a conversation is, or the target has not arrived.';
COMMENT ON COLUMN feedback.step_index IS 'Step that is judged; NULL when the whole episode is.';
COMMENT ON COLUMN feedback.conversation_id IS 'Conversation that is judged, or that of the episode.';
COMMENT ON COLUMN feedback.name IS 'What was judged, such as correctness.';
COMMENT ON COLUMN feedback.score IS 'Number, in the judge''s own scale.';
COMMENT ON COLUMN feedback.label IS 'Word, such as correct or thumbs_down.';
COMMENT ON COLUMN feedback.comment IS 'Explanation.';
COMMENT ON COLUMN feedback.source IS 'Who judged: human, llm, code, or as carried.';
COMMENT ON COLUMN feedback.received_at IS 'When the receiver got it, UTC.';

CREATE OR REPLACE VIEW transcript AS
SELECT
  s.episode_id,
  s.position,
  m.role,
  concat_ws(
    chr(10),
    '(thinks) ' || (m.chat ->> '$.reasoning_content'),
    CASE json_type(m.chat, '$.content')
      WHEN 'VARCHAR' THEN nullif(m.chat ->> '$.content', '')
      WHEN 'ARRAY' THEN array_to_string(
        list_transform(
          json_extract(m.chat, '$.content[*]'),
          lambda block: coalesce(block ->> '$.text', '[' || replace(block ->> '$.type', '_url', '') || ']')
        ),
        chr(10)
      )
    END,
    nullif(array_to_string(
      list_transform(
        json_extract(m.chat, '$.tool_calls[*].function'),
        lambda call: concat('calls ', call ->> '$.name', '(', call ->> '$.arguments', ')')
      ),
      chr(10)
    ), '')
  ) AS text
FROM (
  SELECT
    p.episode_id,
    unnest(p.shown_ids) AS message_id,
    p.shown_from + generate_subscripts(p.shown_ids, 1) - 1 AS position
  FROM store.steps AS p
  WHERE NOT EXISTS (
    SELECT 1 FROM store.hidden_revisions AS h WHERE h.episode_id = p.episode_id AND h.revision = p.revision
  )
) AS s
JOIN store.messages AS m ON m.message_id = s.message_id
ORDER BY s.episode_id, s.position;
COMMENT ON VIEW transcript IS 'An episode as a person reads it: every message once, in order.';
COMMENT ON COLUMN transcript.episode_id IS 'Episode.';
COMMENT ON COLUMN transcript.position IS '0-based place in the episode.';
COMMENT ON COLUMN transcript.role IS 'system, developer, user, assistant or tool.';
COMMENT ON COLUMN transcript.text IS 'Reasoning, text and tool calls; of a tool message, its result.';
