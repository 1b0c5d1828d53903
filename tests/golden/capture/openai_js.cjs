// Asks the script's two questions through the OpenAI SDK under an instrumentation of it, and writes its spans and log
// records as export requests. Run by openai_js_run.py: node openai_js.cjs TAG MODEL_SERVER FOLDER.

const { writeFileSync } = require("node:fs");
const { context, trace } = require("@opentelemetry/api");
const { logs } = require("@opentelemetry/api-logs");
const { AsyncLocalStorageContextManager } = require("@opentelemetry/context-async-hooks");
const { registerInstrumentations } = require("@opentelemetry/instrumentation");
const { OpenAIInstrumentation } = require("@opentelemetry/instrumentation-openai");
const { ProtobufLogsSerializer, ProtobufTraceSerializer } = require("@opentelemetry/otlp-transformer");
const { resourceFromAttributes } = require("@opentelemetry/resources");
const { InMemoryLogRecordExporter, LoggerProvider, SimpleLogRecordProcessor } = require("@opentelemetry/sdk-logs");
const { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } = require("@opentelemetry/sdk-trace-base");

const [tag, baseURL, folder] = process.argv.slice(2);
const stream = tag.endsWith("streamed");
const QUESTIONS = ["What is the weather in Paris and Atlantis?", "And tomorrow in Rome?"];
const WEATHER = { Paris: "sunny, 21 degrees", Rome: "rainy" };
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const description = "The weather in a city.";
const TOOL = { type: "function", function: { name: "get_weather", description, parameters } };

context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
const resource = resourceFromAttributes({ "service.name": tag });
const spans = new InMemorySpanExporter();
const tracerProvider = new BasicTracerProvider({ resource, spanProcessors: [new SimpleSpanProcessor(spans)] });
const records = new InMemoryLogRecordExporter();
const loggerProvider = new LoggerProvider({ resource, processors: [new SimpleLogRecordProcessor({ exporter: records })] });
logs.setGlobalLoggerProvider(loggerProvider);
const instrumentation = new OpenAIInstrumentation({ captureMessageContent: true });
registerInstrumentations({ instrumentations: [instrumentation], tracerProvider, loggerProvider });
const { OpenAI } = require("openai"); // after the instrumentation, which waits for it

async function ask(client, messages) {
  const request = { model: "gpt-4o-mini", messages, tools: [TOOL], temperature: 0.2 };
  if (!stream) {
    const { role, content, tool_calls } = (await client.chat.completions.create(request)).choices[0].message;
    return tool_calls ? { role, content, tool_calls } : { role, content };
  }
  let text = "";
  const calls = [];
  const options = { stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await client.chat.completions.create({ ...request, ...options })) {
    for (const { delta } of chunk.choices) {
      text += delta.content ?? "";
      for (const piece of delta.tool_calls ?? []) {
        calls[piece.index] ??= { id: piece.id, type: "function", function: { name: "", arguments: "" } };
        calls[piece.index].function.name += piece.function.name ?? "";
        calls[piece.index].function.arguments += piece.function.arguments ?? "";
      }
    }
  }
  return { role: "assistant", content: text || null, ...(calls.length ? { tool_calls: calls } : {}) };
}

async function run() {
  const client = new OpenAI({ apiKey: "none", baseURL, maxRetries: 0 });
  const messages = [{ role: "system", content: "You are a weather service." }];
  for (const question of QUESTIONS) {
    messages.push({ role: "user", content: question });
    for (;;) {
      const answer = await ask(client, messages);
      messages.push(answer);
      if (!answer.tool_calls) break;
      for (const call of answer.tool_calls) {
        const { city } = JSON.parse(call.function.arguments);
        const content = WEATHER[city] ?? `error: no such city: ${city}`;
        messages.push({ role: "tool", tool_call_id: call.id, content });
      }
    }
  }
}

async function main() {
  const span = tracerProvider.getTracer("app").startSpan("weather-app", {
    attributes: { "session.id": "sess-g", "user.id": "u-g" },
  });
  await context.with(trace.setSpan(context.active(), span), run);
  span.end();
  writeFileSync(`${folder}/${tag}.traces.pb`, ProtobufTraceSerializer.serializeRequest(spans.getFinishedSpans()));
  writeFileSync(`${folder}/${tag}.logs.pb`, ProtobufLogsSerializer.serializeRequest(records.getFinishedLogRecords()));
}

main();
